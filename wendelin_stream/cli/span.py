"""Which part of a stream a command means: ``--from``, ``--to``, ``--last``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wendelin_stream.client import Stream

From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="WHEN", help="First time (ISO 8601, UTC) or number of the first row, event or byte."
    ),
]
To = Annotated[str | None, typer.Option("--to", metavar="WHEN", help="Time or number to stop before.")]
Last = Annotated[int | None, typer.Option("--last", "-n", min=0, metavar="N", help="Only the last N of them.")]

Run = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds by number (row, event, byte) and by time (ns UTC), both half-open; None: open."""

    start: int | None = None
    stop: int | None = None
    since: int | None = None
    until: int | None = None
    last: int | None = None

    @classmethod
    def of(cls, start: str | None, stop: str | None, last: int | None = None) -> Span:
        """From what the user wrote. Raises a usage error for what is neither a number nor a time."""
        first, since = _bound(start, "--from")
        end, until = _bound(stop, "--to")
        return cls(first, end, since, until, last)

    @property
    def timed(self) -> bool:
        """Whether a time bounds it."""
        return self.since is not None or self.until is not None

    def numbers(self, length: int) -> Run:
        """Numbers start to stop among `length`, without `last` and times; negative ones count from the end."""
        start, stop, _ = slice(self.start, self.stop).indices(length)
        return start, max(start, stop)

    def runs(self, stream: Stream) -> list[Run]:
        """Rows or bytes of a stream (events: see `cat`). Raises ConfigError for times on a stream of bytes."""
        from wendelin_stream.client.selection import rows_between

        first, end = self.numbers(len(stream.array))
        runs = [(first, end)]
        if self.timed:
            stream.rows_only("a time")
            runs = [(max(a, first), min(b, end)) for a, b in rows_between(stream.reader, self.since, self.until)]
        return tail([(a, b) for a, b in runs if a < b], self.last)


def tail(runs: Sequence[Run], last: int | None) -> list[Run]:
    """The last so many rows of the runs; all for None."""
    if last is None:
        return list(runs)
    kept: list[Run] = []
    for start, stop in reversed(runs):
        if last <= 0:
            break
        kept.append((max(start, stop - last), stop))
        last -= stop - start
    return kept[::-1]


def _bound(text: str | None, option: str) -> tuple[int | None, int | None]:
    """(number, time in ns): one of them, or none."""
    if text is None:
        return None, None
    if text.lstrip("+-").isdecimal():
        return int(text), None
    from wendelin_stream.units import parse_time

    try:
        return None, parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
