"""Where a tag's data goes: the policy, its codec, and the stream with the time at which its next row is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wendelin_stream.config import Policy
from wendelin_stream.plugin import Codec
from wendelin_stream.store import StreamWriter


@dataclass(slots=True, weakref_slot=True, eq=False)
class Flow:
    """A stream that is written; `due` is where its next row is expected (ns UTC, periodic streams)."""

    name: str
    writer: StreamWriter | None = None
    due: int | None = None
    _setbacks: int = 0

    def setback(self) -> Callable[[], None]:
        """What to call if the rows that are appended next do not become durable.

        What was appended behind rows that fail has failed too. So the first of them sets `due` back, the others do not.
        """
        before, setbacks = self.due, self._setbacks

        def undo() -> None:
            if self._setbacks == setbacks:
                self._setbacks += 1
                self.due = before
            if self.writer is not None and self.writer.error is not None:
                self.writer = None  # it has stopped: the next unit opens it anew, which repairs what can be

        return undo


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tag's data goes. Tags of one stream share its flow."""

    policy: Policy
    codec: Codec | None
    flow: Flow


Find = Callable[[str], tuple[Target | None, str]]
"""The target of a tag; without one, the reason."""
