"""Appending: what tickets say, in which order, and what is on disk by then."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

import numpy as np
import pytest

from tests.store.store_kit import SMALL, VIBRATION, WEATHER, Diary, Disk, blob, number, rows, samples, written
from wendelin_stream.errors import BadData, ConfigError, Corrupt, Locked, Retry
from wendelin_stream.store import Chunk, Flag, Part, Store, StoreConfig, StreamReader


def test_rows_with_a_rate_are_an_array(store_path):
    """What is appended in pieces is one array of rows."""
    with Store(store_path, SMALL) as store:
        writer = store.writer("acc", "rows", VIBRATION)
        for first in range(0, 50_000, 5_000):
            ticket = writer.append(Chunk([rows(first, 5_000)]))
        assert ticket.wait(5).end == writer.end == 50_000 * 8
        with writer.reader() as reader:
            np.testing.assert_array_equal(reader.array, samples(0, 50_000))
            assert (reader.signal, reader.kind, reader.rows) == (VIBRATION, "rows", 50_000)


def test_rows_with_a_time_field_are_a_structured_array(store_path):
    data = np.array([(5, 7.5, -3), (6, 8.5, 4)], WEATHER.dtype)
    with Store(store_path, SMALL) as store:
        writer = store.writer("met", "rows", WEATHER)
        writer.append(Chunk([Part([data.tobytes()], 2, 5, 6)])).wait(5)
        with writer.reader() as reader:
            assert reader.array.dtype == WEATHER.dtype
            np.testing.assert_array_equal(reader.array, data)


@pytest.mark.parametrize("kind", ["events", "bytes"])
def test_S7_untyped_streams_are_bytes(store_path, kind):
    with Store(store_path, SMALL) as store:
        writer = store.writer("log", kind, attrs={"content": "text"})
        writer.append(blob(b"hello ", b"world")).wait(5)
        with writer.reader() as reader:
            assert (reader.kind, reader.signal, reader.attrs) == (kind, None, {"content": "text"})
            assert reader.array.tobytes() == reader.read(0, 99) == b"hello world"
            assert [Flag(f) for f in reader.index()["flags"]] == [Flag.MORE, Flag(0)]


def test_an_empty_part_is_a_checkpoint_record(store_path):
    """It takes no byte, but carries a position that survives."""
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        writer.append(Chunk([Part([])], producer=9, position=123)).wait(5)
        assert (writer.end, writer.records, writer.position(9)) == (0, 1, 123)
        assert writer.last()["position"] == 123
    with Store(store_path, SMALL) as store:
        assert store.writer("a").position(9) == 123
        assert store.writer("a").position(8) is None


def test_S13_S14_data_index_and_new_names_are_synced_before_the_watermark_moves(store_path):
    """The first append of a session syncs the folders too; later ones only if a file is new."""
    diary = Diary()
    data, index = f"{0:020d}.data", f"{0:020d}.idx"
    with Store(store_path, SMALL, fs=diary) as store:
        writer = store.writer("a", "bytes")
        for size, new in ((10, {"data", "index"}), (10, set()), (65_536, {"data"})):
            diary.entries.clear()
            writer.append(blob(b"x" * size)).wait(5)
            watermark = diary.entries.index(("write", "state"))
            last_write = max(k for k, (what, name) in enumerate(diary.entries) if what == "write" and name != "state")
            between = {name for _, name in diary.entries[last_write + 1 : watermark]}
            assert between == {data, index} | new | ({f"{65_536:020d}.data"} if size > 10 else set())
            assert diary.entries[watermark + 1 :] == []
    assert diary.entries[-1] == ("sync", "state")


@pytest.mark.parametrize("policy", ["group", "each", "os"])
def test_S16_every_policy_stores_and_tells(store_path, policy):
    """The policies differ in when it is safe, not in what is stored; after `close` all is."""
    config = StoreConfig(policy=policy, sync="0 s", segment=65_536, keep_free=0)
    with Store(store_path, config) as store:
        writer = store.writer("a", "bytes")
        for k in range(20):
            writer.append(blob(bytes([k]) * 10_000)).wait(5)
        with writer.reader() as reader:
            assert reader.records == 20
    with Store(store_path) as store:
        assert store.writer("a").end == 200_000
        assert store.writer("a").log.slot.synced == 20


def test_S16_the_unsafe_policy_does_not_call_durable_what_is_not_synced(store_path):
    """After a power cut recovery must not take missing bytes below the watermark for damage."""
    disk = Disk()
    store = Store(store_path, StoreConfig(policy="os", keep_free=0), fs=disk)
    writer = store.writer("a", "bytes")
    writer.append(blob(b"x")).wait(5)
    assert (writer.log.slot.committed, writer.log.slot.synced) == (1, 0)
    store.close()
    assert writer.log.slot.synced == 1


def test_S15_nothing_is_acknowledged_before_it_is_synced_and_published(store_path):
    """Hold the sync back: no ticket is done and no reader sees anything; let it go: both."""
    disk = Disk()
    store = Store(store_path, SMALL, fs=disk)
    writer = store.writer("a", "bytes")
    reader = writer.reader()
    disk.syncs.clear()
    before = disk.writes
    ticket = writer.append(blob(b"x"))
    written(disk, before + 2)
    assert not ticket.done
    assert reader.refresh() == 0
    disk.syncs.set()
    assert ticket.wait(5).error is None
    assert reader.refresh() == 1
    reader.close()
    store.close()


async def test_S15_the_loop_is_woken_once_for_a_group(store_path):
    """A thousand appends that are committed together cost one call of `notify`, and keep their order."""
    loop, calls, told = asyncio.get_running_loop(), [], []
    all_told = asyncio.Event()

    def notify(tell):
        calls.append(threading.current_thread().name)
        loop.call_soon_threadsafe(tell)

    def done(ticket):
        told.append(ticket.chunk.position)
        assert threading.current_thread() is threading.main_thread()
        if len(told) == 1000:
            all_told.set()

    patient = StoreConfig(sync="1 min", group="1 GB", keep_free=0)
    store = Store(store_path, patient, notify)
    writer = await asyncio.to_thread(store.writer, "a", "bytes")
    for k in range(1000):
        writer.append(blob(b"x", position=k), done)
    await asyncio.to_thread(store.close)
    async with asyncio.timeout(10):
        await all_told.wait()
    assert told == list(range(1000))
    assert len(calls) == 1


def _drained(writer):
    done = threading.Event()
    writer._submit._queue.put(done.set)
    assert done.wait(10)


def test_a_caller_that_fails_on_being_told_does_not_harm_the_others(store_path, caplog):
    told = []
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        writer.append(blob(b"x"), lambda ticket: 1 / 0)
        writer.append(blob(b"y"), told.append).wait(5)
    assert [ticket.end for ticket in told] == [2]
    assert "ZeroDivisionError" in caplog.text


def test_close_stores_what_is_queued(store_path):
    """No `wait` in sight: `close` is enough."""
    store = Store(store_path, StoreConfig(sync="10 s", group="1 GB", keep_free=0))
    tickets = [store.writer("a", "bytes").append(blob(b"x")) for _ in range(100)]
    store.close()
    assert all(ticket.done and ticket.error is None for ticket in tickets)


def test_after_close_appends_fail_at_once(store_path):
    """A late append hears that nothing was stored; it does not hang."""
    store = Store(store_path, SMALL)
    writer = store.writer("a", "bytes")
    store.close()
    store.close()
    with pytest.raises(Retry, match="closed"):
        writer.append(blob(b"x")).wait(5)
    with pytest.raises(Retry, match="closed"):
        store.writer("a")


def test_a_stream_never_changes_what_it_holds(store_path):
    """The message says what is there and what was wanted."""
    with Store(store_path, SMALL) as store:
        store.writer("a", "rows", VIBRATION)
        with pytest.raises(ConfigError, match=r"holds rows of float32 .* not rows of .*wind"):
            store.writer("a", "rows", WEATHER)
    with Store(store_path, SMALL) as store:
        with pytest.raises(ConfigError, match="not events"):
            store.writer("a", "events")
        assert store.writer("a") is store.writer("a", "rows", VIBRATION)
        with pytest.raises(ConfigError, match="say what kind"):
            store.writer("b")
        with pytest.raises(ConfigError, match="needs a signal"):
            store.writer("b", "rows")
        with pytest.raises(BadData):
            store.writer("../b", "bytes")


def test_attributes_are_replaced_as_a_whole(store_path):
    with Store(store_path, SMALL) as store:
        store.writer("a", "bytes", attrs={"place": "nacelle"})
        assert store.writer("a").attrs == {"place": "nacelle"}
        store.writer("a", attrs={"place": "tower"})
    with StreamReader.open(store_path, "a") as reader:
        assert reader.attrs == {"place": "tower"}


def test_a_number_that_does_not_fit_fails_its_own_chunk_only(store_path):
    """Bad input never holds back good input, even in the same batch."""
    disk = Disk()
    with Store(store_path, SMALL, fs=disk) as store:
        writer = store.writer("a", "bytes")
        disk.syncs.clear()
        bad = [blob(b"2", position=-1), Chunk([Part([b"2"], t_last="noon")])]
        good, *worse, more = (writer.append(chunk) for chunk in (blob(b"1"), *bad, blob(b"3", t_ingest=2)))
        disk.syncs.set()
        assert good.wait(5).end == 1
        for ticket in worse:
            with pytest.raises(BadData, match="cannot be stored"):
                ticket.wait(5)
        assert more.wait(5).end == 2


def test_many_streams_commit_together(store_path):
    """One group over fifty streams: each has its own, all are durable."""
    with Store(store_path, StoreConfig(segment=65_536, keep_free=0)) as store:
        writers = [store.writer(f"s{k}", "bytes") for k in range(50)]
        tickets = [w.append(blob(w.name.encode() * (k + 1))) for k in range(3) for w in writers]
        for ticket in tickets:
            ticket.wait(10)
        for writer in writers:
            with writer.reader() as reader:
                assert reader.read(0, 99) == writer.name.encode() * 6


# --- when the disk fails -------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["pwritev", "open", "truncate"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_S17_after_a_failed_write_all_is_as_before_and_a_retry_fits_the_same_place(store_path, operation, code):
    """Fail each call of an append that crosses into a new segment in turn; the sender tries until it is in."""
    for nth in range(1, 4):
        disk = Disk()
        with Store(store_path / str(nth), SMALL, fs=disk) as store:
            writer = store.writer("a", "bytes")
            first = writer.append(blob(b"a" * 60_000, chunk_id=number(1))).wait(5)
            start = disk.calls.get(operation, 0)
            disk.fail = lambda op, call: code if op == operation and call == start + nth else None  # noqa: B023
            outcome = writer.append(blob(b"b" * 5_000, b"c" * 65_536, chunk_id=number(2)))
            try:
                outcome.wait(5)
            except Retry as error:
                assert "cannot write in" in str(error)  # noqa: PT017
                assert (writer.end, writer.records, writer.known(number(2))) == (first.end, 1, False)
                disk.fail = lambda op, call: None
                assert writer.append(blob(b"B" * 100, chunk_id=number(2))).wait(5).end == 60_100
                expected = b"a" * 60_000 + b"B" * 100
            else:
                expected = b"a" * 60_000 + b"b" * 5_000 + b"c" * 65_536
        with StreamReader.open(store_path / str(nth), "a") as reader:
            assert reader.read(0, 10**6) == expected


def test_S12_short_writes_are_finished(store_path):
    """A disk that takes half of what it is given takes all in the end."""
    disk = Disk()
    disk.short = True
    with Store(store_path, SMALL, fs=disk) as store:
        writer = store.writer("a", "bytes")
        data = bytes(range(256)) * 400
        writer.append(blob(data, data)).wait(5)
        with writer.reader() as reader:
            assert reader.read(0, 10**6) == data * 2


def test_S17_appends_behind_a_failed_one_fail_until_the_caller_knows(store_path):
    """A pipeline that has three chunks in flight must not find the third stored and the second not."""
    disk = Disk()
    tell = []
    store = Store(store_path, SMALL, tell.append, fs=disk)
    writer = store.writer("a", "bytes")
    fail_from = disk.calls["pwritev"] + 1
    disk.fail = lambda op, call: errno.EIO if op == "pwritev" and call == fail_from else None
    first = writer.append(blob(b"1"))
    _drained(writer)
    second = writer.append(blob(b"2"))
    _drained(writer)
    assert [isinstance(ticket.error, Retry) for ticket in (first, second)] == [True, True]
    for call in tell:
        call()
    again = [writer.append(blob(data)) for data in (b"1", b"2")]
    assert [ticket.wait(5).end for ticket in again] == [1, 2]
    store.close()


@pytest.mark.parametrize("operation", ["fdatasync", "sync_folder"])
def test_S18_after_a_failed_sync_the_stream_stops_and_the_others_go_on(store_path, operation, caplog):
    """A second sync that succeeds would prove nothing: nothing pretends."""
    disk = Disk()
    with Store(store_path, SMALL, fs=disk) as store:
        broken, healthy = store.writer("a", "bytes"), store.writer("b", "bytes")
        disk.fail = lambda op, call: errno.EIO if op == operation else None
        with pytest.raises(Corrupt, match="stream a at byte 0: the disk failed"):
            broken.append(blob(b"lost?")).wait(5)
        disk.fail = lambda op, call: None
        assert isinstance(broken.error, Corrupt)
        with pytest.raises(Corrupt):
            broken.append(blob(b"more")).wait(5)
        assert (broken.end, broken.records) == (0, 0)
        assert healthy.append(blob(b"fine")).wait(5).end == 4
        with broken.reader() as reader:
            assert reader.refresh() == 0


def test_S18_a_stopped_stream_is_opened_anew_and_its_tail_written_once_more(store_path, caplog):
    """The pages may be marked clean though they are lost, so recovery writes what it accepts before it syncs."""
    disk = Disk()
    with Store(store_path, SMALL, fs=disk) as store:
        writer = store.writer("a", "bytes")
        disk.fail = lambda op, call: errno.EIO if op == "fdatasync" else None
        with pytest.raises(Corrupt):
            writer.append(blob(b"doubtful", chunk_id=number(1))).wait(5)
        disk.fail = lambda op, call: None
        log: list[bytes] = []
        plain = disk.pwritev
        disk.pwritev = lambda fd, pieces, offset: (log.extend(map(bytes, pieces)), plain(fd, pieces, offset))[1]
        again = store.writer("a")
        assert again is not writer
        assert b"doubtful" in log
        assert again.error is None
        assert again.append(blob(b"doubtful", chunk_id=number(1))).wait(5).duplicate
        assert again.end == 8


def test_a_failed_publication_stops_the_stream(store_path, caplog):
    """Synced but not published is not acknowledged."""
    disk = Disk()
    with Store(store_path, SMALL, fs=disk) as store:
        writer = store.writer("a", "bytes")
        third = disk.calls["pwritev"] + 3
        disk.fail = lambda op, call: errno.EIO if op == "pwritev" and call == third else None
        with pytest.raises(Corrupt):
            writer.append(blob(b"x")).wait(5)
        assert writer.records == 0


def test_S19_below_the_floor_nothing_is_taken_and_later_it_goes_on_by_itself(store_path, monkeypatch):
    """The text says where, how much is missing and what to do."""
    monkeypatch.setattr("wendelin_stream.store.commit.FREE_CHECK", 0.0)
    disk = Disk()
    with Store(store_path, StoreConfig(sync="0 s", keep_free="2 GB"), fs=disk) as store:
        writer = store.writer("a", "bytes")
        writer.append(blob(b"1")).wait(5)
        disk.room = 1_500_000_000
        with pytest.raises(Retry, match=r"store has 1\.5 GB free, less than keep_free \(2 GB\): free space"):
            writer.append(blob(b"2")).wait(5)
        with writer.reader() as reader:
            assert reader.read(0, 9) == b"1"
        disk.room = 3_000_000_000
        assert writer.append(blob(b"2")).wait(5).end == 2


def test_an_unexpected_fault_stops_one_stream_and_leaves_no_caller_waiting(store_path, monkeypatch, caplog):
    """A bug in the writer thread must not end it."""
    with Store(store_path, SMALL) as store:
        writer, other = store.writer("a", "bytes"), store.writer("b", "bytes")
        monkeypatch.setattr(writer.log, "write", lambda chunks: 1 / 0)
        with pytest.raises(Corrupt, match="ZeroDivisionError"):
            writer.append(blob(b"x")).wait(5)
        assert other.append(blob(b"x")).wait(5).end == 1


def test_a_fault_while_syncing_stops_one_stream_and_leaves_no_caller_waiting(store_path, monkeypatch, caplog):
    """No more threads to be had, say: the thread that syncs goes on, and the stream is opened anew."""
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        with monkeypatch.context() as patch:
            patch.setattr(store._committer, "_run", lambda jobs: 1 / 0)
            with pytest.raises(Corrupt, match="ZeroDivisionError"):
                writer.append(blob(b"x")).wait(5)
            with pytest.raises(Corrupt, match="ZeroDivisionError"):
                writer.append(blob(b"y")).wait(5)
        again = store.writer("a")
        assert again.append(blob(b"z")).wait(5).end == again.end >= 1
        monkeypatch.setattr(store._committer, "_sync_states", lambda stale: 1 / 0)
        again.error = Corrupt("stop it")
        with pytest.raises(Locked):  # it could not be closed, but nobody waits for ever
            store.writer("a")
        assert store.writer("b", "bytes").append(blob(b"x")).wait(5).end == 1
        monkeypatch.undo()
        again.log.close()


def test_whoever_fails_to_be_told_does_not_stop_the_store(store_path, caplog):
    """Neither a notification nor the answer to a ping may end the thread that syncs."""

    def notify(tell):
        raise OSError("nobody there")

    with Store(store_path, SMALL, notify) as store:
        writer = store.writer("a", "bytes")
        assert [writer.append(blob(b"x")).wait(5).end for _ in range(2)] == [1, 2]
        assert "nobody was told" in caplog.text
    with Store(store_path, SMALL) as store:
        store.ping(lambda: 1 / 0)
        assert store.writer("a").append(blob(b"x")).wait(5).end == 3


def test_what_closing_a_file_says_does_not_stop_the_store(store_path, monkeypatch):
    """Some file systems fail in close: by then the bytes are synced, or known not to be."""
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        plain = os.close

        def close(fd):
            plain(fd)
            raise OSError(errno.EIO, "close failed")

        with monkeypatch.context() as patch:
            patch.setattr(os, "close", close)
            for k in range(1, 4):
                assert writer.append(blob(b"x" * 65_536)).wait(5).end == k * 65_536


def test_a_folder_that_cannot_be_used_is_the_users_to_change(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write in"):
        Store(tmp_path / "file" / "store")


def test_waiting_is_bounded(store_path):
    """`wait` has a timeout of its own."""
    disk = Disk()
    store = Store(store_path, SMALL, fs=disk)
    writer = store.writer("a", "bytes")
    disk.syncs.clear()
    ticket = writer.append(blob(b"x"))
    with pytest.raises(TimeoutError, match="stream a"):
        ticket.wait(0.01)
    disk.syncs.set()
    ticket.wait(5)
    store.close()
