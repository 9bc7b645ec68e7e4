"""Bytes to rows: one codec a file."""
