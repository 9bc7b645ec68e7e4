"""Data streams on disk."""
