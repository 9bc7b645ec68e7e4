"""`tail`: files that grow, read from where the store ends."""

from wendelin_stream.sources.tail.source import TailSource

__all__ = ["TailSource"]
