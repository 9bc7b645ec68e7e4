"""The contiguous view: equal to `read`, growing in place, outliving its reader, frugal with addresses."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from tests.store.store_kit import SMALL, VIBRATION, Disk, rows, samples
from wendelin_stream.store import Chunk, Store
from wendelin_stream.store import reader as reader_module
from wendelin_stream.store.files import FileNames
from wendelin_stream.store.view import View

SEGMENT_ROWS = 65_536 // 8


@pytest.fixture
def store(store_path):
    with Store(store_path, SMALL, fs=Disk()) as store:
        yield store


def grow(writer, count):
    first = writer.end // 8
    writer.append(Chunk([rows(first, count, row=first)])).wait(10)
    return first + count


def maps():
    with open("/proc/self/maps") as file:
        return [line for line in file if "/streams/" in line]


def test_S42_the_view_equals_read_over_segments_and_grows(store):
    """Each byte of it is what `read` gives; after a refresh a new array shows the new rows."""
    writer = store.writer("a", "rows", VIBRATION)
    with writer.reader() as reader:
        arrays = []
        for count in (5, SEGMENT_ROWS - 6, 2, 3 * SEGMENT_ROWS):
            total = grow(writer, count)
            reader.refresh()
            arrays.append(reader.array)
            assert arrays[-1].tobytes() == reader.read(0, reader.end)
            np.testing.assert_array_equal(arrays[-1], samples(0, total))
        for array in arrays:
            np.testing.assert_array_equal(array, samples(0, len(array)))


def test_S42_growing_never_moves_what_was_handed_out(store):
    """All arrays of one reader begin at the same address."""
    writer = store.writer("a", "rows", VIBRATION)
    with writer.reader() as reader:
        where = set()
        for _ in range(4):
            grow(writer, SEGMENT_ROWS)
            reader.refresh()
            where.add(reader.array.ctypes.data)
    assert len(where) == 1


def test_a_view_that_outgrows_its_addresses_gets_more_and_old_arrays_stay(store, monkeypatch):
    """A reservation is not a limit."""
    monkeypatch.setattr(reader_module, "DATA_RESERVE", 65_536)
    writer = store.writer("a", "rows", VIBRATION)
    with writer.reader() as reader:
        kept = []
        for _ in range(12):
            total = grow(writer, SEGMENT_ROWS)
            reader.refresh()
            kept.append(reader.array)
        assert len({array.ctypes.data for array in kept}) > 1
    for array in kept:
        np.testing.assert_array_equal(array, samples(0, total)[: len(array)])


def test_S42_a_slice_outlives_reader_and_store_and_then_all_is_unmapped(store):
    """`weakref.finalize` unmaps after the last slice, not before, not never."""
    writer = store.writer("a", "rows", VIBRATION)
    grow(writer, 2 * SEGMENT_ROWS + 5)
    reader = writer.reader()
    piece = reader.array[SEGMENT_ROWS - 2 : SEGMENT_ROWS + 2, 0]
    index = reader.index()[-1:]
    reader.close()
    store.close()
    del reader
    gc.collect()
    assert len(maps()) == 4
    np.testing.assert_array_equal(piece, samples(SEGMENT_ROWS - 2, 4)[:, 0])
    assert index["count"].tolist() == [2 * SEGMENT_ROWS + 5]
    del piece, index
    gc.collect()
    assert maps() == []


def test_arrays_are_read_only(store):
    """The files are the truth: nobody writes to them by accident."""
    writer = store.writer("a", "rows", VIBRATION)
    grow(writer, 5)
    with writer.reader() as reader:
        with pytest.raises(ValueError, match="read-only"):
            reader.array[0] = 1
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            reader.array.flags.writeable = True


def test_S22_pages_behind_the_end_are_zeros_not_a_signal(store):
    """Files have full length from the start, so that the mapped rest of the last one may be touched."""
    writer = store.writer("a", "rows", VIBRATION)
    grow(writer, 3)
    with writer.reader() as reader:
        whole = reader._data_view.window(0, 65_536)
        assert not whole[24:].any()
        grow(writer, 1)
        assert whole[24:32].tobytes() == samples(3, 1).tobytes()


def test_a_forked_child_reads_and_leaves_the_parents_maps_alone(store):
    """fork without exec, as multiprocessing does: maps are inherited, and unmapped in the child only."""
    writer = store.writer("a", "rows", VIBRATION)
    grow(writer, SEGMENT_ROWS + 5)
    with writer.reader() as reader:
        array = reader.array
        child = _fork(lambda: int(array[:, 0].sum() == samples(0, SEGMENT_ROWS + 5)[:, 0].sum()))
        assert child == 1
        np.testing.assert_array_equal(array, samples(0, SEGMENT_ROWS + 5))


def _fork(work):
    """Exit code of `work` in a child that runs no handlers at exit."""
    with warnings.catch_warnings():  # newer Pythons warn of threads, which the child does not touch
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
            gc.collect()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


SCARCE = """
import resource, sys, gc
import numpy as np
from pathlib import Path
from wendelin_stream.store import StreamReader
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * 4096
limit = used + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with StreamReader.open(Path(sys.argv[1]), "a") as reader:
    total = 0.0
    for item in reader.items(0, reader.rows):
        total += float(item.rows[:, 0].astype("f8").sum())
    print(reader._data_view._scarce, reader.rows, total, flush=True)
    if not reader._data_view._scarce:
        print(float(reader.array[:, 0].astype("f8").sum()))
