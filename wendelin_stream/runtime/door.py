"""One source being served: what it yields is routed, decoded, appended, and answered when it is durable.

    source -> route by tag -> codec -> append -> durable -> commit(origin, seq)

Nothing here waits for one unit's disk before it takes the next; memory is bounded by the byte budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from wendelin_stream.batch import NS, Batch, Signal, ticks
from wendelin_stream.config import Policy
from wendelin_stream.errors import ConfigError, Retry, WendelinStreamError
from wendelin_stream.plugin import Blob, Codec, Events, Origin, Received, Rejected, Source
from wendelin_stream.runtime.acks import AckWindow, Delivery
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.deadletter import DeadLetter
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.routing import (
    Decoding,
    continuity,
    decode_blob,
    decode_events,
    expected_time,
    kind_without_codec,
    raw_part,
    rows_part,
)
from wendelin_stream.store import Chunk, Flag, Part, StreamWriter, Ticket

logger = logging.getLogger(__name__)

IN_THREAD = 1 << 19
"""Bodies from this size on are decoded in a thread: the loop never waits for more than a few ms."""


@dataclass(slots=True)
class Flow:
    """A stream that is written; `due` is where its next row is expected (ns UTC, periodic streams)."""

    name: str
    writer: StreamWriter | None = None
    due: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tag's data goes. Tags of one stream share its flow."""

    policy: Policy
    codec: Codec | None
    flow: Flow


@dataclass(slots=True)
class Rest:
    """The begun row at the end of the last piece of a growing file."""

    data: bytes
    offset: int


@dataclass(slots=True)
class Counters:
    """What a source brought since the start."""

    units: int = 0
    bytes: int = 0
    rejected: int = 0
    duplicates: int = 0
    refused: int = 0

    def took(self, size: int) -> None:
        """Count one unit."""
        self.units += 1
        self.bytes += size


Find = Callable[[str], tuple[Target | None, str]]
"""The target of a tag; without one, the reason."""


