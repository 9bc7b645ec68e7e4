"""Trained estimators: `load_model` by digest, `save_model`. Files are skops, never pickle or joblib."""

from wendelin_stream.models.files import LoadedModel, load_model, save_model

__all__ = ["LoadedModel", "load_model", "save_model"]
