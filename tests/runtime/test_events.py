"""Events are read as Fluentd and Fluent Bit write them."""

from __future__ import annotations

import msgpack
import pytest

from wendelin_stream.errors import BadData
from wendelin_stream.runtime.events import event_time, pack_event, unpack_event, unpack_events

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


def test_one_that_is_nothing_in_python_does_not_hide_the_others() -> None:
    """A list as a key is valid msgpack: who reads a stream gets the bytes of that event, and goes on."""
    good, strange = msgpack.packb([1, {"a": 1}]), b"\x92\x01\x81\x91\x01\x02"
    events = list(unpack_events(good + strange + good))
    assert [event.record for event in events] == [{"a": 1}, strange, {"a": 1}]
    assert [event.time for event in events] == [10**9, None, 10**9]
    with pytest.raises(BadData, match="cannot be decoded: unhashable type"):
        unpack_event(strange)


@pytest.mark.parametrize("data", [b"\xc1", b"\x92\x01", b"\x92\x01" + b"\x91" * 5000])
def test_what_is_no_msgpack_is_said_to_be_none(data: bytes) -> None:
    """A reserved byte, a cut event, one that is nested without end: the place, and no crash."""
    with pytest.raises(BadData, match="no event at byte 0"):
        list(unpack_events(data))


def test_a_packed_event_reads_back() -> None:
    """Nanoseconds and all."""
    (event,) = unpack_events(pack_event(1_700_000_000_000_000_007, {"tag": "a\udcff", "n": 1}))
    assert event.time == 1_700_000_000_000_000_007
    assert event.record == {"tag": "a\udcff", "n": 1}
