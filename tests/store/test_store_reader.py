"""Reading by row, record and time: against a plain list of rows as the oracle."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.store_kit import RATE, SMALL, VIBRATION, WEATHER, Disk, blob, rows, samples
from wendelin_stream.batch import Batch, Gap, ticks
from wendelin_stream.errors import ConfigError, Corrupt
from wendelin_stream.store import Chunk, Flag, Part, Store, StreamReader


@dataclass(frozen=True)
class Row:
    """The oracle: one row, its time, and the hole before it, if there is one."""

    value: object
    time: int
    gap: tuple[int, int] | None = None


def filled(path, chunks, signal):
    """A store with one stream `a` of these chunks."""
    with Store(path, SMALL, fs=Disk()) as store:
        writer = store.writer("a", "rows", signal)
        for ticket in [writer.append(chunk) for chunk in chunks]:
            ticket.wait(10)
    return StreamReader.open(path, "a")


def regular(plan):
    """Chunks of VIBRATION, and what they hold: plan is a list of (rows, rows since the anchor or None, jump)."""
    chunks, expected, first, anchor, index = [], [], 0, 10**18, 0
    for count, new_anchor, empty in plan:
        flags, gap = Flag(0), None
        if new_anchor:
            before = anchor + ticks(index, RATE)
            anchor, index = before + new_anchor, 0
            if expected:
                flags, gap = Flag.GAP, (before, anchor)
            else:
                anchor = 10**18
        if empty:
            chunks.append(Chunk([Part([])]))
        t_first = anchor + ticks(index, RATE)
        t_last = anchor + ticks(index + count - 1, RATE)
        chunks.append(Chunk([rows(first, count, t_first, row=index, flags=flags, t_last=t_last)]))
        for k in range(count):
            value = (float(first + k), -float(first + k))
            expected.append(Row(value, anchor + ticks(index + k, RATE), gap if k == 0 else None))
        first, index = first + count, index + count
    return chunks, expected


plans = st.lists(
    st.tuples(st.integers(1, 5), st.one_of(st.just(0), st.integers(1, 10**6)), st.booleans()), min_size=1, max_size=8
)


def flattened(items):
    """The rows that items hold, with the gap before each."""
    out, gap = [], None
    for item in items:
        if isinstance(item, Gap):
            assert gap is None
            gap = item
            continue
        assert isinstance(item, Batch)
        assert not item.rows.flags.writeable
        for k, row in enumerate(item.rows):
            if gap is not None and k == 0:
                assert gap.position == item.position
            hole = (gap.start, gap.stop) if gap is not None and k == 0 else None
            assert int(item.times()[k].astype(np.int64)) == item.time(k)
            out.append((item.position + k, Row(tuple(row.tolist()), item.time(k), hole)))
        gap = None
    assert gap is None
    return out


shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@shared
@given(plan=plans, data=st.data())
def test_items_are_the_rows_with_exact_times_however_they_are_cut(tmp_path_factory, plan, data):
    """Start anywhere, take any number of rows: values, times to the nanosecond and holes are those of the list."""
    chunks, expected = regular(plan)
    with filled(tmp_path_factory.mktemp("s"), chunks, VIBRATION) as reader:
        start = data.draw(st.integers(0, len(expected) + 1))
        count = data.draw(st.integers(0, len(expected) + 1))
        found = flattened(reader.items(start, count))
        stop = min(start + count, len(expected))
        assert found == [
            (k, row if k > start or row.gap is None or _first_of_record(plan, k) else None)
            for k, row in list(enumerate(expected))[start:stop]
        ]
        assert reader.times(start, start + count).astype(np.int64).tolist() == [
            row.time for row in expected[start:stop]
        ]
        assert reader.rows == len(expected) == len(reader.array)


def _first_of_record(plan, k):
    return k in np.cumsum([0, *(count for count, _, _ in plan)])


@shared
@given(plan=plans, at=st.integers(-3, 40), off=st.sampled_from([-1, 0, 1]))
def test_row_at_a_time_is_the_first_such_row(tmp_path_factory, plan, at, off):
    """In a stream in order it is exact: the row before is earlier, the row itself is not."""
    chunks, expected = regular(plan)
    with filled(tmp_path_factory.mktemp("s"), chunks, VIBRATION) as reader:
        time = 10**18 + ticks(at, RATE) + off if at < 0 else expected[min(at, len(expected) - 1)].time + off
        found = reader.row_at(time)
        assert found == next((k for k, row in enumerate(expected) if row.time >= time), len(expected))
        assert reader.first_time() == expected[0].time
        assert reader.last_time() == expected[-1].time


@shared
@given(
    records=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=4), min_size=1, max_size=12),
    time=st.integers(-1, 62),
)
def test_S34_time_lookup_misses_nothing_in_any_disorder(tmp_path_factory, records, time):
    """Late and out-of-order rows: before the row found nothing is at or after the time (against brute force)."""
    chunks = []
    for times in records:
        data = np.array([(t, t, t) for t in times], WEATHER.dtype)
        chunks.append(Chunk([Part([data.tobytes()], len(times), min(times), max(times))]))
    flat = [t for times in records for t in times]
    with filled(tmp_path_factory.mktemp("s"), chunks, WEATHER) as reader:
        row = reader.row_at(time)
        assert row == next((k for k, t in enumerate(flat) if t >= time), len(flat))
        record = reader.record_at(time)
        assert record == next((k for k, times in enumerate(records) if max(times) >= time), len(records))
        assert reader.last_time() == max(flat)
        assert reader.first_time() == min(records[0])
        assert reader.times(0, len(flat)).astype(np.int64).tolist() == flat


def test_rows_with_a_time_field_are_items_without_an_anchor(store_path):
    """Their gap begins at the last time that was seen."""
    parts = []
    for first, flags in ((10, Flag(0)), (50, Flag.GAP)):
        data = np.array([(first, 1, 2), (first + 1, 3, 4)], WEATHER.dtype)
        parts.append(Chunk([Part([data.tobytes()], 2, first, first + 1, flags=flags)]))
    with filled(store_path, parts, WEATHER) as reader:
        one, gap, two = reader.items(0, 100)
        assert (one.anchor, one.index, one.position, one.time(1)) == (0, 0, 0, 11)
        assert gap == Gap(11, 50, 2)
        assert (two.position, len(two)) == (2, 2)
        assert [type(item) for item in reader.items(1, 1)] == [Batch]
        assert [type(item) for item in reader.items(1, 2)] == [Batch, Gap, Batch]
        assert [type(item) for item in reader.items(2, 2)] == [Gap, Batch]
        assert [type(item) for item in reader.items(3, 2)] == [Batch]


def test_a_gap_before_the_first_record_is_as_long_as_is_known(store_path):
    with filled(store_path, [Chunk([rows(0, 3, 77, flags=Flag.GAP)])], VIBRATION) as reader:
        assert next(reader.items(0, 9)) == Gap(77, 77, 0)


def test_items_over_many_records_and_segments(store_path):
    """More records than are looked at together, rows in several segments: nothing is lost at the borders."""
    chunks = [Chunk([rows(k * 7, 7, row=k * 7)]) for k in range(3000)]
    with filled(store_path, chunks, VIBRATION) as reader:
        found = np.concatenate([item.rows for item in reader.items(5, 20_000)])
        np.testing.assert_array_equal(found, samples(5, 20_000))
        assert len(list((store_path / "streams/a/data").iterdir())) == 3
        np.testing.assert_array_equal(reader.slice(8_190, 8_195), samples(8_190, 5))


def test_records_on_one_time_base_are_one_batch(store_path):
    """Small records cost operators nothing: they come together until a clock jumps or a mebibyte is full."""
    late = [(k * 70_000, 70_000, 5 if k < 3 else 99) for k in range(5)]  # 560 kB each; row 210 000 comes 94 ns late
    chunks = [Chunk([rows(first, n, anchor + ticks(first, RATE), row=first)]) for first, n, anchor in late]
    with filled(store_path, chunks, VIBRATION) as reader:
        found = list(reader.items(10, 349_000))
        assert [(item.anchor, item.index, item.position, len(item)) for item in found] == [
            (5, 10, 10, 139_990),
            (5, 140_000, 140_000, 70_000),
            (99, 210_000, 210_000, 139_010),
        ]


@pytest.mark.parametrize("signal", [VIBRATION, WEATHER])
def test_times_of_a_range_that_begins_before_the_stream_end_where_they_should(store_path, signal):
    """As a slice does: rows that are not there are left out, not replaced by later ones."""
    data = np.zeros(9, signal.dtype) if signal is WEATHER else samples(0, 9)
    with filled(store_path, [Chunk([Part([data.tobytes()], 9)])], signal) as reader:
        assert len(reader.times(-5, 4)) == len(reader.slice(-5, 4)) == 4


def test_a_missing_data_file_is_reported_not_read_as_the_end(store_path):
    """Who copies a stream must not take half of it for all."""
    filled(store_path, [Chunk([rows(0, 20_000)])], VIBRATION).close()
    (store_path / "streams/a/data" / f"{65_536:020d}.data").unlink()
    with StreamReader.open(store_path, "a") as reader:
        assert len(reader.read(0, 65_536)) == 65_536
        with pytest.raises(Corrupt, match="stream a at byte 65536: bytes are durable but not there"):
            reader.read(10, 100_000)


def test_S21_a_reader_never_goes_back(store_path, monkeypatch):
    """A read that meets two publications may see one slot from before the first, the other torn by the second."""
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        writer.append(blob(b"x")).wait(5)
        old = (store_path / "streams/a/state").read_bytes()
        for _ in range(3):
            writer.append(blob(b"x")).wait(5)
        with writer.reader() as reader:
            torn = [old[:512] + bytes(512), bytes(512) + old[512:], bytes(1024)]
            plain = os.pread
            monkeypatch.setattr(os, "pread", lambda fd, *where: torn.pop() if torn else plain(fd, *where))
            assert reader.refresh() == 4
            assert torn == []


def test_read_is_clipped_to_what_is_durable(store_path):
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        for k in range(20):
            writer.append(blob(bytes([k]) * 10_000))
        writer.append(blob(b"")).wait(5)
        with writer.reader() as reader:
            whole = b"".join(bytes([k]) * 10_000 for k in range(20))
            assert reader.read(65_530, 20) == whole[65_530:65_550]
            assert reader.read(-5, 10**9) == whole
            assert reader.read(200_000, 1) == reader.read(10**12, 1) == reader.read(5, -1) == b""


def test_index_ranges_are_clipped(store_path):
    with filled(store_path, [Chunk([rows(k, 1)]) for k in range(5)], VIBRATION) as reader:
        assert reader.index()["seq"].tolist() == [0, 1, 2, 3, 4]
        assert reader.index(3, 99)["seq"].tolist() == [3, 4]
        assert len(reader.index(4, 2)) == len(reader.index(9)) == 0
        assert not reader.index().flags.writeable


def test_an_empty_stream_has_no_time_and_no_rows(store_path):
    with filled(store_path, [], VIBRATION) as reader:
        assert reader.array.shape == (0, 2)
        assert list(reader.items(0, 10)) == []
        assert (reader.rows, reader.row_at(5), reader.record_at(5)) == (0, 0, 0)
        assert reader.first_time() is reader.last_time() is None
        assert len(reader.times(0, 10)) == 0


def test_untyped_streams_have_no_rows(store_path):
    with Store(store_path, SMALL) as store, store.writer("a", "events").reader() as reader:
        for ask in (lambda: list(reader.items(0, 1)), lambda: reader.row_at(0), lambda: reader.times(0, 1)):
            with pytest.raises(ConfigError, match="holds events, not rows"):
                ask()


def test_S21_a_reader_sees_what_is_published_and_not_before_it_looks(store_path):
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "rows", VIBRATION)
        with writer.reader() as reader:
            writer.append(Chunk([rows(0, 10)])).wait(5)
            assert (reader.rows, len(reader.array)) == (0, 0)
            assert reader.refresh() == 1
            assert (reader.rows, reader.end, len(reader.array)) == (10, 80, 10)


def test_a_reader_opens_nothing_for_writing(store_path):
    """Notebooks read the store of a service that runs as somebody else."""
    with filled(store_path, [Chunk([rows(k, 1)]) for k in range(5)], VIBRATION) as reader:
        assert len(reader.read(0, 99)) == 40
        every = [path.name for path in Path("/proc/self/fd").iterdir()]
        mine = [int(fd) for fd in every if str(store_path) in _target(fd)]
        assert len(mine) == 3
        assert {fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE for fd in mine} == {os.O_RDONLY}


def _target(fd):
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except FileNotFoundError:
        return ""


def test_a_state_file_without_a_valid_slot_is_reported(store_path):
    filled(store_path, [Chunk([rows(0, 1)])], VIBRATION).close()
    (store_path / "streams/a/state").write_bytes(b"\xff" * 1024)
    with pytest.raises(Corrupt, match="no slot"):
        StreamReader.open(store_path, "a")


def test_an_index_that_is_shorter_than_the_watermark_is_reported(store_path):
    filled(store_path, [Chunk([rows(0, 1)])], VIBRATION).close()
    (store_path / "streams/a/index" / f"{0:020d}.idx").unlink()
    with pytest.raises(Corrupt, match="record 0 is durable but not there"):
        StreamReader.open(store_path, "a")