class Door:
    """One source being served: its windows, the rests of its files, its dead letter."""

    def __init__(self, name: str, source: Source, find: Find, log: Log, budget: Budget) -> None:
        self._source, self._find, self._log, self._budget = source, find, log, budget
        self._dead_letter = DeadLetter(name, log)
        self._windows: dict[Origin, AckWindow] = {}
        self._rests: dict[Origin, Rest] = {}
        self._touched: set[Origin] = set()
        self._news = asyncio.Event()
        self._under_way = 0
        self._idle, self._landed = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._landed.set()
        self.counters = Counters()

    async def take(self, received: Received) -> None:
        """Route, decode, append; returns before it is durable."""
        size = len(received.body.data) + sum(len(r.data) for r in received.rejected)
        window = self._windows.setdefault(received.origin, AckWindow(received.origin))
        delivery = window.add(received.seq, size)  # before any wait: a refusal meanwhile must take it along
        self._under_way += 1
        self._idle.clear()
        self._landed.clear()
        try:
            await self._budget.take(size)
        except BaseException:
            delivery.size = 0
            self._end(delivery, Retry("stopped"))
            raise
        if window.broken:
            self._end(delivery, Retry("an earlier unit of this sender was not stored"))
            return
        self.counters.took(size)
        try:
            await self._store(received, delivery)
        except WendelinStreamError as why:
            delivery.fail(why)
        except BaseException as fault:
            delivery.fail(Retry(f"the unit could not be stored: {fault!r}"))
            raise
        finally:
            self._end(delivery)

    async def _store(self, received: Received, delivery: Delivery) -> None:
        target, reason = self._find(received.tag)
        rejected = received.rejected
        if target is None:
            if len(received.body.data):
                rejected += (Rejected(received.body.data, reason),)
        elif target.codec is None:
            await self._append_raw(target, received, delivery)
        else:
            rejected += await self._append_rows(target, target.codec, received, delivery)
        if rejected:
            self.counters.rejected += len(rejected)
            await self._dead_letter.keep(received, rejected, partial(self._submit, delivery))

    # --- events and bytes, as they came

    async def _append_raw(self, target: Target, received: Received, delivery: Delivery) -> None:
        if not len(received.body.data):
            return
        flow = target.flow
        if flow.writer is None:
            flow.writer = await self._log.writer(flow.name, kind_without_codec(received))
        position = received.seq if received.producer else 0
        part = raw_part(received.body, received.t_arrival)
        self._submit(delivery, flow.writer, self._chunk(received, target, [part], position))

    # --- rows

    async def _append_rows(
        self, target: Target, codec: Codec, received: Received, delivery: Delivery
    ) -> tuple[Rejected, ...]:
        body = self._joined(received) if isinstance(received.body, Blob) else received.body
        decode: Callable[[], Decoding]
        if isinstance(body, Events):
            decode = partial(decode_events, codec, body, received.t_arrival)
        else:
            decode = partial(decode_blob, codec, body, received.t_arrival)
        decoding = await asyncio.to_thread(decode) if len(body.data) >= IN_THREAD else decode()
        position = 0
        if isinstance(body, Blob) and body.offset is not None:
            position = body.offset + decoding.used
            delivery.seq = position  # a begun row is not durable: do not tell the source that it is
            if decoding.used < len(body.data):
                self._rests[received.origin] = Rest(bytes(memoryview(body.data)[decoding.used :]), position)
        if not decoding.batches:
            return decoding.rejected
        try:
            writer = await self._row_writer(target.flow, decoding.batches[0].signal)
        except ConfigError as why:
            return (*decoding.rejected, Rejected(bytes(body.data), str(why)))
        repeat = target.policy.dedupe and bool(received.chunk_id) and writer.known(received.chunk_id)
        parts = [rows_part(batch, Flag(0) if repeat else self._continue(target, batch)) for batch in decoding.batches]
        self._submit(delivery, writer, self._chunk(received, target, parts, position), target.flow)
        return decoding.rejected

    def _joined(self, received: Received) -> Blob:
        """A piece of a file with the begun row of the piece before it."""
        body = received.body
        assert isinstance(body, Blob)
        rest = self._rests.pop(received.origin, None)
        if rest is None or body.offset != rest.offset + len(rest.data):
            return body
        return replace(body, data=rest.data + bytes(body.data), offset=rest.offset)

    async def _row_writer(self, flow: Flow, signal: Signal) -> StreamWriter:
        if flow.writer is None or (flow.writer.signal is not signal and flow.writer.signal != signal):
            writer = await self._log.writer(flow.name, "rows", signal)
            if flow.writer is None:
                flow.due = expected_time(writer.last(), signal)
            flow.writer = writer
        return flow.writer

    @staticmethod
    def _continue(target: Target, batch: Batch) -> Flag:
        """Flags of the next record of the stream, which then is due behind `batch`."""
        if batch.signal.rate is None:
            return Flag(0)
        flags = continuity(target.flow.due, batch.time(0), int(target.policy.max_jitter * NS))
        target.flow.due = batch.anchor + ticks(batch.index + len(batch), batch.signal.rate)
        return flags

    # --- to disk and back

    @staticmethod
    def _chunk(received: Received, target: Target, parts: list[Part], position: int) -> Chunk:
        chunk_id = received.chunk_id if target.policy.dedupe else b""
        return Chunk(parts, chunk_id, received.producer, position, received.t_arrival)

    def _submit(self, delivery: Delivery, writer: StreamWriter, chunk: Chunk, flow: Flow | None = None) -> None:
        delivery.waits += 1
        self._log.submit(writer, chunk, partial(self._durable, delivery, flow))

    def _durable(self, delivery: Delivery, flow: Flow | None, ticket: Ticket) -> None:
        self.counters.duplicates += ticket.duplicate
        if ticket.error is not None and flow is not None and flow.writer is not None:
            flow.due = expected_time(flow.writer.last(), flow.writer.signal)  # what was counted on did not come about
            if flow.writer.error is not None:
                flow.writer = None  # it has stopped: the next unit opens it anew, which repairs what can be
        self._end(delivery, ticket.error)

    def _end(self, delivery: Delivery, error: Exception | None = None) -> None:
        """One of the things that the delivery waits for is over."""
        if error is not None:
            delivery.fail(error)
        delivery.waits -= 1
        if delivery.settled:
            self._budget.give(delivery.size)
            self._touched.add(delivery.window.origin)
            self._news.set()
            self._under_way -= 1
            if self._under_way == 0:
                self._landed.set()

    async def answer(self) -> None:
        """Commit and refuse towards the source, in order within each origin, for as long as it is served."""
        while True:
            await self._news.wait()
            self._news.clear()
            touched, self._touched = self._touched, set()
            for origin in touched:
                await self._answer_origin(origin)
            if not self._windows:
                self._idle.set()

    async def _answer_origin(self, origin: Origin) -> None:
        window = self._windows.get(origin)
        if window is None:
            return
        committed, refused = window.release()
        if not window:
            del self._windows[origin]
        if committed is not None:
            await self._source.commit(origin, committed)
        if refused is not None:
            self.counters.refused += 1
            self._rests.pop(origin, None)
            await self._source.refuse(origin, *refused)

    async def read(self) -> None:
        """Take whatever comes."""
        async for received in self._source.read():
            await self.take(received)

    async def finish(self, limit: float) -> None:
        """No new data; wait until all that was taken is answered, `limit` seconds at most."""
        try:
            async with asyncio.timeout(limit):
                await self._source.quiesce()
                await self._idle.wait()
        except TimeoutError:
            logger.warning("stopped before %d senders had their answer; they will send again", len(self._windows))

    async def landed(self, limit: float) -> None:
        """Wait until nothing that was taken is on its way to the disk any more, `limit` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._landed.wait()
