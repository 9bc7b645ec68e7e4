"""A source that does what a test tells it, and writes down how it is answered: for tests of what stands behind a door.

    source = ScriptedSource(unit("peer", 1, "park.acc", blob(b"...")), OSError("the cable is cut"))

It is honest about the contract of `wendelin_stream.plugin.Source`: what it has not yielded yet of an origin that is
refused it forgets, as a server does with a connection that it closes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from wendelin_stream.plugin import Blob, Events, Options, Origin, Received
from wendelin_stream.runtime.events import pack_event

NOW = 1_700_000_000_000_000_000
"""ns UTC: when units of `unit` arrive."""


def unit(origin: Origin, seq: int, tag: str, body: Events | Blob, **more: Any) -> Received:
    """A unit that arrived at `NOW`; more: other fields of `Received`."""
    return Received(
        **{"origin": origin, "seq": seq, "tag": tag, "body": body, "t_arrival": NOW, "peer": str(origin)} | more
    )


def events(records: Iterable[tuple[int, Mapping[str, Any]]]) -> Events:
    """A msgpack event stream of (ns UTC, record) pairs."""
    pairs = list(records)
    times = [time for time, _ in pairs] or [NOW]
    data = b"".join(pack_event(time, dict(record)) for time, record in pairs)
    return Events(data, len(pairs), min(times), max(times))


@dataclass(frozen=True, slots=True)
class Answer:
    """Something of `origin` was committed up to `seq`, or refused from there on if there is a reason `why`."""

    origin: Origin
    seq: int
    why: Exception | None = None


class ScriptedSource:
    """Yields units in the order in which they are given; an exception among them is raised by `read`.

    answers: all commits and refusals so far, in order.  taken: units whose taker came back for more.
    opened, closed: how often it was.
    """

    Config: ClassVar[type[Options]] = Options

    def __init__(self, *script: Received | Exception) -> None:
        self._script: deque[Received | Exception] = deque(script)
        self._changed = asyncio.Condition()
        self.answers: list[Answer] = []
        self.taken = self.opened = self.closed = 0
        self._quiet = False

    # --- for the test

    async def send(self, *units: Received | Exception) -> None:
        """Have more units yielded."""
        self._script.extend(units)
        await self._tell()

    async def until(self, true: Callable[[ScriptedSource], bool]) -> None:
        """Wait until that holds of this source; looked at after every change."""
        async with self._changed:
            await self._changed.wait_for(lambda: true(self))

    async def answered(self, count: int) -> list[Answer]:
        """Wait for so many answers in all, and return them."""
        await self.until(lambda source: len(source.answers) >= count)
        return self.answers

    async def committed(self, origin: Origin, seq: int) -> None:
        """Wait until `origin` is committed up to `seq`."""
        await self.until(lambda source: source.commits(origin)[-1:] >= [seq])

    def commits(self, origin: Origin) -> list[int]:
        """All sequence numbers that were committed of `origin`."""
        return [answer.seq for answer in self.answers if answer.origin == origin and answer.why is None]

    def refusals(self, origin: Origin) -> list[tuple[int, str]]:
        """Where and why `origin` was refused."""
        return [(answer.seq, str(answer.why)) for answer in self.answers if answer.origin == origin and answer.why]

    @property
    def left(self) -> int:
        """Units that are not yielded yet."""
        return len(self._script)

    # --- the contract

    async def open(self) -> None:
        """Nothing to bind."""
        self.opened += 1
        self._quiet = False

    async def read(self) -> AsyncIterator[Received]:
        """What the script says, until `quiesce` and its end, or `aclose`."""
        closed = self.closed
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._script) or self._quiet or self.closed > closed)
            if self.closed > closed or not self._script:
                return
            item = self._script.popleft()
            if isinstance(item, Exception):
                raise item
            yield item
            self.taken += 1
            await self._tell()

    async def commit(self, origin: Origin, seq: int) -> None:
        """Write it down. Raises AssertionError if it says less than the last one."""
        assert [seq] >= self.commits(origin)[-1:], f"{origin} was committed further than {seq}"
        self.answers.append(Answer(origin, seq))
        await self._tell()

    async def refuse(self, origin: Origin, seq: int, why: Exception) -> None:
        """Write it down, and forget what else there is of that origin."""
        self.answers.append(Answer(origin, seq, why))
        kept = [item for item in self._script if isinstance(item, Exception) or item.origin != origin]
        self._script = deque(kept)
        await self._tell()

    async def quiesce(self) -> None:
        """Let `read` end when all is yielded."""
        self._quiet = True
        await self._tell()

    async def aclose(self) -> None:
        """End `read`."""
        self.closed += 1
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
