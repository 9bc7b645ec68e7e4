"""Records, slots and layout: pure functions, checked by properties."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from tests.store.store_kit import VIBRATION, WEATHER, blob
from wendelin_stream.batch import Axis, Signal
from wendelin_stream.errors import BadData, Corrupt
from wendelin_stream.store import IDX, Chunk, Flag, Part
from wendelin_stream.store.chunk import check_chunk
from wendelin_stream.store.format import (
    RECORD_BYTES,
    Slot,
    StreamInfo,
    Tail,
    newest_slot,
    records,
    segment_bytes,
    tail_after,
    valid_prefix,
)
from wendelin_stream.store.layout import cut, lay_out

parts = st.builds(
    Part,
    data=st.lists(st.binary(max_size=20), max_size=3),
    count=st.integers(0, 2**32 - 1),
    t_first=st.integers(-(2**63), 2**63 - 1),
    t_last=st.integers(-(2**63), 2**63 - 1),
    row=st.integers(-(2**63), 2**63 - 1),
    flags=st.sampled_from([Flag(0), Flag.GAP, Flag.LATE | Flag.GAP]),
)
chunks = st.builds(
    Chunk,
    parts=st.lists(parts, min_size=1, max_size=3),
    chunk_id=st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
    producer=st.integers(0, 2**64 - 1),
    position=st.integers(0, 2**64 - 1),
    t_ingest=st.integers(-(2**63), 2**63 - 1),
)
SEEDED = Tail(crc=77)


def test_S8_a_record_has_128_bytes_and_the_fields_where_the_format_says():
    """Other programs map the index by these offsets."""
    assert IDX.itemsize == RECORD_BYTES == 128
    where = {name: IDX.fields[name][1] for name in ("seq", "t_first", "count", "chunk_id", "stat_min", "position")}
    assert where == {"seq": 8, "t_first": 32, "count": 64, "chunk_id": 72, "stat_min": 104, "position": 112}


@given(st.lists(chunks, max_size=6))
def test_records_say_what_was_appended(appended):
    """Every field of every part comes back; offsets and t_max run on; all parts but the last are flagged MORE."""
    plan = lay_out(SEEDED, appended, epoch=3)
    found = records(plan.records)
    flat = [(chunk, part) for chunk in appended for part in chunk.parts]
    assert len(found) == len(flat) == plan.tail.seq
    at, latest = 0, -(2**63)
    for record, (chunk, part) in zip(found, flat, strict=True):
        data, is_last, latest = b"".join(part.data), part is chunk.parts[-1], max(latest, part.t_last)
        assert (record["offset"], record["length"], record["payload_crc"]) == (at, len(data), crc32c(data))
        assert [record[f] for f in ("t_first", "t_last", "t_max", "count", "row")] == [
            *(part.t_first, part.t_last, latest, part.count, part.row)
        ]
        assert record["chunk_id"].tobytes() == (chunk.chunk_id or bytes(16))
        assert record["position"] == (chunk.position if is_last else 0)
        assert record["producer"] == chunk.producer
        assert record["writer_epoch"] == 3
        assert Flag(int(record["flags"])) == (part.flags if is_last else part.flags | Flag.MORE)
        at += len(data)
    assert b"".join(map(bytes, plan.pieces)) == b"".join(b"".join(p.data) for _, p in flat)
    if flat:
        assert tail_after(found[-1]) == plan.tail


@given(st.lists(chunks, min_size=1, max_size=6), st.data())
def test_S10_a_single_changed_bit_ends_the_valid_prefix_right_there(appended, data):
    """Magic, number, offset and chained CRC cover every bit of a record."""
    raw = bytearray(lay_out(SEEDED, appended, 1).records)
    assert valid_prefix(records(raw), SEEDED) == len(raw) // RECORD_BYTES
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert valid_prefix(records(raw), SEEDED) == bit // 8 // RECORD_BYTES


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_S10_zeros_never_validate(seed, offset):
    """Whatever the seed: a hole in a sparse file is not a record."""
    assert valid_prefix(records(bytes(RECORD_BYTES)), Tail(0, offset, seed)) == 0


def test_S9_records_from_before_a_cut_do_not_come_back():
    """Record 1 of an earlier life has the right number, offset and length, but another predecessor."""
    old = lay_out(SEEDED, [blob(b"one"), blob(b"two")], 1).records
    new = lay_out(SEEDED, [blob(b"ONE")], 1).records
    assert valid_prefix(records(new + old[RECORD_BYTES:]), SEEDED) == 1


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(0, 100), st.integers(1, 40))
def test_S1_runs_cut_at_file_borders_are_the_same_bytes(pieces, offset, file_bytes):
    """Whatever the cut: put together again they are one byte array."""
    disk: dict[int, int] = {}
    for file, inside, run in cut(pieces, offset, file_bytes):
        data = b"".join(map(bytes, run))
        assert 0 < len(data) <= file_bytes - inside
        disk |= {file * file_bytes + inside + k: byte for k, byte in enumerate(data)}
    whole = b"".join(pieces)
    assert disk == {offset + k: byte for k, byte in enumerate(whole)}


@given(st.integers(1, 2**30), st.integers(1, 2**16))
def test_S2_segments_are_whole_pages_and_whole_rows(target, row_bytes):
    """The smallest such size that holds the target."""
    size, unit = segment_bytes(target, row_bytes), lcm(65_536, row_bytes)
    assert size % 65_536 == 0
    assert size % row_bytes == 0
    assert target <= size < target + unit


slots = st.builds(Slot, *(st.integers(0, 2**64 - 1) for _ in range(4)), st.integers(0, 2**32 - 1))


@given(slots)
def test_S14_a_torn_slot_leaves_its_predecessor(slot):
    """Slots alternate; whatever byte is torn, the other slot is found."""
    if slot.generation == 0:
        return
    before = Slot(slot.generation - 1, committed=5)
    state = bytearray(1024)
    for one in (before, slot):
        state[one.offset : one.offset + 512] = one.pack()
    assert newest_slot(bytes(state)) == slot
    for at in range(44):
        torn = bytearray(state)
        torn[slot.offset + at] ^= 0xFF
        assert newest_slot(bytes(torn)) == before
    assert newest_slot(bytes(1024)) is None
    assert newest_slot(b"") is None


SPECTRUM = Signal(np.dtype("<f4"), ("x",), rate=Fraction(1, 7), axes=(Axis("f", "Hz", 3200, 0.0, 2.5),))


@pytest.mark.parametrize("signal", [VIBRATION, WEATHER, SPECTRUM, None])
def test_S5_stream_json_says_all_about_a_stream(signal):
    info = StreamInfo.new("events" if signal is None else "rows", signal, 10**6, created=12)
    assert StreamInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1}', b"\xff"])
def test_a_stream_json_that_is_none_is_corrupt(content):
    with pytest.raises(Corrupt, match=r"stream\.json"):
        StreamInfo.from_json(content, "a")


def test_a_later_format_is_told_apart(monkeypatch):
    """An old program refuses a new stream instead of misreading it."""
    info = StreamInfo.new("bytes", None, 1, 0)
    with pytest.raises(Corrupt, match="does not know"):
        StreamInfo.from_json(info.to_json().replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize(
    ("chunk", "row_bytes", "why"),
    [
        (Chunk([]), None, "needs a part"),
        (Chunk([Part([b"x"])], chunk_id=b"short"), None, "16 bytes"),
        (Chunk([Part([b"1234567"], count=1)]), 8, "not 1 rows of 8 bytes"),
        (Chunk([Part([b"12345678"], count=2)]), 8, "not 2 rows"),
        (Chunk([Part([memoryview(b"123456")[::2]])]), None, "contiguous"),
        (Chunk([Part([np.zeros(3)])]), None, "bytes or contiguous"),
        (Chunk([Part(["text"])]), None, "bytes or contiguous"),
        (Chunk([Part([np.zeros(2, "f4,i2").data], 2)]), 6, "plain numbers"),
        (Chunk([Part([np.array(1.0).data])]), None, "plain numbers"),
        (Chunk([Part([b"12"], count=1)]), 1, "not 1 rows of 1 bytes"),
    ],
)
def test_chunks_that_would_break_a_stream_are_refused(chunk, row_bytes, why):
    with pytest.raises(BadData, match=why):
        check_chunk(chunk, row_bytes)


def test_a_view_of_wider_items_counts_in_bytes():
    """The length of a memoryview is in items; on disk it is bytes."""
    data = np.arange(4, dtype="<f8")
    chunk = Chunk([Part([data.data, np.empty((0, 2)).data, np.empty((2, 0)).data, data.reshape(2, 2).data], count=8)])
    check_chunk(chunk, 8)
    plan = lay_out(Tail(), [chunk], 1)
    assert b"".join(map(bytes, plan.pieces)) == data.tobytes() * 2
