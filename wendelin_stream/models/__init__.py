"""Trained estimators: loading by digest, and later the registry and training."""
