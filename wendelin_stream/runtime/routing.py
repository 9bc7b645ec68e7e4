"""What one received unit becomes: rows, events or bytes for one stream, and what has to be set aside."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wendelin_stream.batch import Batch, Kind, Signal, ticks
from wendelin_stream.config import describe
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Blob, Buffer, Codec, Decoded, Events, Message, Received, Rejected
from wendelin_stream.runtime.events import event_bounds, unpack_event
from wendelin_stream.store import Flag, Part

logger = logging.getLogger(__name__)

MOST_REJECTED = 1000
"""Events of one unit that are set aside one by one; the others are set aside together."""

_LATEST = 2**63 - 1
_told: set[tuple[str, str]] = set()
"""Faults of codecs whose traceback was logged: a sender must not fill the log with them."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """A unit's rows, in order; what did not decode; how far into the file it reached (pieces only)."""

    batches: tuple[Batch, ...]
    rejected: tuple[Rejected, ...]
    used: int = 0


@dataclass(frozen=True, slots=True)
class Records:
    """The index records of a unit's rows, flagged among themselves; what stands before the first is not known here.

    first, due: time of the first row, and where the row behind the last is due (ns UTC; None for rows without a rate).
    """

    signal: Signal
    parts: list[Part]
    first: int | None
    due: int | None

    def behind(self, due: int | None, jitter: int) -> list[Part]:
        """The records as they follow rows after which the next was `due`."""
        if self.first is None:
            return self.parts
        return [replace(self.parts[0], flags=continuity(due, self.first, jitter)), *self.parts[1:]]


def to_records(batches: Sequence[Batch], jitter: int) -> Records | None:
    """One record for each batch; None if there are no rows. jitter: ns that a time may be off."""
    if not batches:
        return None
    signal = batches[0].signal
    if signal.rate is None:
        return Records(signal, [rows_part(batch) for batch in batches], None, None)
    parts, due = [], None
    for batch in batches:
        parts.append(rows_part(batch, continuity(due, batch.time(0), jitter)))
        due = batch.time(len(batch))
    return Records(signal, parts, batches[0].time(0), due)


def decode_events(codec: Codec, events: Events, arrival: int, expected: Signal | None = None) -> Decoding:
    """Decode event by event; one that does not decode costs only itself (F25).

    expected: what the stream holds, if that is known; else the first good event decides for this unit.
    """
    batches: list[Batch] = []
    rejects = _Rejects()
    view = memoryview(events.data)
    for start, stop in event_bounds(view):
        try:
            event = unpack_event(view[start:stop])
            decoded = _decode(codec, Message(event.record, arrival if event.time is None else event.time))
            for batch in decoded.batches:
                expected = _same(expected, batch.signal)
        except BadData as why:
            rejects.add(view[start:stop], str(why))
        else:
            batches.extend(decoded.batches)
    return Decoding(tuple(batches), rejects.all())


def decode_blob(codec: Codec, blob: Blob, arrival: int, expected: Signal | None = None) -> Decoding:
    """Decode a message or a piece of a file; what does not decode is set aside whole."""
    time = arrival if blob.time is None else blob.time
    try:
        decoded = _decode(codec, Message(blob.data, time, blob.offset, blob.head))
        for batch in decoded.batches:
            expected = _same(expected, batch.signal)
    except BadData as why:
        return Decoding((), (Rejected(bytes(blob.data), str(why)),), len(blob.data))
    if blob.offset is None and decoded.used < len(blob.data):
        why_rest = f"{len(blob.data) - decoded.used} bytes are left over after {decoded.used}"
        return Decoding((), (Rejected(bytes(blob.data), why_rest),), len(blob.data))
    return Decoding(decoded.batches, (), decoded.used)


