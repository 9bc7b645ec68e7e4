"""Guarantee 1: answers come when the bytes are durable, in order within an origin; repeats are stored once."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.runtime_kit import RATE, at, piece, repeat, room, rows, samples
from wendelin_stream.batch import NS
from wendelin_stream.errors import Retry
from wendelin_stream.plugin import Blob, Received
from wendelin_stream.runtime import door as door_module
from wendelin_stream.runtime.acks import Delivery
from wendelin_stream.runtime.door import PART, UNIT
from wendelin_stream.store import Flag
from wendelin_stream.testing.sources import Answer, ScriptedSource, events, unit


async def test_F32_nothing_is_committed_before_it_is_durable(tmp_path: Path) -> None:
    """While the disk holds its syncs back no answer leaves; then cumulative commits answer all that was taken."""
    source = ScriptedSource(rows("a", 0))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 0)
        door.disk.syncing.clear()
        await source.send(*(rows("a", n) for n in range(1, 6)))
        await source.until(lambda s: s.taken == 6)
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.answers == [Answer("a", 0)]
        assert door.rows("acc.a") == list(range(10))
        door.disk.syncing.set()
        await source.committed("a", 5)
        assert door.rows("acc.a") == list(range(60))
        assert source.commits("a") == sorted(set(source.commits("a")))


async def test_F33_one_origin_that_waits_does_not_hold_up_another(tmp_path: Path) -> None:
    """Origins are answered each for itself: `b` is acknowledged while a unit of `a` before it still decodes."""
    big = events([(at(0), {"d": samples(0, 1)})] * 20_000)
    async with room(tmp_path) as door:
        one, other = ScriptedSource(unit("a", 1, "acc.big", big)), ScriptedSource(rows("b", 0, tag="acc.b"))
        await door.serve(one, "one")
        await door.serve(other, "other")
        await other.committed("b", 0)
        assert one.answers == []
        await one.committed("a", 1)
        assert len(door.rows("acc.big")) == 20_000


async def test_F36_a_failed_append_refuses_all_behind_it_and_a_resend_is_stored_once_and_in_order(
    tmp_path: Path,
) -> None:
    """The disk is full for stream a: its sender gets no answer but a no, other streams go on, and nothing is lost."""
    source = ScriptedSource(rows("a", 0), rows("b", 0, tag="acc.b"))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.answered(2)
        door.disk.full["acc.a"] = errno.ENOSPC
        await source.send(rows("a", 1), rows("b", 1, tag="acc.b"), rows("a", 2), rows("a", 3))
        await source.until(lambda s: bool(s.refusals("a")) and s.commits("b")[-1] == 1)
        ((seq, why),) = source.refusals("a")
        assert seq == 1
        assert "No space left" in why
        assert isinstance(source.answers[-1].why or source.answers[-2].why, Retry)
        door.disk.full.clear()
        await source.send(*(rows("a", n) for n in range(1, 5)))
        await source.committed("a", 4)
        assert door.rows("acc.a") == list(range(50))
        assert door.flags("acc.a") == [0] * 5
        assert door.rows("acc.b") == list(range(20))


async def test_a_unit_that_fails_behind_one_that_waits_for_its_sync_makes_no_gap(tmp_path: Path) -> None:
    """Unit 1 is written but not synced when unit 2 finds the disk full: sent again, unit 2 continues unit 1."""
    source = ScriptedSource(rows("a", 0, 1000))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 0)
        door.disk.syncing.clear()
        await source.send(rows("a", 1, 1000))
        await source.until(lambda s: s.taken == 2)
        while door.log.writers["acc.a"].log.tail.seq < 2:  # the writer thread is not ours to await
            await asyncio.sleep(0.001)
        door.disk.full["acc.a"] = errno.ENOSPC
        await source.send(rows("a", 2, 1000))
        await source.until(lambda s: s.taken == 3)
        while door.log.writers["acc.a"].failed < 0:
            await asyncio.sleep(0.001)
        door.disk.syncing.set()
        await source.until(lambda s: bool(s.refusals("a")))
        door.disk.full.clear()
        await source.send(rows("a", 2, 1000), rows("a", 3, 1000))
        await source.committed("a", 3)
        assert door.flags("acc.a") == [0] * 4
        assert door.rows("acc.a") == list(range(4000))


@pytest.mark.parametrize("tag", ["acc.a", "log.a", "nowhere"])
async def test_S18_a_stream_that_stopped_for_a_bad_sync_is_opened_anew(tmp_path: Path, tag: str) -> None:
    """A failed fdatasync stops the stream; the sender is refused, and its resend finds the stream repaired."""
    stream = "dead-letter.door" if tag == "nowhere" else tag
    source = ScriptedSource(rows("a", 0, tag=tag))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 0)
        door.disk.sick[stream] = errno.EIO
        await source.send(rows("a", 1, tag=tag), rows("a", 2, tag=tag))
        await source.until(lambda s: bool(s.refusals("a")))
        assert isinstance(source.answers[-1].why, Retry), "a source tries again after Retry only"
        door.disk.sick.clear()
        await source.send(*(rows("a", n, tag=tag) for n in range(1, 4)))
        await source.committed("a", 3)
        with door.stream(stream) as kept:
            assert kept.reader.records == 4
            assert not kept.reader.index()["flags"].any()


async def test_what_comes_while_a_refusal_is_on_its_way_is_refused_with_it(tmp_path: Path) -> None:
    """A source that is slow to say no may yield more of that origin: nothing of it is stored behind the hole."""
    saying_no, may_say_no = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedSource):
        async def refuse(self, origin: object, seq: int, why: Exception) -> None:
            saying_no.set()
            await may_say_no.wait()
            await super().refuse(origin, seq, why)

    source = Slow(rows("a", 0))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 0)
        door.disk.full["*"] = errno.ENOSPC
        await source.send(rows("a", 1))
        await saying_no.wait()
        door.disk.full.clear()
        await source.send(rows("a", 2), rows("a", 3))
        await source.until(lambda s: s.taken == 4)
        may_say_no.set()
        await source.until(lambda s: bool(s.refusals("a")))
        await source.send(rows("a", 1), rows("a", 2))
        await source.committed("a", 2)
        assert door.rows("acc.a") == list(range(30))
        assert source.commits("a") in ([0, 1, 2], [0, 2])


# --- repeats


async def test_F38_a_repeat_is_stored_once_and_answered_also_after_a_restart(tmp_path: Path) -> None:
    """A sender whose acknowledgement got lost sends again, to this process or to the next."""
    units = [rows("a", 0), rows("a", 1)]
    source = ScriptedSource(*units, *map(repeat, units))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 1)
        await source.committed("again", 1)
        assert door.rows("acc.a") == list(range(20))
    again = ScriptedSource(rows("a", 0), rows("a", 1), rows("a", 2))
    async with room(tmp_path) as door:
        await door.serve(again)
        await again.committed("a", 2)
        assert door.rows("acc.a") == list(range(30))
        assert door.flags("acc.a") == [0, 0, 0]
        assert door.ingest.counters["door"].duplicates == 2


async def test_F39_a_repeat_of_what_is_on_its_way_waits_for_the_same_commit(tmp_path: Path) -> None:
    """The connection broke before the answer, and the resend comes over another one before the first is durable."""
    source = ScriptedSource(rows("a", 0))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 0)
        door.disk.syncing.clear()
        first = [rows("a", n) for n in (1, 2, 3)]
        await source.send(*first, *map(repeat, first))
        await source.until(lambda s: s.taken == 7)
        assert source.answers == [Answer("a", 0)]
        door.disk.syncing.set()
        await source.committed("again", 3)
        await source.committed("a", 3)
        assert door.rows("acc.a") == list(range(40))


async def test_a_repeat_does_not_disturb_the_search_for_gaps(tmp_path: Path) -> None:
    """Neither one of something durable nor one of something on its way moves the time where the next row is due."""
    source = ScriptedSource(*(rows("a", n, 500) for n in range(3)), repeat(rows("a", 0, 500)))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 2)
        await source.committed("again", 0)
        door.disk.syncing.clear()
        await source.send(rows("a", 3, 500), rows("a", 4, 500), repeat(rows("a", 3, 500)), rows("a", 5, 500))
        await source.until(lambda s: s.taken == 8)
        door.disk.syncing.set()
        await source.committed("a", 5)
        assert door.flags("acc.a") == [0] * 6
        assert door.rows("acc.a") == list(range(3000))


async def test_a_policy_may_store_repeats(tmp_path: Path) -> None:
    """`dedupe: false`: equal chunk ids are no repeats (F40)."""
    source = ScriptedSource(rows("a", 0, tag="again.a"), repeat(rows("a", 0, tag="again.a")))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.until(lambda s: s.taken == 2)
    assert door.rows("again.a") == [*range(10), *range(10)]


# --- times

MS = NS // 1000


@pytest.mark.parametrize(
    ("late", "flags"),
    [
        (0, Flag(0)),
        (100 * MS, Flag(0)),
        (-100 * MS, Flag(0)),
        (100 * MS + 1, Flag.GAP),
        (3600 * NS, Flag.GAP),
        (-100 * MS - 1, Flag.GAP | Flag.LATE),
    ],
)
async def test_times_within_the_jitter_continue_and_others_begin_after_a_gap(
    tmp_path: Path, late: int, flags: Flag
) -> None:
    """A chunk's time may be off by `max_jitter`, 100 ms, to both sides; and by as much from its own time on."""
    units = [rows("a", 0), rows("a", 1, time=at(10, late)), rows("a", 2, time=at(20, late))]
    source = ScriptedSource(*units)
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 2)
        assert door.flags("acc.a") == [0, flags, 0]


