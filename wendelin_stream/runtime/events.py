"""Events as Fluentd packs them, ``[time, record]``: read one by one, written for the dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from wendelin_stream.batch import NS
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Buffer


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded event: time in ns UTC (None: the sender gave 0, "now"), record, and where its bytes are."""

    time: int | None
    record: Any
    start: int
    stop: int


def event_time(value: Any) -> int | None:
    """ns UTC of a Fluentd time: int seconds, EventTime (ext 0), or either with metadata; None for 0.

    Forward protocol: EventTime is two big-endian uint32, seconds and nanoseconds.
    """
    if isinstance(value, list):
        value = value[0]
    if isinstance(value, msgpack.ExtType):
        seconds, nanoseconds = int.from_bytes(value.data[:4], "big"), int.from_bytes(value.data[4:], "big")
        return seconds * NS + nanoseconds or None
    return int(value) * NS or None


def event_bounds(data: Buffer) -> Iterator[tuple[int, int]]:
    """Where each event of an event stream starts and stops. Raises BadData if it is not whole msgpack."""
    walker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
    walker.feed(data)
    start = 0
    try:
        while start < len(data):
            walker.skip()
            stop = walker.tell()
            yield start, stop
            start = stop
    except (ValueError, msgpack.UnpackException) as error:
        raise BadData(f"no event at byte {start}: {str(error) or type(error).__name__}") from None


def unpack_event(data: Buffer, start: int = 0) -> Event:
    """One event, whose bytes begin at `start` of a stream. Text that is not UTF-8 comes as surrogate escapes.

    Raises BadData for what is valid msgpack and still nothing in Python: a list or map as a key, a broken timestamp.
    """
    try:
        time, record = msgpack.unpackb(
            data, raw=False, unicode_errors="surrogateescape", strict_map_key=False, timestamp=0
        )
        return Event(event_time(time), record, start, start + len(data))
    except Exception as error:  # noqa: BLE001 - whatever a sender wrote must not stop us
        raise BadData(f"the event cannot be decoded: {str(error) or type(error).__name__}") from None


def unpack_events(data: Buffer) -> Iterator[Event]:
    """All events of an event stream; the record of one that cannot be decoded is its bytes, of unknown time.

    Raises BadData where it is not whole msgpack.
    """
    view = memoryview(data)
    for start, stop in event_bounds(view):
        try:
            yield unpack_event(view[start:stop], start)
        except BadData:
            yield Event(None, bytes(view[start:stop]), start, stop)


def pack_event(time: int, record: dict[str, Any]) -> bytes:
    """``[EventTime, record]`` as a Fluentd would send it."""
    seconds, nanoseconds = divmod(time, NS)
    stamp = msgpack.ExtType(0, seconds.to_bytes(4, "big") + nanoseconds.to_bytes(4, "big"))
    packed: bytes = msgpack.packb([stamp, record], unicode_errors="surrogateescape")
    return packed
