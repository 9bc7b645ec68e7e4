"""An event stream looked through: the vectorised check against one that decodes each event."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.errors import BadData
from wendelin_stream.sources.forward.events import MOST_REJECTED, STRETCH, Heavy, check, check_one, walk
from wendelin_stream.sources.forward.uniform import uniform_size
from wendelin_stream.sources.forward.wire import DEPTH
from wendelin_stream.testing.forward import event, event_time

ARRIVAL = 1_650_000_000 * 10**9
NS = 10**9


@dataclass
class Map:
    """A decoded map: its pairs, whatever the keys."""

    pairs: list


def oracle(events: list[bytes]):
    """Stored bytes, times and what is set aside, from decoded events, one by one (F17 to F21, F25)."""
    stored, times, aside = b"", [], []
    for raw in events:
        value = msgpack.unpackb(
            raw, raw=True, strict_map_key=False, object_pairs_hook=Map, ext_hook=lambda code, data: (code, data)
        )
        time = time_of(value)
        if time == "marker":
            continue
        if time is None or not isinstance(value[1], Map):
            aside.append(raw)
            continue
        stored += raw
        times.append(time or ARRIVAL)
    return stored, (min(times), max(times)) if times else (ARRIVAL, ARRIVAL), aside


def time_of(value):
    if not isinstance(value, list) or len(value) != 2:
        return None
    time = value[0]
    if isinstance(time, list):
        if len(time) != 2 or not isinstance(time[1], Map):
            return None
        time = time[0]
    if isinstance(time, tuple) and time[0] == 0 and len(time[1]) == 8:
        seconds, nanoseconds = struct.unpack(">II", time[1])
        if nanoseconds == 0 and seconds >= 0xFFFFFFFE:
            return "marker"
        return seconds * NS + nanoseconds
    if isinstance(time, int) and not isinstance(time, bool) and abs(time * NS) < 2**63:
        return time * NS
    return None


def pair_heads(count: int):
    return st.sampled_from(
        [bytes([0x90 + count]), b"\xdc" + struct.pack(">H", count), b"\xdd" + struct.pack(">I", count)]
    )


packing = st.sampled_from([">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"])
HEADS = {">B": 0xCC, ">H": 0xCD, ">I": 0xCE, ">Q": 0xCF, ">b": 0xD0, ">h": 0xD1, ">i": 0xD2, ">q": 0xD3}


@st.composite
def integers(draw) -> bytes:
    width = draw(packing)
    size = 8 * struct.calcsize(width)
    low, high = (-(2 ** (size - 1)), 2 ** (size - 1) - 1) if width[1].islower() else (0, 2**size - 1)
    number = draw(
        st.one_of(st.integers(low, high), st.sampled_from([n for n in (0, 1, -1, low, high) if low <= n <= high]))
    )
    return bytes([HEADS[width]]) + struct.pack(width, number)


stamps = st.builds(
    lambda head, s, ns: head + struct.pack(">II", s, ns),
    st.sampled_from([b"\xd7\x00", b"\xc7\x08\x00"]),
    st.sampled_from([0, 1, 1_700_000_000, 2**31, 0xFFFFFFFE, 0xFFFFFFFF]),
    st.sampled_from([0, 5, 999_999_999, 2**32 - 1]),
)
other_times = st.sampled_from(
    [b"\xc0", b"\xc3", b"\xcb" + bytes(8), b"\xa1x", b"\xd7\x01" + bytes(8), b"\xd6\x00" + bytes(4), b"\x80"]
)
fixints = st.sampled_from([b"\x00", b"\x01", b"\x7f", b"\xff", b"\xe0"])
times = st.one_of(stamps, stamps, integers(), fixints, other_times)
metadata = st.sampled_from(
    [b"\x80", b"\xde\x00\x00", b"\xdf" + bytes(4), b"\x81\xa1k\xa1v", msgpack.packb({"m": "x" * 300}), b"\xc0"]
)
headed = st.one_of(times, st.builds(lambda head, t, m: head + t + m, pair_heads(2), times, metadata))
records = st.sampled_from(
    [
        b"\x80",
        b"\x81\xa1v\x05",
        b"\x81\xa1v\x06",
        b"\x81\xa1v\xcd\x01\x00",
        b"\xde\x00\x01\xa1v\xc2",
        b"\xdf\x00\x00\x00\x01\xa1v\xc3",
        b"\x82\x01\x02\x01\x02",
        b"\x81\xa1b\xc4\x03\x92\xd7\x00",
        b"\x81\xa1e\xc7\x03\x09abc",
        b"\x81\xa2\xff\xfe\xcb" + bytes(8),
        b"\x05",
        b"\xc0",
        b"\x90",
    ]
)
good = st.builds(lambda head, t, r: head + t + r, pair_heads(2), headed, records)
bad = st.sampled_from(
    [
        b"\x05",
        b"\x90",
        b"\x91\x01",
        b"\x93\x01\x80\x80",
        b"\xa3abc",
        b"\x80",
        b"\xdc\x00\x03\x01\x80\x80",
        b"\x92\x93\x01\x80\x80\x80",
    ]
)
event_lists = st.lists(
    st.tuples(st.one_of(good, good, good, bad), st.integers(1, 40)).map(lambda p: [p[0]] * p[1]), max_size=8
).map(lambda parts: [e for part in parts for e in part])


def sort_out(events: list[bytes], count: int | None = None):
    data = memoryview(b"".join(events))
    return check(data, walk(data, count), ARRIVAL)


@given(event_lists)
def test_F16_to_F25_the_check_agrees_with_decoding_each_event(events):
    """Stored bytes, count, times, what is set aside and in which order: as an event-by-event reading has it."""
    stored, (first, last), aside = oracle(events)
    found = sort_out(events)
    assert bytes(found.data) == stored
    assert found.intact == (stored == b"".join(events))
    assert (found.t_first, found.t_last) == (first, last)
    assert [bytes(rejected.data) for rejected in found.rejected] == aside
    assert all(rejected.reason for rejected in found.rejected)


@given(good)
def test_one_event_and_many_are_judged_alike(one):
    """The way for single events, for a few and for many give the same verdict and the same times."""
    alone = check_one(one, ARRIVAL)
    for copies in (1, 3, 30):
        many = sort_out([one] * copies)
        assert bytes(many.data) == bytes(alone.data) * copies
        assert many.count == alone.count * copies
        assert (many.t_first, many.t_last) == (alone.t_first, alone.t_last)
        assert [r.reason for r in many.rejected] == [r.reason for r in alone.rejected] * copies


@given(event_lists, st.binary(max_size=5))
def test_a_forward_array_ends_after_its_entries(events, option):
    """With a count the walk stops there; what is behind is the frame's option."""
    data = memoryview(b"".join(events) + b"\x81\xa1o" + bytes(option))
    found = check(data, walk(data, len(events)), ARRIVAL)
    assert found.end == len(b"".join(events))
    assert bytes(found.data) == oracle(events)[0]


