"""One source being served: what it yields is routed, decoded, appended, and answered when it is durable.

    source -> route by tag -> codec -> append -> durable -> commit(origin, seq)

Nothing here waits for one unit's disk before it takes the next; memory is bounded by the byte budget.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from wendelin_stream.batch import NS, Signal
from wendelin_stream.errors import BadData, ConfigError, Retry, WendelinStreamError
from wendelin_stream.plugin import Blob, Codec, Events, Origin, Received, Rejected, Source
from wendelin_stream.runtime.acks import AckWindow, Delivery
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.deadletter import DeadLetter
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.routing import (
    Decoding,
    Records,
    decode_blob,
    decode_events,
    expected_time,
    kind_without_codec,
    raw_part,
    to_records,
)
from wendelin_stream.runtime.targets import Find, Flow, Target
from wendelin_stream.store import Chunk, Part, StreamWriter, Ticket

logger = logging.getLogger(__name__)

IN_THREAD = 1 << 19
"""Bodies of so many bytes are decoded in a thread: the loop never waits for more than a few ms."""

EVENTS_IN_THREAD = 200
"""So are bodies of so many events."""

TURN = 0.004
"""Seconds for which one source may keep the event loop."""

UNIT, PART, ASIDE = 1792, 1280, 256
"""Bytes that a unit, each record that it becomes, and each event set aside cost besides their data (measured)."""

LONGEST_REST = 4 << 20
"""Bytes at the end of a piece that a codec may leave for the next one."""

LATER = 10.0
"""Seconds after which a source may try again with a stream that is locked or has stopped."""


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


class Door:
    """One source being served: its windows, the rests of its files, its dead letter."""

    def __init__(self, name: str, source: Source, find: Find, log: Log, budget: Budget, *, counters: Counters) -> None:
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
        self.counters = counters

    async def take(self, received: Received) -> None:
        """Route, decode, append; returns before it is durable."""
        window = self._windows.setdefault(received.origin, AckWindow(received.origin))
        if window.broken:
            return  # the refusal that is to come takes it along
        size = len(received.body.data) + sum(len(r.data) for r in received.rejected)
        delivery = window.add(received.seq, UNIT + size)  # before any wait: a refusal meanwhile must take it along
        self._under_way += 1
        self._idle.clear()
        self._landed.clear()
        try:
            await self._budget.take(UNIT + size)
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
        if not len(received.body.data):
            pass
        elif target is None:
            rejected += (Rejected(received.body.data, reason),)
        elif target.codec is None:
            rejected += await self._append_raw(target, received, delivery)
        else:
            rejected += await self._append_rows(target, target.codec, received, delivery)
        if rejected:
            self.counters.rejected += len(rejected)
            self._charge(delivery, ASIDE * len(rejected))
            writer, chunk = await self._dead_letter.prepare(received, rejected)
            self._submit(delivery, writer, chunk)

    # --- events and bytes, as they came

    async def _append_raw(self, target: Target, received: Received, delivery: Delivery) -> tuple[Rejected, ...]:
        flow, kind = target.flow, kind_without_codec(received)
        if flow.writer is None or flow.writer.kind != kind:
            try:
                flow.writer = await self._log.writer(flow.name, kind)
            except ConfigError as why:
                return (Rejected(received.body.data, str(why)),)
        position = received.seq if received.producer else 0
        part = raw_part(received.body, received.t_arrival)
        chunk = self._chunk(received, target, [part], position)
        self._submit(delivery, flow.writer, chunk, flow.setback())
        return ()

    # --- rows

    async def _append_rows(
        self, target: Target, codec: Codec, received: Received, delivery: Delivery
    ) -> tuple[Rejected, ...]:
        body = self._joined(received) if isinstance(received.body, Blob) else received.body
        flow = target.flow
        jitter = int(target.policy.max_jitter * NS)
        work = partial(decoded, codec, body, received.t_arrival, self._signal(flow), jitter)
        decoding, records = await asyncio.to_thread(work) if heavy(body) else work()
        position = 0
        if isinstance(body, Blob) and body.offset is not None:
            position = body.offset + decoding.used
            delivery.seq = position  # a begun row is not durable: do not tell the source that it is
            self._keep_rest(received.origin, body, decoding.used)
        if records is None:
            return decoding.rejected
        try:
            writer = await self._row_writer(flow, records.signal)
        except ConfigError as why:
            return (Rejected(bytes(body.data), str(why)),)
        self._charge(delivery, PART * len(records.parts))
        chunk = self._chunk(received, target, records.behind(flow.due, jitter), position)
        if not self._submit(delivery, writer, chunk, flow.setback()).duplicate:
            flow.due = records.due
        return decoding.rejected

    def _joined(self, received: Received) -> Blob:
        """A piece of a file with the begun row of the piece before it."""
        body = received.body
        assert isinstance(body, Blob)
        rest = self._rests.pop(received.origin, None)
        if rest is None or body.offset != rest.offset + len(rest.data):
            return body
        return replace(body, data=rest.data + bytes(body.data), offset=rest.offset)

    def _keep_rest(self, origin: Origin, body: Blob, used: int) -> None:
        """Remember what the codec left of a piece. Raises BadData if it makes nothing of it for too long."""
        left = len(body.data) - used
        if left > LONGEST_REST:
            raise BadData(f"the codec makes nothing of {left} bytes from byte {(body.offset or 0) + used} on")
        if left:
            self._rests[origin] = Rest(bytes(memoryview(body.data)[used:]), (body.offset or 0) + used)

    def _signal(self, flow: Flow) -> Signal | None:
        """What the stream holds, None if it is not there or holds no rows."""
        writer = flow.writer or self._log.writers.get(flow.name)
        return None if writer is None else writer.signal

    async def _row_writer(self, flow: Flow, signal: Signal) -> StreamWriter:
        if flow.writer is None or (flow.writer.signal is not signal and flow.writer.signal != signal):
            writer = await self._log.writer(flow.name, "rows", signal)
            if flow.writer is None:
                flow.due = expected_time(writer.last(), signal)
            flow.writer = writer
        return flow.writer

    # --- to disk and back

    @staticmethod
    def _chunk(received: Received, target: Target, parts: list[Part], position: int) -> Chunk:
        chunk_id = received.chunk_id if target.policy.dedupe else b""
        return Chunk(parts, chunk_id, received.producer, position, received.t_arrival)

    def _charge(self, delivery: Delivery, size: int) -> None:
        """The delivery takes more memory than was known when it came in."""
        self._budget.add(size)
        delivery.size += size

    def _submit(
        self, delivery: Delivery, writer: StreamWriter, chunk: Chunk, undo: Callable[[], None] = lambda: None
    ) -> Ticket:
        ticket = self._log.submit(writer, chunk, partial(self._durable, delivery, undo))
        delivery.waits += 1
        return ticket

    def _durable(self, delivery: Delivery, undo: Callable[[], None], ticket: Ticket) -> None:
        self.counters.duplicates += ticket.duplicate
        if ticket.error is not None:
            undo()
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
        if committed is not None:
            await self._source.commit(origin, committed)
        if refused is not None:
            seq, why = refused
            self.counters.refused += 1
            self._rests.pop(origin, None)
            await self._source.refuse(origin, seq, for_source(why))
        if not window:
            del self._windows[origin]  # not before it is answered: what comes behind a refused unit is refused too

    async def read(self) -> None:
        """Take whatever comes. Neither a source that has much nor `take` need wait, so others get their turn here."""
        until = time.perf_counter() + TURN
        async for received in self._source.read():
            await self.take(received)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + TURN

    async def finish(self, reading: asyncio.Task[None], limit: float) -> None:
        """No new data; wait until all that was taken is read and answered, `limit` seconds at most."""
        try:
            async with asyncio.timeout(limit):
                await self._source.quiesce()
                await asyncio.wait({reading})
                await self._idle.wait()
        except TimeoutError:
            logger.warning("stopped before %d senders had their answer; they will send again", len(self._windows))

    async def landed(self) -> None:
        """Wait until nothing that was taken is on its way to the disk any more."""
        await self._landed.wait()


def heavy(body: Events | Blob) -> bool:
    """Whether it takes too long to decode for the event loop."""
    return len(body.data) >= IN_THREAD or (isinstance(body, Events) and body.count >= EVENTS_IN_THREAD)


def decoded(
    codec: Codec, body: Events | Blob, arrival: int, expected: Signal | None, jitter: int
) -> tuple[Decoding, Records | None]:
    """A body's rows, and their records. Pure."""
    if isinstance(body, Events):
        decoding = decode_events(codec, body, arrival, expected)
    else:
        decoding = decode_blob(codec, body, arrival, expected)
    return decoding, to_records(decoding.batches, jitter)


def for_source(why: Exception) -> Exception:
    """What a source is told: a stream that is locked or has stopped may be well later, BadData never will be."""
    return why if isinstance(why, Retry | BadData) else Retry(str(why), delay=LATER)
