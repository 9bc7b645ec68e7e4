"""Opening after a crash: all that was acknowledged, nothing half, and damage is never cut away."""

from __future__ import annotations

import json
import os
import shutil
import threading

import numpy as np
import pytest

from tests.store.store_kit import SMALL, Diary, Disk, blob, crash, number, tree, written
from wendelin_stream.errors import Corrupt, Locked
from wendelin_stream.store import Chunk, Flag, Part, Store, StreamReader, stream_names
from wendelin_stream.store.format import INDEX_BYTES, INDEX_RECORDS, RECORD_BYTES, Slot, newest_slot

ACKED = [blob(bytes([65 + k]) * (100 + k), chunk_id=number(k)) for k in range(3)]
LATE = [
    blob(b"x" * 50, b"y" * 60, b"z" * 70, chunk_id=number(10)),
    blob(b"single", chunk_id=number(11)),
    blob(b"p" * 30, b"", b"q" * 3, chunk_id=number(12), producer=5, position=6),
]


def content(chunk):
    return b"".join(bytes(piece) for part in chunk.parts for piece in part.data)


def crashed(path, *, acked=ACKED, late=LATE):
    """A stream with acknowledged chunks and some that were written, but neither synced nor published."""
    disk = Disk()
    store = Store(path, SMALL, fs=disk)
    writer = store.writer("a", "bytes")
    for chunk in acked:
        writer.append(chunk).wait(5)
    disk.syncs.clear()
    for chunk in late:
        before = disk.writes
        writer.append(chunk)
        written(disk, before + 2)
    crash(store, disk)
    return path / "streams" / "a"


def reopened(path):
    """All bytes and record flags after recovery, and that another recovery gives the same."""
    found = []
    for _ in range(2):
        with Store(path, SMALL, fs=Disk()) as store, store.writer("a").reader() as reader:
            found.append((reader.read(0, 10**9), [int(f) for f in reader.index()["flags"]]))
    assert found[0] == found[1]
    return found[0]


def prefixes(acked=ACKED, late=LATE):
    """What may be there after a crash: the acknowledged, and any number of the others, each whole."""
    base = b"".join(map(content, acked))
    return [base + b"".join(map(content, late[:n])) for n in range(len(late) + 1)]


def test_S27_what_was_written_before_a_kill_is_kept_and_synced_before_it_shows(store_path):
    """Nothing is missing, so all of it is accepted; it is written again and synced before the publication."""
    crashed(store_path)
    diary = Diary()
    with Store(store_path, SMALL, fs=diary) as store:
        writer = store.writer("a")
        assert writer.end == len(prefixes()[-1])
    order = diary.entries
    data, index = f"{0:020d}.data", f"{0:020d}.idx"
    publication = order.index(("write", "state"))
    for step in (("write", data), ("sync", data), ("write", index), ("sync", index), ("sync", "index")):
        assert order.index(step) < publication
    assert order.index(("write", data)) < order.index(("sync", data))
    assert order.index(("write", index)) < order.index(("sync", index))


def test_S26_a_tail_cut_at_every_byte_of_the_index_keeps_whole_chunks_only(store_path, tmp_path):
    """Cut the index at each byte behind the watermark (zeros from there, as in a sparse file, or a shorter file)."""
    crashed(store_path)
    start, stop = len(ACKED) * RECORD_BYTES, (len(ACKED) + 6) * RECORD_BYTES
    whole = _snapshot(store_path)
    allowed = prefixes()
    for at in range(start + 3 * RECORD_BYTES, stop):
        for short in (False, True)[: 2 if at % 8 == 0 else 1]:
            folder = _restore(whole, tmp_path / "copy")
            with open(folder / "index" / f"{0:020d}.idx", "r+b") as file:
                old = file.read(stop)
                file.truncate(at)
                file.truncate(at if short else INDEX_BYTES)
            found, flags = reopened(folder.parent.parent)
            assert found in allowed
            assert not flags or not flags[-1] & Flag.MORE
            same = at if short else len(old) - len(old[at:].lstrip(b"\0"))
            records = (same - start) // RECORD_BYTES
            assert found == allowed[0 if records < 3 else 1 if records < 4 else 2 if records < 7 else 3]


def test_S26_a_tail_of_lost_payload_is_cut_at_the_first_lost_byte(store_path, tmp_path):
    """The index got to the disk, the data did not: the payload CRC tells (each byte in turn is changed)."""
    crashed(store_path)
    whole = _snapshot(store_path)
    allowed = prefixes()
    for at in range(len(allowed[0]), len(allowed[-1]), 3):
        folder = _restore(whole, tmp_path / "copy")
        with open(folder / "data" / f"{0:020d}.data", "r+b") as file:
            file.seek(at)
            old = file.read(1)
            file.seek(at)
            file.write(bytes([old[0] ^ 1]))
        found, _ = reopened(folder.parent.parent)
        assert found == max((p for p in allowed if len(p) <= at), key=len)