async def test_a_gap_is_seen_across_a_restart(tmp_path: Path) -> None:
    """Where the next row is due is read from the last record."""
    for number, late in enumerate((0, 0, NS)):
        source = ScriptedSource(rows("a", number, time=at(10 * number, late)))
        async with room(tmp_path) as door:
            await door.serve(source)
            await source.committed("a", number)
    assert door.flags("acc.a") == [0, 0, Flag.GAP]


# --- files


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 2 * 3001), max_size=12), step=st.sampled_from([1, 7, 4000]))
def test_pieces_of_a_file_cut_anywhere_give_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], step: int
) -> None:
    """Also inside a row: the begun row waits for the next piece, and the source is told where whole rows end."""
    data = samples(0, 3001)
    edges = sorted({0, len(data), *cuts, *range(0, len(data), step * 500)})
    pieces = [piece(data, start, size=stop - start) for start, stop in pairwise(edges)]

    async def story() -> None:
        folder = tmp_path_factory.mktemp("pieces")
        source = ScriptedSource(*pieces)
        async with room(folder) as door:
            await door.serve(source)
            await source.committed("file", len(data))
            assert door.rows("acc.a") == list(range(3001))
            assert door.ingest.position("acc.a", 7) == len(data)
            assert all(seq % 2 == 0 for seq in source.commits("file"))
            assert not any(door.flags("acc.a"))
            with door.stream("acc.a") as stream:
                assert int(stream.times()[-1].astype("int64")) == at(3000)

    asyncio.run(story())


