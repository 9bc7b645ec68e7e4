"""A small world for `tail`: files in a folder, a clock that is cranked, and an ingest that crashes when told to."""

import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wendelin_stream.errors import Retry
from wendelin_stream.plugin import Received, SourceContext
from wendelin_stream.sources.tail.options import TailOptions
from wendelin_stream.sources.tail.tailer import Tailer


@dataclass
class Stored:
    """What the store holds durably of one file's contents: bytes from `begin` on."""

    tag: str
    begin: int
    time: int | None
    data: bytearray = field(default_factory=bytearray)

    @property
    def position(self) -> int:
        return self.begin + len(self.data)


@dataclass
class Unit:
    """A piece on its way to the disk: whole rows only."""

    received: Received
    offset: int
    data: bytes


class World:
    """A tailer, what it yields on its way to the disk, and the disk. Rows have `row` bytes.

    `position_known` False plays a store that never says how far a file is (all of it went to the dead letter).
    """

    def __init__(self, folder: Path, row: int = 1, position_known: bool = True, **options):
        self.folder, self.row, self.position_known = folder, row, position_known
        self.times_lost = False
        self.state = folder / "state"
        self.files = folder / "files"
        self.files.mkdir(exist_ok=True)
        options = {"path": str(self.files / "*"), "tag": "t", "read_from_head": True, **options}
        self.options = TailOptions(**options)
        self.now = 0.0
        self.disk: dict[int, Stored] = {}
        self.begin()

    def begin(self):
        """The process starts: nothing is under way, the clock begins anew."""
        self.under_way: deque[Unit] = deque()
        self.rests: dict[object, tuple[int, bytes]] = {}
        self.tailer = Tailer(self.options, SourceContext("audio", self.state, self.position), lambda: self.now)
        self.tailer.start()

    def position(self, tag, producer):
        stored = self.disk.get(producer)
        return stored.position if stored is not None and self.position_known and stored.tag == tag else None

    # --- files

    def write(self, name: str, data: bytes):
        with (self.files / name).open("ab") as file:
            file.write(data)

    # --- source

    def crank(self, seconds: float = 1.0) -> list[Received]:
        """Time passes; everything that can be read now is read."""
        self.now += seconds
        pieces = []
        while (received := self.tailer.step()) is not None:
            pieces.append(received)
            self.take(received)
        return pieces

    def take(self, received: Received):
        """As the runtime does: the begun row at the end waits for the next piece, and is not said to be durable."""
        offset, data = received.body.offset, bytes(received.body.data)
        assert received.seq == offset + len(data)
        rest = self.rests.pop(received.origin, None)
        if rest is not None:
            assert offset == rest[0] + len(rest[1]), "pieces of an origin follow each other"
            offset, data = rest[0], rest[1] + data
        whole = len(data) - (offset + len(data)) % self.row
        whole = max(whole, 0)
        self.rests[received.origin] = (offset + whole, data[whole:])
        self.under_way.append(Unit(received, offset, data[:whole]))

    # --- disk

    def store(self, count: int | None = None, answer: bool = True):
        """The oldest units become durable; with `answer` the source hears of it."""
        for _ in range(len(self.under_way) if count is None else min(count, len(self.under_way))):
            unit = self.under_way.popleft()
            received = unit.received
            stored = self.disk.setdefault(received.producer, Stored(received.tag, unit.offset, received.body.time))
            assert unit.offset == stored.position, "a byte was lost or repeated"
            assert received.body.time == stored.time or self.times_lost, "the file's time changed"
            stored.data += unit.data
            if answer:
                self.tailer.commit(received.origin, unit.offset + len(unit.data))

    def refuse(self, why: Exception | None = None):
        """What is under way is not stored; each origin hears of its oldest piece."""
        first = {}
        while self.under_way:
            unit = self.under_way.popleft()
            first.setdefault(unit.received.origin, unit.received.seq)
        for origin, seq in first.items():
            self.rests.pop(origin, None)
            self.tailer.refuse(origin, seq, why or Retry("no space", delay=2.0))

    def crash(self):
        """kill -9: nothing is written down; the next process has what is on disk."""
        for file in self.tailer._files.values():
            file.close()
        self.begin()

    def restart(self):
        """A clean stop and a start."""
        self.tailer.close()
        self.begin()

    def settle(self):
        """Everything is read and durable."""
        while self.crank() or self.under_way:
            self.store()

    @property
    def contents(self) -> list[bytes]:
        """What the disk holds of each file's contents, in the order of arrival."""
        return [bytes(stored.data) for stored in self.disk.values()]

    def close(self):
        self.tailer.close()


@pytest.fixture(scope="session")
def new_world():
    """Call it with a folder and options; close what it gives."""
    return World


@pytest.fixture
def files(tmp_path):
    """The folder that the world's files are in."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def world(tmp_path, files):
    """Call it with options for a world that is closed after the test."""
    worlds = []

    def make(**options) -> World:
        worlds.append(World(tmp_path, **options))
        return worlds[-1]

    yield make
    for one in worlds:
        one.close()


@pytest.fixture
def said(caplog):
    """Call it for the warnings since the last call."""
    caplog.set_level(logging.WARNING)

    def warnings() -> list[str]:
        texts = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return texts

    return warnings


@pytest.fixture
def no_birth_times(monkeypatch):
    """A file system that does not know when a file was born, such as an old NFS."""
    monkeypatch.setattr("wendelin_stream.sources.tail.identity._birth", lambda file: 0)


@pytest.fixture(scope="session")
def reuse_inode():
    """Call it with a path: the file is deleted, and a new one with the same inode number is there, empty."""

    def replace(path: Path):
        inode = path.stat().st_ino
        path.unlink()
        spare = []
        for k in range(2000):
            path.touch()
            if path.stat().st_ino == inode:
                break
            spare.append(path.rename(path.parent.parent / f"spare{k}"))
        assert path.stat().st_ino == inode, "this file system did not use the inode number again"
        for one in spare:
            one.unlink()

    return replace
