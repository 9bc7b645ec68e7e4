"""Events as Fluentd packs them, ``[time, record]``: read one by one, written for the dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from wendelin_stream.batch import NS
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


def unpack_events(data: Buffer) -> Iterator[Event]:
    """All events of a valid event stream. Text that is not UTF-8 comes as surrogate escapes."""
    unpacker = msgpack.Unpacker(
        raw=False,
        unicode_errors="surrogateescape",
        strict_map_key=False,
        timestamp=0,
        max_buffer_size=max(len(data), 1),
    )
    unpacker.feed(data)
    start = 0
    for event in unpacker:
        stop = unpacker.tell()
        yield Event(event_time(event[0]), event[1], start, stop)
        start = stop


def pack_event(time: int, record: dict[str, Any]) -> bytes:
    """``[EventTime, record]`` as a Fluentd would send it."""
    seconds, nanoseconds = divmod(time, NS)
    stamp = msgpack.ExtType(0, seconds.to_bytes(4, "big") + nanoseconds.to_bytes(4, "big"))
    packed: bytes = msgpack.packb([stamp, record], unicode_errors="surrogateescape")
    return packed
