"""The frame reader and the units it leads to: any split of the bytes gives the same, and nothing breaks it."""

from __future__ import annotations

import itertools
import os
import struct
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.errors import BadData
from wendelin_stream.sources.forward.decode import Decoded, Limits, decode
from wendelin_stream.sources.forward.frames import LEAST, ROOM, FrameReader
from wendelin_stream.sources.forward.modes import Junk, Messages, units
from wendelin_stream.testing.forward import event, forward, message, packed

LIMITS = Limits(unpacked=1 << 20)
ARRIVAL = 1_600_000_000 * 10**9


def read(stream: bytes, cuts: list[int], max_frame: int = 1 << 20):
    """Feed the stream piece by piece; yields blocks until one is broken."""
    reader = FrameReader(max_frame)
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(stream)), len(stream)]
    for start, stop in itertools.pairwise(edges):
        piece = stream[start:stop]
        while piece:
            room = reader.get_buffer()
            assert len(room) > 0
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            piece = piece[count:]
            block = reader.received(count)
            if block is not None:
                yield block
                if block.broken:
                    return


def objects(stream: bytes, cuts: list[int], **limits: int) -> tuple[list[bytes], str]:
    """The top-level objects read, and what is broken."""
    found, broken = [], ""
    for block in read(stream, cuts, **limits):
        start = 0
        for stop in block.ends:
            found.append(bytes(block.data[start:stop]))
            start = stop
        broken = block.broken
    return found, broken


def outcome(stream: bytes, cuts: list[int]):
    """What comes of a stream, independent of how messages are put together: per tag the events, all chunks, junk."""
    stored: dict[str, bytes] = {}
    aside, chunks, junk = [], [], 0
    for block in read(stream, cuts):
        for unit in units(block):
            decoded = decode(unit, ARRIVAL, LIMITS)
            if isinstance(decoded, Junk):
                junk += 1
                continue
            assert isinstance(decoded, Decoded)
            stored[decoded.tag] = stored.get(decoded.tag, b"") + bytes(decoded.events.data)
            aside += [(decoded.tag, bytes(r.data), r.reason) for r in decoded.rejected]
            chunks += [(decoded.chunk, decoded.chunk_id)] if decoded.chunk else []
    return {tag: data for tag, data in stored.items() if data}, sorted(aside), chunks, junk


tags = st.sampled_from(["t.a", "t.b", "park.wt07.acc"])
records = st.sampled_from([{"s": 1}, {"v": 1.5, "n": "x" * 40}, {"data": bytes(300)}, {}, 5])
options = st.sampled_from([None, {}, {"size": 3}, {"chunk": "c1"}, {"chunk": "c2", "size": 1}])
seconds = st.sampled_from([0, 1, 1_700_000_000])
messages = st.builds(message, tags, records, options, seconds)
frames = st.one_of(
    messages,
    st.tuples(messages, st.integers(1, 30)).map(lambda pair: pair[0] * pair[1]),
    st.builds(packed, tags, st.lists(st.builds(event, records)).map(b"".join), options),
    st.builds(forward, tags, st.lists(st.builds(event, records)), options),
    st.sampled_from([b"\xc0", b"\x05", b"\xa1x", b"\x80", b"\x90", b"\x91\xa1t", b"\x93\x05\x00\x80"]),
)
streams = st.lists(frames, max_size=12)


@given(streams, st.lists(st.integers(0, 4000)))
def test_F1_any_split_gives_the_same_objects(parts, cuts):
    """The reader cuts the stream where the frames end, however the bytes arrive."""
    stream = b"".join(parts)
    expected = []
    walk = msgpack.Unpacker()
    walk.feed(stream)
    start = 0
    while start < len(stream):
        walk.skip()
        expected.append(stream[start : walk.tell()])
        start = walk.tell()
    assert objects(stream, cuts) == (expected, "")


@given(streams, st.lists(st.integers(0, 4000)))
def test_F1_any_split_gives_the_same_units(parts, cuts):
    """Events per tag, what is set aside, acks and their order: none depends on the split, 1-byte reads included.

    Where a read ends decides which messages are put together, never what is stored.
    """
    stream = b"".join(parts)
    whole = outcome(stream, [])
    assert outcome(stream, cuts) == whole
    assert outcome(stream, list(range(len(stream)))) == whole