def test_a_chunk_is_stored_whole_or_not_at_all(store_path, tmp_path):
    """Without the record of its last part, the parts that are there are dropped, and it may come again."""
    crashed(store_path, late=LATE[:1])
    folder = store_path / "streams" / "a"
    with open(folder / "index" / f"{0:020d}.idx", "r+b") as file:
        file.seek((len(ACKED) + 2) * RECORD_BYTES)
        file.write(bytes(RECORD_BYTES))
    with Store(store_path, SMALL) as store:
        writer = store.writer("a")
        assert writer.end == len(prefixes()[0])
        assert not writer.known(number(10))
        assert not writer.append(LATE[0]).wait(5).duplicate
        with writer.reader() as reader:
            assert reader.read(0, 10**6) == prefixes()[1]


def test_S28_what_is_cut_off_is_kept_in_quarantine_and_zeroed(store_path, caplog):
    """The stale records are copied first; behind the end the index is zero; later index files too."""
    folder = crashed(store_path)
    later = folder / "index" / f"{INDEX_RECORDS:020d}.idx"
    later.write_bytes(b"stale".ljust(1000, b"\0"))
    index = folder / "index" / f"{0:020d}.idx"
    with open(index, "r+b") as file:
        file.seek((len(ACKED) + 1) * RECORD_BYTES + 20)
        file.write(b"\xff")
    before = index.read_bytes()
    Store(store_path, SMALL).close()
    with Store(store_path, SMALL) as store:
        end = store.writer("a").records
    assert end == len(ACKED)
    assert index.read_bytes() == before[: end * RECORD_BYTES].ljust(len(before), b"\0")
    assert not any(later.read_bytes())
    kept = {path.name: path.read_bytes() for path in (folder / "quarantine").iterdir()}
    assert kept == {
        f"{end:020d}.0.idx": before[end * RECORD_BYTES :].rstrip(b"\0"),
        f"{INDEX_RECORDS:020d}.0.idx": b"stale",
    }
    assert "kept in" in caplog.text


def test_S9_S28_a_stale_tail_does_not_come_back_behind_new_records(store_path):
    """Cut, append less than was cut, crash again: the old records that lie behind must not be accepted.

    With the zeroing undone (as if it had not reached the disk) the chained CRC alone must do it.
    """
    folder = crashed(store_path)
    index = folder / "index" / f"{0:020d}.idx"
    stale = index.read_bytes()
    with open(index, "r+b") as file:  # the first late record is lost, the others are there
        file.seek(len(ACKED) * RECORD_BYTES)
        file.write(bytes(RECORD_BYTES))
    new = blob(b"n" * 180)
    with Store(store_path, SMALL) as store:
        store.writer("a").append(new).wait(5)
    with open(index, "r+b") as file:
        at = (len(ACKED) + 1) * RECORD_BYTES
        file.seek(at)
        file.write(stale[at : at + 20 * RECORD_BYTES])
    found, _ = reopened(store_path)
    assert found == prefixes()[0] + content(new)


def test_S30_a_stream_that_takes_long_to_open_holds_up_no_other(store_path):
    """Nor is it abandoned by `close`, which waits for it."""
    crashed(store_path)
    disk = Disk()
    others_turn, reached = threading.Event(), threading.Event()

    def slowly(operation, call):
        if threading.current_thread().name == "slow":
            reached.set()
            assert others_turn.wait(5)

    disk.fail = slowly
    opened = []
    with Store(store_path, SMALL, fs=disk) as store:
        slow = threading.Thread(target=lambda: opened.append(store.writer("a").end), name="slow")
        slow.start()
        assert reached.wait(5)
        assert store.writer("b", "bytes").append(blob(b"x")).wait(5).end == 1
        others_turn.set()
    slow.join()
    assert opened == [len(prefixes()[-1])]


@pytest.mark.parametrize("later", [False, True])
def test_S26_without_any_slot_nothing_is_cut(store_path, later):
    """What tells a torn tail from damage is lost: all that lies behind a bad record may have been acknowledged."""
    folder = crashed(store_path)
    index = folder / "index" / f"{0:020d}.idx"
    if later:  # the beginning of the index is gone
        index.rename(folder / "index" / f"{INDEX_RECORDS:020d}.idx")
    else:
        with open(index, "r+b") as file:
            file.seek(RECORD_BYTES + 40)
            file.write(b"\xff")
    (folder / "state").write_bytes(bytes(1024))
    before = tree(store_path)
    with Store(store_path, SMALL) as store, pytest.raises(Corrupt, match=r"no slot .* nothing was changed"):
        store.writer("a")
    assert tree(store_path) == before


