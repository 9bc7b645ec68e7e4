"""Stream to stream, exactly once (guarantee 2).

An instance reads one input stream, runs operators, and appends to one output stream. Each output record carries
the input row from which fresh operators must be fed again to go on behind it: the record is the checkpoint, so
there is nothing to keep in step and nothing to cut after a crash.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from wendelin_stream.batch import Batch, Gap, Item, Signal
from wendelin_stream.config import PipelineSpec, build_operators, chain
from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import Bounded, Operator, OperatorContext, Paced
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.routing import rows_part
from wendelin_stream.runtime.snapshots import Snapshots
from wendelin_stream.store import Chunk, Flag, Part, StreamReader, StreamWriter, Ticket

logger = logging.getLogger(__name__)

STEP_BYTES = 8 << 20
"""Input that one step takes at most: bounds memory, and the work that a crash repeats."""

UNDER_WAY = 4
"""Steps whose output is not durable yet: enough that computing and committing go on side by side."""

SNAPSHOT_EVERY = 1.0
"""Seconds between two steps where each needs a snapshot."""

POLL = 1.0
"""Seconds after which an input is looked at without being told, for writers in other processes."""


def definition(spec: PipelineSpec, source: str, signal: Signal) -> dict[str, Any]:
    """What makes an output what it is: pipeline, input, operators with all options, models by digest. Plain data."""
    steps = [{step.type: step.options.model_dump(mode="json")} for step in spec.do]
    return {"pipeline": spec.name, "input": source, "operators": steps, "signal": dict(signal.attrs)}


def producer_id(made_by: dict[str, Any]) -> int:
    """The producer number in output records: equal definitions have equal ones. 63 bits of blake2b."""
    text = json.dumps(made_by, sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def run_chain(operators: Sequence[Operator], items: Iterable[Item]) -> Iterator[Item]:
    """Drive items through all operators, in order."""
    for operator in operators:
        items = _through(operator, items)
    return iter(items)


def _through(operator: Operator, items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        yield from operator.on_gap(item) if isinstance(item, Gap) else operator.on_batch(item)


def bounded(operators: Sequence[Operator]) -> bool:
    """Whether all of them can be brought back by feeding them their latest input again."""
    return all(isinstance(operator, Bounded) for operator in operators)


def resume_row(operators: Sequence[Operator], consumed: int) -> int:
    """The input row from which fresh operators, fed again up to `consumed`, yield nothing and stand as these do."""
    pending = [operator.pending() if isinstance(operator, Bounded) else None for operator in operators]
    return min([row for row in pending if row is not None], default=consumed)


def to_parts(items: Iterable[Item], after_gap: bool) -> tuple[list[Part], bool]:
    """Records of the output, and whether a gap waits for the next row to stand before.

    Rows that continue the record before them exactly (same anchor, next index) share it.
    """
    parts: list[Part] = []
    last: Batch | None = None
    for item in items:
        if isinstance(item, Gap):
            after_gap, last = True, None
            continue
        part = rows_part(item, Flag.GAP if after_gap else Flag(0))
        if last is not None and _continues(last, item):
            parts[-1] = _merged(parts[-1], part)
        else:
            parts.append(part)
        after_gap, last = False, item
    return parts, after_gap


def _continues(last: Batch, item: Batch) -> bool:
    return item.signal.rate is not None and (item.anchor, item.index) == (last.anchor, last.index + len(last))


def _merged(first: Part, second: Part) -> Part:
    data = (*first.data, *second.data)
    return Part(data, first.count + second.count, first.t_first, second.t_last, first.row, first.flags)


@dataclass(slots=True)
class Progress:
    """What an instance has done, for `status` and the log."""

    rows_in: int = 0
    rows_out: int = 0
    lag_rows: int = 0
    busy_seconds: float = 0.0
    state: str = "starting"


@dataclass(slots=True)
class Pipeline:
    """One instance. `run` goes on from what the output holds; call it again after a failure."""

    spec: PipelineSpec
    source: str
    target: str
    log: Log
    context: OperatorContext
    executor: Executor
    stop: asyncio.Event
    progress: Progress = field(default_factory=Progress)

    async def run(self) -> None:
        """Read, compute, append, until `stop` is set and the input is used up.

        Raises ConfigError where the user must act, Retry or Corrupt from the output's disk.
        """
        reader = await self.log.reader(self.source)
        news = self.log.follow(self.source)
        try:
            await self._run(reader, news)
        finally:
            self.log.unfollow(self.source, news)
            reader.close()

    async def _run(self, reader: StreamReader, news: asyncio.Event) -> None:
        if reader.signal is None and self.spec.from_.literal is None:
            logger.info("pipeline %s passes over %s, which holds %s", self.spec.name, self.source, reader.kind)
            return
        if reader.signal is None:
            raise ConfigError(
                f"stream {self.source} holds {reader.kind}, and operators need typed rows",
                where=f"pipelines.{self.spec.name}.from",
                hint="give its policy a codec, or narrow the pattern",
            )
        operators = build_operators(self.spec, self.context)
        signal = chain(operators, reader.signal, self.spec)
        made_by = definition(self.spec, self.source, signal)
        producer = producer_id(made_by)
        writer = await self.log.writer(self.target, "rows", signal, {**made_by, "producer": producer})
        pacing = pacing_of(operators)
        step = Step(reader, operators, start_row(writer, reader), step_rows(reader.signal, pacing))
        if not bounded(operators):
            folder = self.log.path / "pipelines" / self.spec.name / self.target
            await asyncio.to_thread(step.use, Snapshots(folder), writer.last() is not None)
        loop = asyncio.get_running_loop()
        under_way: deque[asyncio.Future[Ticket]] = deque()
        self.progress.state = "running"
        try:
            while await self._input(reader, news, step, pacing):
                chunk = await loop.run_in_executor(self.executor, step.run, producer)
                self._count(reader, step)
                if chunk is None:
                    continue
                while under_way and (under_way[0].done() or len(under_way) == UNDER_WAY):
                    await under_way.popleft()  # nothing may be appended behind one that failed
                under_way.append(self.log.append(writer, chunk))
            while under_way:
                await under_way.popleft()
        finally:
            for ticket in under_way:
                if not ticket.cancel():
                    ticket.exception()  # it failed like the one before it; the rows come again
            self.progress.state = "stopped"

    async def _input(self, reader: StreamReader, news: asyncio.Event, step: Step, pacing: tuple[float, int]) -> bool:
        """Wait until there are rows to work on; False when it is time to go."""
        max_wait, max_rows = pacing
        waited = False
        while True:
            news.clear()
            reader.refresh()
            fresh = reader.rows - step.row
            if fresh > 0 and (waited or fresh >= max_rows or not max_wait or self.stop.is_set()):
                return True
            if fresh <= 0 and self.stop.is_set():
                return False
            if fresh > 0:
                waited = True  # rows are there: let more gather, once
                await self._pause(max_wait)
            else:
                await first_of(news, self.stop, POLL)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            pass

    def _count(self, reader: StreamReader, step: Step) -> None:
        self.progress.rows_in, self.progress.rows_out = step.rows_in, step.rows_out
        self.progress.lag_rows = reader.rows - step.row


async def first_of(news: asyncio.Event, stop: asyncio.Event, seconds: float) -> None:
    """Return when either event is set, or after `seconds`."""
    waits = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def start_row(writer: StreamWriter, reader: StreamReader) -> int:
    """Where to begin: at the checkpoint in the output's last record, or at the input's first kept row."""
    last = writer.last()
    assert reader.signal is not None
    first_kept = -(-reader.start // reader.signal.row_bytes)
    return first_kept if last is None else max(int(last["position"]), first_kept)


def pacing_of(operators: Sequence[Operator]) -> tuple[float, int]:
    """How long to let rows gather before a step (s), and how many make waiting useless."""
    paced = [operator for operator in operators if isinstance(operator, Paced)]
    if not bounded(operators):
        return SNAPSHOT_EVERY, 1 << 62
    if not paced:
        return 0.0, 1
    return max(float(operator.max_wait) for operator in paced), max(operator.max_rows for operator in paced)


def step_rows(signal: Signal, pacing: tuple[float, int]) -> int:
    """Rows that one step takes at most: bounded in bytes, and in calls of an operator that works by the batch."""
    by_bytes = max(1, STEP_BYTES // signal.row_bytes)
    max_wait, max_rows = pacing
    return min(by_bytes, 16 * max_rows) if max_wait else by_bytes


class Step:
    """The synchronous part: takes rows from the reader, returns what to append. Runs in a worker thread."""

    def __init__(self, reader: StreamReader, operators: Sequence[Operator], row: int, max_rows: int) -> None:
        self._reader = reader
        self._operators = operators
        self._max_rows = max_rows
        self._after_gap = False
        self._snapshots: Snapshots | None = None
        self.row = row
        self.rows_in = 0
        self.rows_out = 0

    def run(self, producer: int) -> Chunk | None:
        """One step over at most `max_rows` rows; None if nothing came out."""
        parts, self._after_gap = to_parts(run_chain(self._operators, self._take()), self._after_gap)
        if not parts:
            return None
        self.rows_out += sum(part.count for part in parts)
        if self._snapshots is None:
            return Chunk(parts, producer=producer, position=resume_row(self._operators, self.row))
        self._snapshots.save(self.row, self._operators, self._after_gap)
        return Chunk(parts, producer=producer, position=self.row)

    def use(self, snapshots: Snapshots, resume: bool) -> None:
        """Checkpoint with snapshots, beginning with the one of the row to resume from. Raises Corrupt if it is gone."""
        self._snapshots = snapshots
        if resume:
            self._after_gap = snapshots.restore(self.row, self._operators)

    def _take(self) -> Iterator[Item]:
        for item in self._reader.items(self.row, self._max_rows):
            yield item
            if isinstance(item, Batch):
                self.row = item.position + len(item)
                self.rows_in += len(item)