async def test_a_file_is_taken_up_where_the_store_ends(tmp_path: Path) -> None:
    """The position that a restarted source asks for is behind the last whole row that is durable."""
    data = samples(0, 100)
    source = ScriptedSource(piece(data, 0, size=51), piece(data, 51, size=50))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("file", 100)
    async with room(tmp_path) as door:
        position = door.ingest.position("acc.a", 7)
        assert position == 100
        again = ScriptedSource(piece(data, position))
        await door.serve(again)
        await again.committed("file", 200)
        assert door.rows("acc.a") == list(range(100))


# --- bounds


async def test_a_full_budget_stops_the_source_and_it_drains(tmp_path: Path) -> None:
    """The disk hangs: what is taken stays below the budget, small units included; then all of it is stored."""
    count, budget = 400, 50 * (UNIT + PART)
    source = ScriptedSource(rows("a", 0, 1))
    async with room(tmp_path, budget=budget) as door:
        await door.serve(source)
        await source.committed("a", 0)
        door.disk.syncing.clear()
        await source.send(*(rows("a", n, 1) for n in range(1, count)))
        await source.until(lambda s: s.taken >= 40)
        for _ in range(200):
            await asyncio.sleep(0)
        assert source.taken <= 52
        assert door.budget.used <= budget + PART
        door.disk.syncing.set()
        await source.committed("a", count - 1)
        assert door.rows("acc.a") == list(range(count))
        assert door.budget.used == 0