def test_S3_files_that_a_crash_left_short_get_their_full_length(store_path):
    """What is accepted of them is durable from then on, and readers may map all of them."""
    folder = crashed(store_path, acked=[])
    data, index = folder / "data" / f"{0:020d}.data", folder / "index" / f"{0:020d}.idx"
    os.truncate(data, len(prefixes(acked=[])[-1]))
    os.truncate(index, 7 * RECORD_BYTES)
    found, _ = reopened(store_path)
    assert found == prefixes(acked=[])[-1]
    assert (data.stat().st_size, index.stat().st_size) == (65_536, INDEX_BYTES)


@pytest.mark.parametrize("where", ["index", "data missing", "data short", "index missing", "index short"])
def test_S26_damage_below_the_watermark_stops_the_opening_and_changes_nothing(store_path, where):
    """The error names stream, records and place; every file stays as it was, however often it is tried."""
    folder = crashed(store_path)
    index, data = folder / "index" / f"{0:020d}.idx", folder / "data" / f"{0:020d}.data"
    if where == "index":
        with open(index, "r+b") as file:
            file.seek(RECORD_BYTES + 40)
            file.write(b"\xff")
    elif where == "data missing":
        data.unlink()
    elif where == "data short":
        os.truncate(data, 65_535)
    elif where == "index missing":
        index.unlink()
    else:
        os.truncate(index, 2 * RECORD_BYTES + 5)
    before = tree(store_path)
    for _ in range(2):
        with Store(store_path, SMALL) as store, pytest.raises(Corrupt) as told:
            store.writer("a")
        assert tree(store_path) == before
        assert told.value.stream == "a"
        assert "nothing was changed" in str(told.value)
    if where == "index":
        assert told.value.position == 100
        assert "index records 1 to 2 are durable but record 1 does not check" in str(told.value)


def test_S6_each_opening_raises_the_epoch_and_it_is_in_the_records(store_path):
    for opening in range(1, 4):
        with Store(store_path, SMALL) as store:
            writer = store.writer("a", "bytes")
            writer.append(blob(b"x")).wait(5)
            assert writer.last()["writer_epoch"] == opening
    with StreamReader.open(store_path, "a") as reader:
        assert reader.index()["writer_epoch"].tolist() == [1, 2, 3]


def test_S6_a_boot_id_that_cannot_be_read_does_not_stop_the_start(store_path, monkeypatch, tmp_path):
    monkeypatch.setattr("wendelin_stream.store.lock.BOOT_ID", tmp_path / "hidden")
    with Store(store_path, SMALL) as store:
        assert store.writer("a", "bytes").append(blob(b"x")).wait(5).end == 1


def test_S6_a_second_writer_hears_who_has_the_stream(store_path):
    """Even in the same process: another `Store` is another writer. The first is not disturbed."""
    with Store(store_path, SMALL) as store, Store(store_path, SMALL) as other:
        writer = store.writer("a", "bytes")
        with pytest.raises(Locked, match=rf"stream a is being written by process {os.getpid()} on host \S+"):
            other.writer("a")
        assert other.writer("b", "bytes").append(blob(b"x")).wait(5).end == 1
        assert writer.append(blob(b"x")).wait(5).end == 1
    with Store(store_path, SMALL) as other:
        assert other.writer("a").end == 1


def test_a_creation_that_was_cut_short_is_neither_a_stream_nor_in_the_way(store_path):
    """A crash at any step of a creation leaves a nameless folder; the next start sweeps it away."""
    Store(store_path, SMALL).close()
    for step in range(1, 20):
        disk = Disk()
        store = Store(store_path, SMALL, fs=disk)
        calls = 0

        def cut(operation, call):
            nonlocal calls
            calls += 1
            return 5 if calls >= step else None  # noqa: B023

        disk.fail = cut
        try:
            store.writer("a", "bytes")
        except Exception as error:
            assert "cannot" in str(error)  # noqa: PT017
        disk.fail = lambda operation, call: None
        store.close()
        assert stream_names(store_path) in ([], ["a"])
    with Store(store_path, SMALL) as store:
        assert store.writer("a", "bytes").append(blob(b"x")).wait(5).end == 1
    assert [p.name for p in (store_path / "streams").iterdir()] == ["a"]


def test_a_folder_that_is_no_stream_is_named(store_path):
    """Somebody's files are not overwritten; an empty folder is in nobody's way."""
    with Store(store_path, SMALL) as store:
        (store_path / "streams" / "a").mkdir()
        (store_path / "streams" / "b").mkdir()
        (store_path / "streams" / "b" / "notes.txt").write_text("mine")
        assert store.writer("a", "bytes").append(blob(b"x")).wait(5).end == 1
        with pytest.raises(Corrupt, match=r"no stream\.json; move it away"):
            store.writer("b", "bytes")


