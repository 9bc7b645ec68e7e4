"""The power goes, the process is killed, the disk fails, at any operation and again in the recovery."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.store_kit import number
from tests.store.store_power_disk import PowerDisk
from wendelin_stream.errors import Corrupt, Retry
from wendelin_stream.store import Chunk, Flag, Part, Store, StoreConfig, files, log, recovery
from wendelin_stream.store import format as file_format
from wendelin_stream.store.format import RECORD_BYTES, records

STORE = Path("/disk/store")
STREAM = STORE / "streams" / "a"
SEGMENT, INDEX_RECORDS = 512, 4


@pytest.fixture
def borders_everywhere(monkeypatch):
    """Segments of 512 bytes and index files of four records, recovered in pieces of 512 bytes."""
    monkeypatch.setattr(file_format, "PAGE", SEGMENT)
    monkeypatch.setattr(recovery, "_PIECE", SEGMENT)
    for module in (recovery, log):
        monkeypatch.setattr(module, "INDEX_RECORDS", INDEX_RECORDS)
    for module in (recovery, files):
        monkeypatch.setattr(module, "INDEX_BYTES", INDEX_RECORDS * RECORD_BYTES)


class World:
    """What was sent and acknowledged, over many lives of a store.

    stored: chunks that are there for certain, in order.  open: chunks of this life that may be there or not.
    """

    def __init__(self, policy: str) -> None:
        self.config = StoreConfig(policy=policy, sync="0 s", segment=SEGMENT, keep_free=0)
        self.disk = PowerDisk()
        self.chunks: dict[bytes, Chunk] = {}
        self.stored: list[bytes] = []
        self.open: set[bytes] = set()

    def chunk(self, sizes):
        k = len(self.chunks) + 1
        parts = [Part([bytes([k % 255 + 1]) * size]) for size in sizes]
        chunk = Chunk(parts, number(k), producer=1, position=k)
        self.chunks[chunk.chunk_id] = chunk
        return chunk

    def live(self, groups, dies_at, fails_at):
        """One life of a process; it may end early."""
        disk, disk.dies_at, disk.fails_at = self.disk, dies_at, dict(fails_at)
        store = None
        try:
            store = Store(STORE, self.config, fs=disk)
            writer = self.opened(store)
            for group in groups:
                if not self.send(writer, group):
                    writer = self.opened(store)
        except Retry:
            pass
        finally:
            if store is not None:
                store.close()
        assert disk.misused == []

    def opened(self, store):
        writer = store.writer("a", "bytes")
        if not self.disk.dead:
            self.look(writer)
        return writer

    def send(self, writer, group):
        """Append some chunks at once, new ones or again; False if the stream has stopped."""
        tickets = []
        for what in group:
            again = isinstance(what, int)
            chunk = self.again(what) if again else self.chunk(what)
            if chunk is None:
                continue
            if chunk.chunk_id not in self.stored:
                self.open.add(chunk.chunk_id)
            tickets.append(writer.append(chunk))
        for ticket in tickets:
            chunk_id = ticket.chunk.chunk_id
            try:
                ticket.wait(10)
            except (Retry, Corrupt):
                assert chunk_id not in self.stored or not ticket.duplicate
                continue
            assert ticket.duplicate == (chunk_id in self.stored), "known, or stored twice"
            if not ticket.duplicate:
                self.stored.append(chunk_id)
                self.open.discard(chunk_id)
        return writer.error is None

    def again(self, which):
        known = list(self.chunks.values())
        return known[which % len(known)] if known else None

    def look(self, writer):
        """After an opening: the acknowledged is there, and some of the others; each whole, once, byte for byte."""
        found = self.found(writer.records)
        assert found[: len(self.stored)] == self.stored
        others = found[len(self.stored) :]
        assert len(set(others)) == len(others)
        assert set(others) <= self.open
        self.stored, self.open = found, set()
        assert all(writer.known(chunk_id) for chunk_id in found)
        assert writer.position(1) == (self.chunks[found[-1]].position if found else None)

    def found(self, count):
        """Ids of the chunks in the files, read by the format's description alone."""
        index = records(self.bytes("index", ".idx", INDEX_RECORDS * RECORD_BYTES, INDEX_RECORDS, count * RECORD_BYTES))
        assert len(index) == count
        end = int(index[-1]["offset"]) + int(index[-1]["length"]) if count else 0
        data = self.bytes("data", ".data", SEGMENT, SEGMENT, end)
        found, parts = [], []
        for record in index:
            parts.append(data[int(record["offset"]) :][: int(record["length"])])
            if not int(record["flags"]) & Flag.MORE:
                found.append(record["chunk_id"].tobytes())
                assert parts == [part.data[0] for part in self.chunks[found[-1]].parts]
                parts = []
        assert parts == []
        return found

    def bytes(self, folder, suffix, size, unit, stop):
        names = [f"{k * unit:020d}{suffix}" for k in range(-(-stop // size))]
        every = [self.disk.file(STREAM / folder / name) for name in names]
        assert all(file.size == size for file in every)
        return b"".join(file.read(size, 0) for file in every)[:stop]

    def check(self):
        """A life without a mishap finds what must be there, and takes all of it again without storing it twice."""
        with Store(STORE, self.config, fs=self.disk) as store:
            self.look(store.writer("a", "bytes"))
            assert self.send(store.writer("a"), list(range(len(self.chunks))))
            assert sorted(self.stored) == sorted(self.chunks)
        assert self.disk.misused == []


sizes = st.lists(st.sampled_from([0, 1, 60, 100, 412, 512, 1100]), min_size=1, max_size=3)
groups = st.lists(st.lists(st.one_of(sizes, sizes, st.integers(0, 20)), min_size=1, max_size=3), max_size=4)
lives = st.lists(
    st.tuples(
        groups,
        st.one_of(st.none(), st.integers(1, 60)),
        st.dictionaries(st.integers(1, 60), st.sampled_from([errno.EIO, errno.ENOSPC]), max_size=2),
        st.booleans(),
        st.integers(0, 2**16),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(lives=lives, policy=st.sampled_from(["group", "each", "os"]))
def test_S26_S27_S29_whatever_is_lost_at_whatever_instruction_the_acknowledged_is_there(
    borders_everywhere, lives, policy
):
    """Lives that end anywhere, in the recovery too, by kill or power cut, on a disk that fails on top of it.

    Under the policy `os` the power stays.
    """
    world = World(policy)
    for groups, dies_at, fails_at, power, seed in lives:
        world.live(groups, dies_at, fails_at)
        world.disk = world.disk.restart(power=power and policy != "os", seed=seed)
    world.check()


@pytest.mark.parametrize("mishap", ["kill", "failed sync"])
def test_S13_a_name_that_an_earlier_life_gave_is_durable_before_anything_is_acknowledged(borders_everywhere, mishap):
    """End at each step of making store and stream: that the next life finds a folder does not make it durable."""
    for step in range(1, 30):
        for seed in range(4):
            world = World("group")
            world.live([], step if mishap == "kill" else None, {} if mishap == "kill" else {step: errno.EIO})
            world.disk = world.disk.restart(power=False, seed=seed)
            world.live([[[10]]], None, {})
            assert len(world.stored) == 1
            world.disk = world.disk.restart(power=True, seed=seed)
            world.check()


def test_S30_a_long_tail_is_recovered_with_few_descriptors(borders_everywhere):
    """Under the policy `os` seconds of data wait for a sync, in as many files as there are; a kill leaves them so."""
    world = World("os")
    store = Store(STORE, world.config, fs=world.disk)
    assert world.send(world.opened(store), [[5_000]] * 20)
    world.disk = world.disk.restart(power=False, seed=0)
    store.close()
    world.check()
    assert len(world.stored) == 20
    assert world.disk.most_open < 20
