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
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wendelin_stream.batch import Signal
from wendelin_stream.config import PipelineSpec, build_operators, chain
from wendelin_stream.errors import ConfigError, Corrupt, Retry
from wendelin_stream.plugin import Operator, OperatorContext
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.snapshots import Snapshots
from wendelin_stream.runtime.step import Step, bounded, pacing_of, step_rows
from wendelin_stream.runtime.waits import pause, race
from wendelin_stream.store import Chunk, StreamReader, StreamWriter, Ticket

T = TypeVar("T")

logger = logging.getLogger(__name__)

UNDER_WAY = 4
"""Steps whose output is not durable yet: enough that computing and committing go on side by side."""

OUTPUT = 64 << 20
"""Bytes of rows that are read, and output that is not durable yet."""

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


@dataclass(slots=True)
class Progress:
    """What an instance has done, for `status` and the log."""

    rows_in: int = 0
    rows_out: int = 0
    lag_rows: int = 0


@dataclass(slots=True)
class Pipeline:
    """One instance. `run` goes on from what the output holds; call it again after a failure.

    budget: bytes of rows that are read and output that is not durable yet; shared by all instances of a daemon.
    """

    spec: PipelineSpec
    source: str
    target: str
    log: Log
    context: OperatorContext
    executor: Executor
    stop: asyncio.Event
    budget: Budget = field(default_factory=lambda: Budget(OUTPUT))
    progress: Progress = field(default_factory=Progress)
    _work: Future[Any] | None = None

    async def run(self) -> None:
        """Read, compute, append, until `stop` is set and the input is used up.

        Raises ConfigError where the user must act, Corrupt for a damaged stream, Retry from the output's disk.
        """
        reader = await self.log.reader(self.source)
        news = self.log.follow(self.source)
        try:
            await self._run(reader, news)
        finally:
            self.log.unfollow(self.source, news)
            if self._work is None:
                reader.close()
            else:  # a step that was abandoned may read on for a moment
                self._work.add_done_callback(lambda _: reader.close())

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
        operators, signal = await self._in_thread(self._operators, reader.signal)
        made_by = definition(self.spec, self.source, signal)
        producer = producer_id(made_by)
        writer = await self.log.writer(self.target, "rows", signal, {**made_by, "producer": producer})
        await self.log.settled()  # what an earlier run of ours has appended is decided: it is there, or it is not
        pacing = pacing_of(operators)
        step = Step(reader, operators, start_row(writer, reader), step_rows(reader.signal, pacing))
        if not bounded(operators):
            folder = self.log.path / "pipelines" / self.spec.name / self.target
            await self._in_thread(step.use, Snapshots(folder), writer.last() is not None)
        appends = Appends(self.log, writer, self.budget, news)
        try:
            while await self._input(reader, news, step, pacing, appends):
                size = min(reader.rows - step.row, step.max_rows) * reader.row_bytes
                await self.budget.take(size)
                try:
                    chunk = await self._in_thread(step.run, producer)
                    self._count(reader, step)
                    if chunk is not None:
                        await appends.add(chunk)
                finally:
                    self.budget.give(size)
            await appends.landed()
        except asyncio.CancelledError:
            step.abandon()
            raise
        finally:
            appends.forget()

    def _operators(self, signal: Signal) -> tuple[list[Operator], Signal]:
        """New operators and what they make of such an input. Loads models: for a thread."""
        operators = build_operators(self.spec, self.context)
        return operators, chain(operators, signal, self.spec)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call it in a worker thread, and remember it there: a thread cannot be cancelled."""
        work = self._work = self.executor.submit(function, *arguments)
        return await asyncio.wrap_future(work)

    async def _input(
        self, reader: StreamReader, news: asyncio.Event, step: Step, pacing: tuple[float, int], appends: Appends
    ) -> bool:
        """Wait until there are rows to work on; False when it is time to go. Raises Retry if an append has failed."""
        max_wait, max_rows = pacing
        waited = False
        while True:
            news.clear()
            appends.check()
            reader.refresh()
            fresh = reader.rows - step.row
            if fresh > 0 and (waited or fresh >= max_rows or not max_wait or self.stop.is_set()):
                return True
            if fresh <= 0 and self.stop.is_set():
                return False
            if fresh > 0:
                waited = True  # rows are there: let more gather, once
                await pause(self.stop, max_wait)
            else:
                await race(news.wait(), self.stop.wait(), seconds=POLL)

    def _count(self, reader: StreamReader, step: Step) -> None:
        self.progress.rows_in, self.progress.rows_out = step.rows_in, step.rows_out
        self.progress.lag_rows = reader.rows - step.row


class Appends:
    """What was appended to the output and is not durable yet, in order. `news` is set when one of it has failed."""

    def __init__(self, log: Log, writer: StreamWriter, budget: Budget, news: asyncio.Event) -> None:
        self._log, self._writer, self._budget, self._news = log, writer, budget, news
        self._under_way: deque[asyncio.Future[Ticket]] = deque()

    async def add(self, chunk: Chunk) -> None:
        """Append a chunk, if none before it has failed: there must be no hole. Raises Retry."""
        while len(self._under_way) == UNDER_WAY:
            await asyncio.wait({self._under_way[0]})
            self.check()
        self.check()
        size = sum(len(piece) for part in chunk.parts for piece in part.data)
        self._budget.add(size)
        append = self._log.append(self._writer, chunk)
        append.add_done_callback(lambda _: self._decided(append, size))
        self._under_way.append(append)

    def check(self) -> None:
        """Forget what is durable. Raises Retry if one has failed, also if one before it still waits for its sync."""
        try:
            for append in self._under_way:
                if append.done():
                    append.result()
        except Corrupt as stopped:  # opened anew the stream is repaired, or says what is wrong with it
            raise Retry(str(stopped)) from stopped
        while self._under_way and self._under_way[0].done():
            self._under_way.popleft()

    async def landed(self) -> None:
        """Wait until all is durable. Raises Retry."""
        while self._under_way:
            await asyncio.wait({self._under_way[0]})
            self.check()

    def forget(self) -> None:
        """Nobody waits for the rest: it becomes durable, or it fails and its rows come again."""
        for append in self._under_way:
            if not append.cancel():
                append.exception()

    def _decided(self, append: asyncio.Future[Ticket], size: int) -> None:
        self._budget.give(size)
        if not append.cancelled() and append.exception() is not None:
            self._news.set()


def start_row(writer: StreamWriter, reader: StreamReader) -> int:
    """Where to begin: at the checkpoint in the output's last record, or at the input's first kept row.

    Raises ConfigError if the checkpoint is behind the input's end: it is not the input that the output was made of.
    """
    last = writer.last()
    if last is None:
        return reader.first_row
    row = int(last["position"])
    if row > reader.rows:
        raise ConfigError(
            f"stream {writer.name} was made of {row} rows of {reader.name}, which has {reader.rows}",
            hint="the input is not the one it was: move the output out of the store, and it is made again",
        )
    return max(row, reader.first_row)