@pytest.mark.parametrize("file", ["stream.json", "attrs.json"])
def test_a_damaged_description_is_reported_by_writer_and_reader(store_path, file):
    """With the stream's name, not as a traceback of the JSON parser; the lock is given back."""
    crashed(store_path)
    (store_path / "streams" / "a" / file).write_text("{")
    with Store(store_path, SMALL) as store:
        for opening in (lambda: store.writer("a"), lambda: StreamReader.open(store_path, "a")):
            with pytest.raises(Corrupt, match=f"stream a: {file} cannot be read"):
                opening()


def test_S29_recovery_that_is_cut_anywhere_and_run_again_gives_the_same(store_path, tmp_path):
    """Crash at each write and sync of a recovery that has something to accept and something to cut."""
    folder = crashed(store_path)
    with open(folder / "index" / f"{0:020d}.idx", "r+b") as file:
        file.seek((len(ACKED) + 4) * RECORD_BYTES)
        file.write(b"\xff")
    whole = _snapshot(store_path)
    for step in range(1, 30):
        path = _restore(whole, tmp_path / "copy").parent.parent
        disk = Disk()
        store = Store(path, SMALL, fs=disk)
        calls = 0

        def cut(operation, call):
            nonlocal calls
            calls += 1
            return 5 if calls >= step else None  # noqa: B023

        disk.fail = cut
        finished = True
        try:
            store.writer("a")
        except Exception:
            finished = False
        store.close()
        found, flags = reopened(path)
        assert found == prefixes()[2]
        assert len(flags) == len(ACKED) + 4
    assert finished


def test_without_any_slot_the_log_is_found_from_its_beginning(store_path):
    """Both slots lost: slower, but all that checks is there."""
    folder = crashed(store_path)
    (folder / "state").write_bytes(bytes(1024))
    found, _ = reopened(store_path)
    assert found == prefixes()[-1]


def test_S30_recovery_starts_at_the_last_index_file(store_path):
    """A stream over two index files: appended, crashed and recovered across the border; only the last one is read."""
    disk = Disk()
    store = Store(store_path, SMALL, fs=disk)
    writer = store.writer("a", "bytes")
    border = INDEX_RECORDS - 2
    tickets = [writer.append(Chunk([Part([b"%06d" % k])])) for k in range(border)]
    tickets[-1].wait(30)
    disk.syncs.clear()
    before = disk.writes
    writer.append(Chunk([Part([b"%06d" % k]) for k in range(border, border + 5)]))
    written(disk, before + 4)  # both cross a border: two runs of payload, two of records
    crash(store, disk)
    with Store(store_path, SMALL) as store:
        writer = store.writer("a")
        assert writer.records == border + 5
        writer.append(blob(b"end")).wait(5)
    read = []
    with Store(store_path, SMALL) as store, store.writer("a").reader() as reader:
        assert store.writer("a").records == border + 6
        assert reader.read(0, 10**9) == b"".join(b"%06d" % k for k in range(border + 5)) + b"end"
        np.testing.assert_array_equal(reader.index()["seq"], np.arange(border + 6))
        assert reader.index(border, border + 4)["length"].tolist() == [6] * 4
    first = store_path / "streams" / "a" / "index" / f"{0:020d}.idx"
    with open(first, "r+b") as file:  # damage before the last index file is for a deep check, not for every start
        file.seek(1000 * RECORD_BYTES + 9)
        read.append(file.write(b"\xff"))
    with Store(store_path, SMALL) as store:
        assert store.writer("a").records == border + 6


def test_the_slot_on_disk_says_what_was_published(store_path):
    """Format check from outside: two alternating 512-byte slots."""
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        for _ in range(3):
            writer.append(blob(b"x")).wait(5)
    state = (store_path / "streams" / "a" / "state").read_bytes()
    assert len(state) == 1024
    assert newest_slot(state) == Slot(generation=5, committed=3, synced=3, first_record=0, writer_epoch=1)
    assert json.loads((store_path / "streams" / "a" / "stream.json").read_text())["index_record"] == 128


def _snapshot(store_path):
    """Sparse content of a store with the one stream `a`: the few bytes that are not zero."""
    return {name: (len(data), data.rstrip(b"\0")) for name, data in tree(store_path, but=()).items()}


def _restore(whole, path):
    """Make `path` that store again, by overwriting what is there (much faster than anew)."""
    shutil.rmtree(path / "streams" / "a" / "quarantine", ignore_errors=True)
    for name, (size, data) in whole.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(file, os.O_RDWR | os.O_CREAT), "r+b") as out:
            out.write(data)
            out.truncate()
            out.truncate(size)
    return path / "streams" / "a"
