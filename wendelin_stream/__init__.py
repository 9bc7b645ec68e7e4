"""wendelin_stream: from a sensor feed to durable data and online answers, on one set of files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wendelin_stream.client import connect

__all__ = ["__version__", "connect"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`connect` on first use: importing the package alone loads nothing of NumPy."""
    if name == "connect":
        return import_module("wendelin_stream.client").connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
