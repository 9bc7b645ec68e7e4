"""What a notebook uses: ``ws = connect("/srv/data"); ws["park.t01.gearbox.acc"].array``."""

from __future__ import annotations

from wendelin_stream.client.selection import Selection
from wendelin_stream.client.stream import Event, Stream
from wendelin_stream.client.workspace import Workspace, connect

__all__ = ["Event", "Selection", "Stream", "Workspace", "connect"]