"""


@pytest.mark.parametrize(("room", "scarce"), [(600 * 2**20, False), (6 * 2**20, True)])
def test_S42_where_addresses_are_scarce_it_reserves_less_or_maps_file_by_file(store, store_path, room, scarce):
    """Under ``ulimit -v`` reading goes on: with a smaller reservation, or without any."""
    writer = store.writer("a", "rows", VIBRATION)
    for _ in range(16):
        grow(writer, 8 * SEGMENT_ROWS - 3)
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", SCARCE, store_path, str(room)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *more = done.stdout.splitlines()
    count = 16 * (8 * SEGMENT_ROWS - 3)
    total = float(samples(0, count)[:, 0].astype("f8").sum())
    assert first.split() == [str(scarce), str(count), str(total)]
    assert more == ([] if scarce else [str(total)])


def test_without_addresses_a_range_is_a_map_within_a_file_and_a_copy_across(tmp_path, monkeypatch):
    """The fall-back gives the same bytes, read-only, and what was handed out stays valid."""
    names = FileNames(tmp_path, ".data", 65_536)
    content = np.random.default_rng(1).integers(0, 256, 3 * 65_536, dtype=np.uint8)
    for number in range(3):
        names.path(number).write_bytes(content[number * 65_536 :][:65_536].tobytes())
    view = View(names, 2**30)
    early = view.window(10, 20)

    def refuse(self, start, stop):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(View, "_contiguous", refuse)
    windows = [(0, 5), (65_530, 65_536), (65_530, 65_540), (5, 3 * 65_536), (70_000, 70_001), (4, 4)]
    for start, stop in windows:
        window = view.window(start, stop)
        np.testing.assert_array_equal(window, content[start:stop])
        assert not window.flags.writeable
    np.testing.assert_array_equal(early, content[10:20])


def test_a_missing_file_is_an_error_not_a_fall_back(tmp_path):
    view = View(FileNames(tmp_path, ".data", 65_536), 2**30)
    with pytest.raises(FileNotFoundError):
        view.window(0, 10)


def test_thousands_of_readers_reserve_nothing_before_they_are_used(store, store_path):
    """A reader that only asks how long the stream is takes no addresses."""
    writer = store.writer("a", "rows", VIBRATION)
    grow(writer, 5)
    before = _addresses()
    readers = [writer.reader() for _ in range(200)]
    assert sum(reader.rows for reader in readers) == 1000
    assert _addresses() - before < 2**28
    for reader in readers:
        reader.close()


def test_many_views_fit_into_the_address_space(store):
    """A reservation is modest: a thousand readers in use take a small part of what a process has (2**47)."""
    writer = store.writer("a", "rows", VIBRATION)
    grow(writer, 5)
    readers = [writer.reader() for _ in range(300)]
    arrays = [reader.array for reader in readers]
    assert all(np.array_equal(array, samples(0, 5)) for array in arrays)
    for reader in readers:
        reader.close()


def _addresses():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