async def test_a_source_that_has_much_lets_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small units wait in a source, as after a disk that hung: the loop goes round between them."""
    monkeypatch.setattr(door_module, "TURN", 0.0)
    units = [rows("a", n, 1, tag="log.a") for n in range(2000)]

    class Eager(ScriptedSource):
        async def read(self) -> AsyncIterator[Received]:
            for one in units:
                yield one

    async with room(tmp_path) as door:
        await door.serve(Eager())
        rounds = 0
        while not (counters := door.ingest.counters.get("door")) or counters.units < 2000:
            await asyncio.sleep(0)
            rounds += 1
        assert rounds > 1000


async def test_a_refused_flood_holds_no_memory(tmp_path: Path) -> None:
    """While the rest of a refused window waits for a hanging disk, its sender's further units are dropped at once."""
    source = ScriptedSource(rows("a", 0), rows("a", 1, tag="acc.b"))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("a", 1)
        door.disk.syncing.clear()
        await source.send(rows("a", 2, tag="acc.b"))
        await source.until(lambda s: s.taken == 3)
        while door.log.writers["acc.b"].log.tail.seq < 2:
            await asyncio.sleep(0.001)
        door.disk.full["acc.a"] = errno.ENOSPC
        await source.send(rows("a", 3))
        while door.log.writers["acc.a"].failed < 0:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0)
        used = door.budget.used
        await source.send(*(rows("a", n) for n in range(4, 2000)))
        await source.until(lambda s: s.taken == 2000)
        assert door.budget.used == used
        assert sum(isinstance(one, Delivery) for one in gc.get_objects()) < 10
        door.disk.syncing.set()
        await source.until(lambda s: bool(s.refusals("a")))
        assert source.refusals("a")[0][0] == 3


# --- ends


async def test_a_stop_answers_what_was_taken(tmp_path: Path) -> None:
    """Busy when the stop comes: everything that the source had taken is stored and acknowledged before it ends."""
    source = ScriptedSource(*(rows("a", n) for n in range(200)))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.until(lambda s: s.taken > 5)
    assert source.commits("a")[-1] == 199
    assert source.closed == 1
    assert door.rows("acc.a") == list(range(2000))


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The disk hangs, or the source does not come to rest: there is no answer, and nothing was acknowledged."""

    class Restless(ScriptedSource):
        async def quiesce(self) -> None:
            await asyncio.Event().wait()

    source = Restless(rows("a", 0))
    async with room(tmp_path) as door:
        await door.serve(source, drain=0.05)
        await source.committed("a", 0)
        door.disk.syncing.clear()
        await source.send(rows("a", 1))
        await source.until(lambda s: s.taken == 2)
        asyncio.get_running_loop().call_later(0.3, door.disk.syncing.set)
    assert source.commits("a") == [0]
    assert "1 senders" in caplog.text
    assert door.rows("acc.a") == list(range(20)), "it was written all the same; sent again, it is a repeat"


async def test_a_source_that_fails_is_served_again_only_when_all_it_brought_has_landed(tmp_path: Path) -> None:
    """Else it would ask for positions too early, and bring again what is on its way to the disk."""
    data = samples(0, 100)
    source = ScriptedSource(piece(data, 0, size=100))
    async with room(tmp_path) as door:
        first = await door.serve(source)
        await source.committed("file", 100)
        door.disk.syncing.clear()
        await source.send(piece(data, 100, size=50), OSError("the cable is cut"))
        await asyncio.wait({first}, timeout=0.05)
        assert not first.done()
        door.disk.syncing.set()
        with pytest.raises(ExceptionGroup, match="unhandled"):
            await first
        door.served.clear()
        position = door.ingest.position("acc.a", 7)
        assert position == 150
        again = ScriptedSource(piece(data, position))
        await door.serve(again)
        await again.committed("file", 200)
        assert door.rows("acc.a") == list(range(100))
        assert door.ingest.counters["door"].units == 3


async def test_blobs_without_codec_are_bytes(tmp_path: Path) -> None:
    """A file without codec is stored as it is, with its position."""
    data = b"line one\nline two\n"
    source = ScriptedSource(piece(data, 0, tag="log.file", size=9), piece(data, 9, tag="log.file"))
    async with room(tmp_path) as door:
        await door.serve(source)
        await source.committed("file", len(data))
        with door.stream("log.file") as stream:
            assert stream.reader.kind == "bytes"
            assert stream.array.tobytes() == data
        assert door.ingest.position("log.file", 7) == len(data)


def test_the_kit_s_numbers(tmp_path: Path) -> None:
    """Rows and times of the kit are those of the policies."""
    assert at(RATE) - at(0) == NS
    assert len(samples(0, 3)) == 6
    assert isinstance(piece(b"ab", 0).body, Blob)
