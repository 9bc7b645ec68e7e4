"""Fluentd's forward protocol, server side: see `source.ForwardSource`."""

from wendelin_stream.sources.forward.source import ForwardConfig, ForwardSource

__all__ = ["ForwardConfig", "ForwardSource"]
