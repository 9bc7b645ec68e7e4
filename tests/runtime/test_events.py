"""Events are read as Fluentd and Fluent Bit write them."""

from __future__ import annotations

import msgpack
import pytest

from wendelin_stream.runtime.events import event_time, pack_event, unpack_events

EVENT_TIME = msgpack.ExtType(0, bytes.fromhex("6553f10000000005"))


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (1_700_000_000, 1_700_000_000_000_000_000),
        (-1, -1_000_000_000),
        (EVENT_TIME, 1_700_000_000_000_000_005),
        ([EVENT_TIME, {"meta": 1}], 1_700_000_000_000_000_005),
        (0, None),
        (msgpack.ExtType(0, bytes(8)), None),
    ],
)
def test_F17_F18_F19_times(value: object, ns: int | None) -> None:
    """Seconds, EventTime, with or without metadata; 0 is the time of arrival."""
    assert event_time(value) == ns


def test_events_come_with_their_extent() -> None:
    """The bytes of one event can be cut out and kept."""
    one = msgpack.packb([1, {"a": b"\xff"}])
    two = msgpack.packb([EVENT_TIME, {"b": "x"}])
    events = list(unpack_events(memoryview(one + two)))
    assert [(e.start, e.stop) for e in events] == [(0, len(one)), (len(one), len(one) + len(two))]
    assert events[0].record == {"a": b"\xff"}


def test_text_that_is_not_utf8_survives() -> None:
    """Old senders write raw bytes as str; they come back as they were."""
    raw = b"\x92\x01\x81\xa1d\xa3\xff\xfe\x00"
    (event,) = unpack_events(raw)
    assert event.record["d"].encode("utf-8", "surrogateescape") == b"\xff\xfe\x00"


def test_a_packed_event_reads_back() -> None:
    """Nanoseconds and all."""
    (event,) = unpack_events(pack_event(1_700_000_000_000_000_007, {"tag": "a\udcff", "n": 1}))
    assert event.time == 1_700_000_000_000_000_007
    assert event.record == {"tag": "a\udcff", "n": 1}