def test_stretches_do_not_matter():
    """Events cut out on both sides of the border between two stretches."""
    events = [event({"n": n % 128}) if n % 5 else b"\x05" for n in range(2 * STRETCH + 7)]
    found = sort_out(events)
    stored, _, aside = oracle(events)
    assert bytes(found.data) == stored
    assert found.count == sum(1 for n in range(2 * STRETCH + 7) if n % 5)
    assert len(aside) > MOST_REJECTED


def test_F25_a_flood_of_invalid_events_is_set_aside_as_a_whole():
    """The first thousand one by one, the others together: nothing is lost, memory is not a multiple of the frame."""
    found = sort_out([b"\xa1%c" % (n % 128) for n in range(5000)])
    assert len(found.rejected) == MOST_REJECTED + 1
    assert b"".join(bytes(r.data) for r in found.rejected) == b"".join(b"\xa1%c" % (n % 128) for n in range(5000))
    assert "4000 more" in found.rejected[-1].reason


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (event({}) + event({})[:-1], "ends inside the event at byte 12"),
        (event({}) + b"\xc1" + event({}), "not msgpack at byte 12"),
        (b"\xc1", "not msgpack at byte 0"),
        (b"\x92", "ends inside the event at byte 0"),
        (event({"d": 1})[:-1] + b"\x91" * (DEPTH + 1) + b"\x00", "nested deeper than 1024 levels"),
        (event({"d": b"x" * 100})[:-1] * 20, "byte"),
    ],
)
def test_F26_F27_what_cannot_be_walked_is_refused_whole(payload, why):
    """The reason names the place."""
    data = memoryview(payload)
    with pytest.raises(BadData, match=why):
        check(data, walk(data), ARRIVAL)


def test_F27_the_stated_depth_is_accepted():
    """DEPTH levels, the pair and the record counted."""
    deepest = event({"d": 1})[:-1] + b"\x91" * (DEPTH - 2) + b"\x00"
    assert sort_out([deepest] * 2).count == 2


def test_F20_the_ends_of_time():
    """The largest second that 63 bits of nanoseconds hold is valid, the next is not; the same below zero."""
    most = (2**63 - 1) // NS
    for seconds, valid in [(most, 1), (most + 1, 0), (-most, 1), (-most - 1, 0), (2**63 - 1, 0), (-(2**63), 0)]:
        one = b"\x92\xd3" + struct.pack(">q", seconds) + b"\x80"
        for copies in (1, 20):
            assert sort_out([one] * copies).count == valid * copies


# --- streams of one build ----------------------------------------------------------------------------


def test_streams_of_one_build_need_no_walk():
    """A sensor's events differ in their content only: numbers, text of the same length, small integers."""
    events = [event({"v": n / 7, "k": f"{n:03}", "i": n % 100, "b": n % 2 == 0}) for n in range(200)]
    assert uniform_size(memoryview(b"".join(events)), None) == (len(events[0]), 200)
    assert bytes(sort_out(events).data) == b"".join(events)


@given(st.lists(good, min_size=1, max_size=3), st.integers(16, 60), st.data())
def test_events_of_one_size_are_not_taken_for_events_of_one_build(kinds, copies, data):
    """Whatever bytes are changed, what is found uniform is walked the same."""
    payload = bytearray(b"".join(kinds) * copies)
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    size, count = uniform_size(memoryview(payload), None)
    if count:
        walker = msgpack.Unpacker()
        walker.feed(payload)
        for k in range(count):
            walker.skip()
            assert walker.tell() == (k + 1) * size


def test_patience_ends_the_work_on_the_event_loop():
    """Too many events, or too many kinds of events, are work for a thread."""
    many = memoryview(b"".join(event({"n": n}) for n in range(5000)))
    with pytest.raises(Heavy):
        check(many, walk(many), ARRIVAL, patience=1000)
    odd = memoryview(b"".join(b"\x92\x92" + event_time(1, n) + msgpack.packb({"m": n}) + b"\x80" for n in range(2000)))
    with pytest.raises(Heavy):
        check(odd, walk(odd), ARRIVAL, patience=10_000)
    assert check(odd, walk(odd), ARRIVAL).count == 2000
