"""A disk in memory that loses power: what a process reads, and what would be left, are kept apart.

Three things become durable apart from each other: a file's bytes (in blocks of 64), its length, and its name. Losing
power keeps of what was not synced an arbitrary part, in grains of 64 or 512 bytes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from wendelin_stream.store.fs import FileSystem, Piece

BLOCK = 64
ZEROS = bytes(BLOCK)


@dataclass(eq=False)
class File:
    """blocks, size: what is read.  kept, kept_size: what is durable.  dirty: blocks that a sync would write."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    kept: dict[int, bytes] = field(default_factory=dict)
    kept_size: int = 0
    dirty: set[int] = field(default_factory=set)

    def read(self, size: int, offset: int) -> bytes:
        stop = min(offset + size, self.size)
        if offset >= stop:
            return b""
        blocks = range(offset // BLOCK, -(-stop // BLOCK))
        data = b"".join(self.blocks.get(block, ZEROS) for block in blocks)
        return data[offset % BLOCK :][: stop - offset]

    def write(self, data: bytes, offset: int) -> None:
        if not data:
            return
        first, stop = offset // BLOCK, -(-(offset + len(data)) // BLOCK)
        old = bytearray(b"".join(self.blocks.get(block, ZEROS) for block in range(first, stop)))
        old[offset % BLOCK : offset % BLOCK + len(data)] = data
        for k, block in enumerate(range(first, stop)):
            self.blocks[block] = bytes(old[k * BLOCK : (k + 1) * BLOCK])
            self.dirty.add(block)
        self.size = max(self.size, offset + len(data))

    def sync(self) -> None:
        self.kept.update({block: self.blocks[block] for block in self.dirty})
        self.dirty.clear()
        self.kept_size = self.size

    def fail_to_sync(self, random: Random) -> None:
        """The kernel tried once, lost some of it, and calls all of it clean."""
        self.kept.update({block: self.blocks[block] for block in self.dirty if random.random() < 0.5})
        self.dirty.clear()

    def lose_power(self, random: Random) -> None:
        share, grain = random.choice((0.0, 0.5, 1.0)), random.choice((1, 8))
        lucky: dict[int, bool] = {}
        for block in sorted(self.dirty):
            if lucky.setdefault(block // grain, random.random() < share):
                self.kept[block] = self.blocks[block]
        if random.random() < 0.5:
            self.kept_size = self.size
        self.size, self.dirty = self.kept_size, set()
        self.kept = {block: data for block, data in self.kept.items() if block * BLOCK < self.size}
        self.blocks = dict(self.kept)


@dataclass(eq=False)
class Folder:
    """names: what is seen.  kept: what is durable.  changes: steps from `kept` to `names`, any of which may survive."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    kept: dict[str, File | Folder] = field(default_factory=dict)
    changes: list[tuple[str | None, str | None, File | Folder]] = field(default_factory=list)

    def change(self, old: str | None, new: str | None, what: File | Folder) -> None:
        """Give `what` a new name (None: no name any more)."""
        self.changes.append((old, new, what))
        self._apply(self.names, old, new, what)

    @staticmethod
    def _apply(names: dict[str, File | Folder], old: str | None, new: str | None, what: File | Folder) -> None:
        if old is not None and names.get(old) is what:
            del names[old]
        if new is not None:
            names[new] = what

    def sync(self) -> None:
        self.kept, self.changes = dict(self.names), []

    def lose_power(self, random: Random) -> None:
        share = random.choice((0.0, 0.5, 1.0))
        for old, new, what in self.changes:
            if random.random() < share and (old is None or self.kept.get(old) is what):
                self._apply(self.kept, old, new, what)
        self.names, self.changes = dict(self.kept), []
        for _, what in sorted(self.names.items()):
            what.lose_power(random)


class PowerDisk(FileSystem):
    """One process's view of the disk; `restart` gives the next one's.

    dies_at: the number of the operation within which the process dies; nothing that it does later has any effect.
    fails_at: operations that fail, once, with an errno.
    """

    def __init__(self, root: Folder | None = None, seed: int = 0) -> None:
        self.root = root or Folder()
        self.random = Random(seed)
        self.dies_at: int | None = None
        self.fails_at: dict[int, int] = {}
        self.operations = 0
        self.dead = False
        self.most_open = 0
        self.misused: list[str] = []
        self._guard = threading.RLock()
        self._open: dict[int, File | Folder] = {}
        self._locks: dict[int, File | Folder] = {}

    def restart(self, *, power: bool, seed: int) -> PowerDisk:
        """The disk after the process's end, or after the end of the power too."""
        with self._guard:
            self.dead = True
            if power:
                self.root.lose_power(Random(seed))
            return PowerDisk(self.root, seed)

    def file(self, path: Path) -> File:
        """A file's content, for who looks from outside."""
        found = self._find(path)
        assert isinstance(found, File)
        return found

    # --- helpers ---

    def _step(self) -> int | None:
        """Count an operation that changes something; the errno with which it is to fail."""
        if self.dead:
            raise OSError(errno.EIO, "dead")
        self.operations += 1
        if self.operations == self.dies_at:
            self.dead = True
            return errno.EIO
        return self.fails_at.pop(self.operations, None)

    def _pass(self) -> None:
        code = self._step()
        if code is not None:
            raise OSError(code, os.strerror(code))

    def _alive(self) -> None:
        if self.dead:
            raise OSError(errno.EIO, "dead")

    def _find(self, path: Path) -> File | Folder:
        here: File | Folder = self.root
        for part in path.parts[1:]:
            if not isinstance(here, Folder) or part not in here.names:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            here = here.names[part]
        return here

    def _folder(self, path: Path) -> Folder:
        found = self._find(path)
        if not isinstance(found, Folder):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return found

    def _file(self, fd: int) -> File:
        found = self._open.get(fd)
        if not isinstance(found, File):
            self.misused.append(f"descriptor {fd} is not open")
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return found

    # --- FileSystem ---

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        with self._guard:
            self._alive()
            try:
                found = self._find(path)
            except FileNotFoundError:
                if not create:
                    raise
                self._pass()
                found = File()
                self._folder(path.parent).change(None, path.name, found)
            fd = next(k for k in range(len(self._open) + 1) if k not in self._open)
            self._open[fd] = found
            self.most_open = max(self.most_open, len(self._open))
            return fd

    def close(self, fd: int) -> None:
        with self._guard:
            self._file(fd)
            del self._open[fd]
            self._locks.pop(fd, None)

    def size(self, fd: int) -> int:
        with self._guard:
            self._alive()
            return self._file(fd).size

    def next_data(self, fd: int, offset: int) -> int | None:
        with self._guard:
            self._alive()
            file = self._file(fd)
            return min((max(b * BLOCK, offset) for b in file.blocks if (b + 1) * BLOCK > offset), default=None)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        with self._guard:
            self._alive()
            return self._file(fd).read(size, offset)

    def pwritev(self, fd: int, pieces: Sequence[Piece], offset: int) -> int:
        with self._guard:
            code = self._step()
            data = b"".join(pieces)
            if code is not None:
                self._file(fd).write(data[: self.random.randint(0, len(data))], offset)
                raise OSError(code, os.strerror(code))
            self._file(fd).write(data, offset)
            return len(data)

    def truncate(self, fd: int, size: int) -> None:
        with self._guard:
            self._pass()
            file = self._file(fd)
            assert size >= file.size or size == 0
            if size == 0:
                file.blocks, file.dirty = {}, set()
            file.size = size

    def fdatasync(self, fd: int) -> None:
        with self._guard:
            code = self._step()
            if code is not None:
                self._file(fd).fail_to_sync(self.random)
                raise OSError(code, os.strerror(code))
            self._file(fd).sync()

    def sync_folder(self, path: Path) -> None:
        with self._guard:
            self._pass()
            self._folder(path).sync()

    def mkdir(self, path: Path) -> None:
        with self._guard:
            self._pass()
            self._folder(path.parent).change(None, path.name, Folder())

    def rename(self, old: Path, new: Path) -> None:
        with self._guard:
            self._pass()
            assert old.parent == new.parent
            self._folder(old.parent).change(old.name, new.name, self._find(old))

    def unlink(self, path: Path) -> None:
        with self._guard:
            self._pass()
            self._folder(path.parent).change(path.name, None, self._find(path))

    def rmdir(self, path: Path) -> None:
        self.unlink(path)

    def names(self, path: Path) -> list[str]:
        with self._guard:
            self._alive()
            return sorted(self._folder(path).names)

    def is_folder(self, path: Path) -> bool:
        with self._guard:
            self._alive()
            try:
                return isinstance(self._find(path), Folder)
            except OSError:
                return False

    def exists(self, path: Path) -> bool:
        with self._guard:
            self._alive()
            try:
                self._find(path)
            except OSError:
                return False
            return True

    def lock(self, fd: int, *, wait: bool = False) -> bool:
        with self._guard:
            self._alive()
            if self._file(fd) in self._locks.values():
                return False
            self._locks[fd] = self._file(fd)
            return True

    def free(self, path: Path) -> int:
        return 1 << 50
