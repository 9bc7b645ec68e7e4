"""The store as coroutines see it: recovery of many streams, followers, watchers, and what waits for the disk."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from tests.runtime.runtime_kit import QUICK, SIGNAL, Disk, at, samples
from wendelin_stream.errors import BadData, Corrupt, Retry
from wendelin_stream.runtime.log import Log
from wendelin_stream.store import Chunk, Part, Store


def chunk(first: int, count: int = 10) -> Chunk:
    return Chunk([Part([samples(first, count)], count, at(first), at(first + count - 1))])


def fill(path: Path, names: list[str]) -> None:
    """Streams with one record each, by another process as it were."""
    with Store(path, QUICK) as store:
        for name in names:
            store.writer(name, "rows", SIGNAL).append(chunk(0))


async def test_many_streams_are_recovered_and_a_damaged_one_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """200 streams, one of them broken below its watermark: the others are there, and nobody writes into that one."""
    names = [f"acc.{number}" for number in range(200)]
    fill(tmp_path, names)
    index = next((tmp_path / "streams" / "acc.7" / "index").iterdir())
    index.write_bytes(bytes(128) + index.read_bytes()[128:])
    told: list[tuple[int, int]] = []
    log = Log(tmp_path, QUICK)
    await log.recover(lambda done, total: told.append((done, total)))
    assert sorted(log.writers) == sorted(set(names) - {"acc.7"})
    assert list(log.broken) == ["acc.7"]
    assert told[-1] == (200, 200)
    assert "stream acc.7 is left out: " in caplog.text
    with pytest.raises(Corrupt, match="it was found damaged at start"):
        await log.writer("acc.7", "rows", SIGNAL)
    await log.append(await log.writer("acc.8", "rows", SIGNAL), chunk(10))
    seen: list[str] = []
    log.watch(seen.append)
    assert sorted(seen) == sorted(names), "its rows can still be read"
    await log.close()


async def test_a_recovery_that_is_cancelled_leaves_no_thread_at_work(tmp_path: Path) -> None:
    """A stop while thousands of streams are still to come: the close waits for what is open already, no more."""
    fill(tmp_path, [f"acc.{number}" for number in range(50)])
    log = Log(tmp_path, QUICK)
    task = asyncio.create_task(log.recover())
    while len(log.writers) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await log.close()
    opened = len(log.writers)
    await asyncio.sleep(0.01)
    assert len(log.writers) == opened < 50
    again = Log(tmp_path, QUICK)
    await again.recover()
    assert len(again.writers) == 50
    await again.close()


async def test_a_follower_hears_of_each_commit_and_is_forgotten_when_it_goes(tmp_path: Path) -> None:
    """Also of those that failed: it looks for itself. Nothing is kept of followers that are gone."""
    disk = Disk()
    log = Log(tmp_path, QUICK, disk)
    writer = await log.writer("acc.a", "rows", SIGNAL)
    one, other = log.follow("acc.a"), log.follow("acc.a")
    await log.append(writer, chunk(0))
    assert one.is_set()
    assert other.is_set()
    log.unfollow("acc.a", one)
    log.unfollow("acc.a", other)
    log.unfollow("acc.a", other)
    log.unfollow("never", one)
    assert log._followers == {}
    disk.full["acc.a"] = errno.ENOSPC
    last = log.follow("acc.a")
    with pytest.raises(Retry, match="No space left"):
        await log.append(writer, chunk(10))
    assert last.is_set()
    await log.close()


async def test_watchers_hear_of_each_stream_once_until_they_stop(tmp_path: Path) -> None:
    """Those that are there, those that we make, those that others make."""
    fill(tmp_path, ["acc.there"])
    log = Log(tmp_path, QUICK)
    await log.recover()
    seen: list[str] = []
    stop = log.watch(seen.append)
    await log.writer("acc.ours", "rows", SIGNAL)
    await log.writer("acc.ours", "rows", SIGNAL)
    fill(tmp_path, ["acc.theirs"])
    await asyncio.gather(log.rescan(), log.rescan())
    assert seen == ["acc.there", "acc.ours", "acc.theirs"]
    stop()
    await log.writer("acc.later", "rows", SIGNAL)
    assert len(seen) == 3
    await log.close()


async def test_settled_waits_for_everything_that_was_appended_before(tmp_path: Path) -> None:
    """Durable or failed: it is told before."""
    disk = Disk()
    log = Log(tmp_path, QUICK, disk)
    writer = await log.writer("acc.a", "rows", SIGNAL)
    disk.syncing.clear()
    told: list[Exception | None] = []
    for number in range(20):
        log.submit(writer, chunk(10 * number), lambda ticket: told.append(ticket.error))
    settled = asyncio.create_task(log.settled())
    await asyncio.wait({settled}, timeout=0.02)
    assert not settled.done()
    disk.syncing.set()
    await settled
    assert told == [None] * 20
    await log.close()


async def test_a_chunk_that_no_stream_can_hold_is_refused_before_it_is_queued(tmp_path: Path) -> None:
    """And nobody is called back for it."""
    log = Log(tmp_path, QUICK)
    writer = await log.writer("acc.a", "rows", SIGNAL)
    told: list[object] = []
    with pytest.raises(BadData, match="16 bytes"):
        log.submit(writer, Chunk([Part([samples(0, 1)], 1)], b"short"), told.append)
    await log.settled()
    assert told == []
    await log.close()


async def test_an_append_that_nobody_waits_for_any_more_is_stored(tmp_path: Path) -> None:
    """Whoever waited was cancelled; the rows are on their way, and no error is lost in the event loop."""
    disk = Disk()
    log = Log(tmp_path, QUICK, disk)
    writer = await log.writer("acc.a", "rows", SIGNAL)
    disk.syncing.clear()
    log.append(writer, chunk(0)).cancel()
    disk.syncing.set()
    await log.settled()
    assert writer.records == 1
    await log.close()