@given(st.sampled_from([b"", message("t", {}), b"\x93\xa1t"]), st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_F27_garbage_never_crashes(head, garbage, cuts):
    """Whatever comes, alone or behind something good, is read, skipped or found broken."""
    for block in read(head + garbage, cuts):
        for unit in units(block):
            try:
                decode(unit, ARRIVAL, LIMITS)
            except BadData:
                return


@given(streams.map(b"".join), st.data())
def test_F27_damaged_frames_never_crash(stream, data):
    """Good frames with some bytes overwritten."""
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    test_F27_garbage_never_crashes.hypothesis.inner_test(b"", bytes(damaged), [])


def test_F6_frames_before_broken_framing_are_whole():
    """c1 ends the reading; what came before it is handed out first."""
    found, broken = objects(message("t", {}) + b"\xc1" + message("t", {}), [])
    assert found == [message("t", {})]
    assert broken == "not msgpack"


@pytest.mark.parametrize("kind", ["message", "forward", "packed", "junk"])
@pytest.mark.parametrize("step", [1000, 70_000, 10**9])
def test_F54_a_frame_over_the_limit_is_refused(kind, step):
    """Frames of 2 MiB fit under their limit, and break one of 1 MiB; the frame before it survives."""
    body = os.urandom(2 << 20)
    frame = {
        "message": message("t", {"b": body}),
        "forward": forward("t", [event({"b": body[: 1 << 18]})] * 8),
        "packed": packed("t", body),
        "junk": msgpack.packb(body),
    }[kind]
    cuts = list(range(step, len(frame), step)) if step < len(frame) else []
    assert objects(message("t", {}) + frame, cuts, max_frame=3 << 20) == ([message("t", {}), frame], "")
    found, broken = objects(message("t", {}) + frame, cuts, max_frame=1 << 20)
    assert found == [message("t", {})]
    assert "more than 1048576 bytes" in broken


@pytest.mark.parametrize(
    "head",
    [
        b"\x93\xa1t\xc6\x03\xff\xf0\x00",  # a packed payload of almost 64 MiB
        b"\x93\xa1t\xdd\xff\xff\xff\xff",  # a forward array of 4 G entries
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\x03\xff\xff\xff",
    ],
)
def test_F27_announced_lengths_take_no_memory(head):
    """Memory comes with the bytes: a head that announces 64 MiB gets a small buffer."""
    before = resident()
    readers = []
    for _ in range(8):
        reader = FrameReader(64 << 20)
        reader.get_buffer()[: len(head)] = head
        assert reader.received(len(head)) is None
        room = reader.get_buffer()
        assert len(room) <= 2 << 20
        room[:1] = b"\0"
        readers.append(reader)
    assert resident() - before < 4 << 20


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_large_payload_is_handed_over_without_a_copy():
    """The buffer that the socket filled is the payload's memory: nothing of its size is allocated when it is whole."""
    frame = packed("t", bytes(8 << 20), {"chunk": "c"})
    reader = FrameReader(64 << 20)
    at = 0
    blocks = []
    tracemalloc.start()
    while at < len(frame):
        room = reader.get_buffer()
        count = min(len(room), len(frame) - at)
        room[:count] = frame[at : at + count]
        if at + count == len(frame):
            tracemalloc.reset_peak()
            held, _ = tracemalloc.get_traced_memory()
        blocks += [block for block in [reader.received(count)] if block]
        at += count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (block,) = blocks
    assert bytes(block.data) == frame
    assert block.data.readonly
    assert peak - held < 2 * ROOM


def test_blocks_do_not_change_when_reading_goes_on():
    """What was handed out stays as it is while the buffer is filled again."""
    frames = [packed("t", os.urandom(size)) for size in (100, 70_000, 200_000, 10, 500_000, LEAST, 3)]
    blocks = list(read(b"".join(frames), list(range(0, 900_000, 33_333))))
    assert b"".join(bytes(block.data) for block in blocks) == b"".join(frames)


def test_a_forward_array_in_small_reads_is_walked_once():
    """8 MiB in 64 KiB reads: the walker is fed each byte once, so the time is linear (here: counted, not clocked)."""
    frame = forward("t", [event({"v": 1.5})] * 200_000)
    reader = FrameReader(64 << 20)
    fed = 0

    class Counting:
        def __init__(self, walk):
            self.skip, self.tell, self._walk = walk.skip, walk.tell, walk

        def feed(self, data):
            nonlocal fed
            fed += len(data)
            self._walk.feed(data)

    reader._walk = Counting(reader._walk)
    at = 0
    while at < len(frame):
        count = min(len(room := reader.get_buffer()), 1 << 16, len(frame) - at)
        room[:count] = frame[at : at + count]
        at += count
        block = reader.received(count)
    assert fed == len(frame)
    assert bytes(block.data) == frame


# --- messages ----------------------------------------------------------------------------------------


def collect(stream: bytes) -> list:
    return [unit for block in read(stream, []) for unit in units(block)]


def test_messages_of_one_tag_become_one_unit():
    """All frames of a read, with and without an empty option, one unit per tag in order of appearance."""
    stream = b"".join(message(tag, {"n": n}, option) for n in range(50) for tag, option in [("a", None), ("b", {})])
    first, second = collect(stream)
    assert isinstance(first, Messages)
    assert isinstance(second, Messages)
    assert (first.tag, second.tag) == (b"a", b"b")
    assert first.data == second.data == b"".join(event({"n": n}) for n in range(50))
    assert np.array_equal(np.diff(first.bounds), [len(event({"n": n})) for n in range(50)])


def test_other_frames_are_not_overtaken():
    """A frame with a chunk stands between the messages before and behind it."""
    a, b, chunk = message("a", {}), message("b", {}), message("a", {"c": 1}, {"chunk": "x"})
    kinds = [
        (unit.tag, len(unit.bounds) - 1 if isinstance(unit, Messages) else "frame")
        for unit in collect(a * 5 + b * 5 + chunk + b * 4 + a * 3)
    ]
    assert kinds == [(b"a", 5), (b"b", 5), (b"a", "frame"), (b"b", 4), (b"a", 3)]


def test_an_option_that_only_ends_like_an_empty_one_is_seen():
    """{"chunk": {}} ends in byte 80, like {} does: the ack is not lost among plain messages."""
    stream = message("a", {}, {}) * 10 + message("a", {}, {"chunk": {}}) + message("a", {}, {"x": None}) * 3
    units_ = collect(stream)
    assert [type(unit).__name__ for unit in units_] == ["Messages", "Frame", "Frame", "Frame", "Frame"]
    assert decode(units_[1], ARRIVAL, LIMITS).chunk == b"\x80"


def test_more_tags_than_are_taken_at_once():
    """40 tags by turns: all events arrive, none under another tag."""
    stream = b"".join(message(f"tag{n % 40}", {"n": n}) for n in range(400))
    stored, aside, chunks, junk = outcome(stream, [])
    assert stored == {f"tag{k}": b"".join(event({"n": n}) for n in range(k, 400, 40)) for k in range(40)}
    assert (aside, chunks, junk) == ([], [], 0)


@pytest.mark.parametrize("tag", [b"\xa1t", b"\xd9\x01t", b"\xda\x00\x01t", b"\xdb\x00\x00\x00\x01t", b"\xc4\x01t"])
@pytest.mark.parametrize("head", [b"\x93", b"\xdc\x00\x03", b"\xdd\x00\x00\x00\x03"])
def test_F2_every_width(tag, head):
    """Heads of every width, in runs of messages too."""
    body = event({"v": 1})[1:]
    stream = (head + tag + body) * 12
    stored, *_ = outcome(stream, [])
    assert stored == {"t": event({"v": 1}) * 12}


@pytest.mark.parametrize(
    "payload", [(0xC4, ">B"), (0xC5, ">H"), (0xC6, ">I"), (0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I")]
)
def test_F11_a_payload_of_any_type_and_width(payload):
    """bin and str, 8 to 32 bits; bytes that are no UTF-8 among them."""
    head, width = payload
    data = event({"v": b"\xff\xfe"})
    stream = b"\x92\xa1t" + bytes([head]) + struct.pack(width, len(data)) + data
    assert outcome(stream, [])[0] == {"t": data}
