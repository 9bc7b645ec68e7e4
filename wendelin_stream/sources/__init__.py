"""Doors in: one protocol a file or folder."""