class _Rejects:
    """What is set aside of a unit, bounded in number."""

    def __init__(self) -> None:
        self._single: list[Rejected] = []
        self._more, self._more_count = bytearray(), 0

    def add(self, event: Buffer, reason: str) -> None:
        if len(self._single) < MOST_REJECTED:
            self._single.append(Rejected(bytes(event), reason))
        else:
            self._more += event
            self._more_count += 1

    def all(self) -> tuple[Rejected, ...]:
        if not self._more_count:
            return tuple(self._single)
        reason = f"{self._more_count} more events of one unit that cannot be decoded"
        return (*self._single, Rejected(bytes(self._more), reason))


def _decode(codec: Codec, message: Message) -> Decoded:
    """A codec's own fault must not stop a sender: it costs the message, is logged once, and the dead letter has it."""
    try:
        decoded = codec.decode(message)
        for batch in decoded.batches:
            _check(batch)
    except BadData:
        raise
    except Exception as fault:
        name, kind = type(codec).__name__, type(fault).__name__
        if (name, kind) not in _told:
            _told.add((name, kind))
            logger.exception("codec %s failed; each such message goes to the dead letter", name)
        raise BadData(f"codec {name} failed: {fault!r}") from fault
    return decoded


def _check(batch: Batch) -> None:
    """What can be stored: rows of the batch's signal, at times that the index can hold."""
    if not len(batch) or batch.rows.shape[1:] != batch.signal.shape or batch.rows.dtype != batch.signal.dtype:
        raise ValueError(f"rows of shape {batch.rows.shape} and dtype {batch.rows.dtype} are none of its signal")
    if batch.signal.rate is not None and not -_LATEST <= batch.time(0) <= batch.time(len(batch)) <= _LATEST:
        raise BadData("its rows are at times outside of what 64 bits of nanoseconds hold")


def _same(expected: Signal | None, signal: Signal) -> Signal:
    """The signal, if it is the expected one. Raises BadData."""
    if expected is None or signal is expected or signal == expected:
        return signal
    raise BadData(f"it holds {describe(signal)}, the stream {describe(expected)}")


def kind_without_codec(received: Received) -> Kind:
    """Events keep their msgpack form, anything else is bytes."""
    return "events" if isinstance(received.body, Events) else "bytes"


def raw_part(body: Events | Blob, arrival: int) -> Part:
    """The record of a unit that is stored as it came."""
    if isinstance(body, Events):
        return Part([body.data], body.count, body.t_first, body.t_last, crc=body.crc)
    time = arrival if body.time is None else body.time
    return Part([body.data], 1, time, time)


def row_bytes(batch: Batch) -> Buffer:
    """The rows as they are written: C order, the signal's dtype."""
    rows = np.ascontiguousarray(batch.rows, dtype=batch.signal.dtype)
    return rows.reshape(-1).view(np.uint8).data


def rows_part(batch: Batch, flags: Flag = Flag(0)) -> Part:  # noqa: B008 - an immutable constant
    """The record of one batch. Time of its row k: see `Batch.time`; t_last is the last row's."""
    if batch.signal.rate is None:
        times = batch.rows["time"].view(np.int64)
        return Part([row_bytes(batch)], len(batch), int(times.min()), int(times.max()), flags=flags)
    first, last = batch.time(0), batch.time(len(batch) - 1)
    return Part([row_bytes(batch)], len(batch), first, last, row=batch.index, flags=flags)


def expected_time(last: Any, signal: Signal | None) -> int | None:
    """Where the next row of a periodic stream is due (ns UTC), from its last index record; None if unknown."""
    if last is None or signal is None or signal.rate is None:
        return None
    row, count = int(last["row"]), int(last["count"])
    return int(last["t_first"]) - ticks(row, signal.rate) + ticks(row + count, signal.rate)


def continuity(expected: int | None, first: int, jitter: int) -> Flag:
    """Flags of a record whose first row is at `first` where `expected` was due: a hole, or a step back in time."""
    if expected is None or abs(first - expected) <= jitter:
        return Flag(0)
    return Flag.GAP if first > expected else Flag.GAP | Flag.LATE
