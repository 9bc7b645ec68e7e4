"""What one received unit becomes: rows, events or bytes for one stream, and what has to be set aside."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from wendelin_stream.batch import Batch, Kind, Signal, ticks
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Blob, Buffer, Codec, Decoded, Events, Message, Received, Rejected
from wendelin_stream.runtime.events import unpack_events
from wendelin_stream.store import Flag, Part

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decoding:
    """A unit's rows, in order; what did not decode; how far into the file it reached (pieces only)."""

    batches: tuple[Batch, ...]
    rejected: tuple[Rejected, ...]
    used: int = 0


def decode_events(codec: Codec, events: Events, arrival: int) -> Decoding:
    """Decode event by event; one that does not decode costs only itself."""
    batches: list[Batch] = []
    rejected: list[Rejected] = []
    view = memoryview(events.data)
    for event in unpack_events(events.data):
        try:
            decoded = _decode(codec, Message(event.record, arrival if event.time is None else event.time))
        except BadData as why:
            rejected.append(Rejected(bytes(view[event.start : event.stop]), str(why)))
        else:
            batches.extend(decoded.batches)
    return Decoding(tuple(batches), tuple(rejected))


def decode_blob(codec: Codec, blob: Blob, arrival: int) -> Decoding:
    """Decode a message or a piece of a file; what does not decode is set aside whole."""
    time = arrival if blob.time is None else blob.time
    try:
        decoded = _decode(codec, Message(blob.data, time, blob.offset, blob.head))
    except BadData as why:
        return Decoding((), (Rejected(bytes(blob.data), str(why)),), len(blob.data))
    if blob.offset is None and decoded.used < len(blob.data):
        why_rest = f"{len(blob.data) - decoded.used} bytes are left over after {decoded.used}"
        return Decoding((), (Rejected(bytes(blob.data), why_rest),), len(blob.data))
    return Decoding(decoded.batches, (), decoded.used)


def _decode(codec: Codec, message: Message) -> Decoded:
    """A codec's own fault must not stop a sender: it costs the message, is logged, and the dead letter has it."""
    try:
        return codec.decode(message)
    except BadData:
        raise
    except Exception as fault:
        logger.exception("codec %s failed", type(codec).__name__)
        raise BadData(f"codec {type(codec).__name__} failed: {fault!r}") from fault


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
