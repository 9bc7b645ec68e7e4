"""Which acknowledgements may go out: in the order of arrival within an origin, whatever finishes first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from wendelin_stream.plugin import Origin


@dataclass(slots=True, eq=False)
class Delivery:
    """One received unit on its way to the disk; `waits` counts what must still happen before it is settled."""

    window: AckWindow
    seq: int
    size: int
    waits: int = 1
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        """Durable, or known not to be stored."""
        return self.waits == 0

    def fail(self, why: Exception) -> None:
        """It is not stored: nothing behind it in its window may be, or the origin's order would be lost."""
        self.error = self.error or why
        self.window.broken = True


@dataclass(slots=True, eq=False)
class AckWindow:
    """The units of one origin that are not answered yet, oldest first.

    broken: one of them failed. That is final: when it is refused, the origin's next unit gets a new window.
    """

    origin: Origin
    broken: bool = False
    _open: deque[Delivery] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, seq: int, size: int) -> Delivery:
        """A unit came in; `seq` does not fall from call to call."""
        delivery = Delivery(self, seq, size)
        self._open.append(delivery)
        return delivery

    def release(self) -> tuple[int | None, tuple[int, Exception] | None]:
        """What can be answered now: ``(seq to commit up to, (seq to refuse from, why))``, either may be None.

        A refusal takes the whole rest of the window with it, and comes only when all of that is settled: the
        sender then starts again from the last commit, with nothing of it still on its way to the disk.
        """
        committed = None
        while self._open and self._open[0].settled and self._open[0].error is None:
            committed = self._open.popleft().seq
        if self._open and self._open[0].error is not None and all(delivery.settled for delivery in self._open):
            first = self._open[0]
            assert first.error is not None
            self._open.clear()
            return committed, (first.seq, first.error)
        return committed, None
