"""wendelin_stream: from a sensor feed to durable data and online answers, on one set of files."""

from __future__ import annotations

__version__ = "0.1.0"
