"""What the tests of the store share: small stores, streams of every type, a disk that fails on demand."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from wendelin_stream.batch import Signal
from wendelin_stream.store import Chunk, Flag, Part, Store, StoreConfig
from wendelin_stream.store.fs import FileSystem, Piece

SMALL = StoreConfig(sync="0 s", segment=65_536, keep_free=0)
NO_FLAG = Flag(0)
RATE = Fraction(25_600, 3)
VIBRATION = Signal(np.dtype("<f4"), ("x", "y"), ("m/s2", "m/s2"), rate=RATE)
WEATHER = Signal(np.dtype([("time", "<M8[ns]"), ("wind", "<f4"), ("yaw", "<i2")]), ("wind", "yaw"))


def blob(*pieces: bytes, chunk_id: bytes = b"", **fields: int) -> Chunk:
    """A chunk of plain bytes, one part for each piece."""
    return Chunk([Part([piece]) for piece in pieces], chunk_id, **fields)


def samples(first: int, count: int) -> np.ndarray:
    """Rows of VIBRATION whose content tells their number: row k is (k, -k), modulo 2**20 (float32 is exact there)."""
    k = (np.arange(first, first + count) % 2**20).astype("<f4")
    return np.stack([k, -k], axis=1)


def rows(first: int, count: int, t_first: int = 0, *, row: int = 0, flags: Flag = NO_FLAG, t_last: int = 0) -> Part:
    """A part of such rows."""
    data = samples(first, count).tobytes()
    return Part([data], count, t_first, t_last or t_first, row, flags)


def number(k: int) -> bytes:
    """A chunk id."""
    return hashlib.blake2b(str(k).encode(), digest_size=16).digest()


def tree(folder: Path, *, but: Sequence[str] = ("lock",)) -> dict[str, bytes]:
    """Content of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    }


class Disk(FileSystem):
    """A disk that fails on demand, and that can hold its syncs back.

    fail: called as ``fail(operation, number of this call)``; an errno that it returns is raised.
    """

    def __init__(self) -> None:
        self.fail: Callable[[str, int], int | None] = lambda operation, call: None
        self.calls: dict[str, int] = {}
        self.writes = 0
        self._count = threading.Lock()
        self.syncs = threading.Event()
        self.syncs.set()
        self.short = False
        self.room = 10**12

    def _check(self, operation: str) -> None:
        with self._count:
            self.calls[operation] = call = self.calls.get(operation, 0) + 1
        code = self.fail(operation, call)
        if code is not None:
            raise OSError(code, errno.errorcode[code])

    def crash(self) -> None:
        """From now on nothing reaches the disk: what was written stays as it is, never synced or published."""
        self.fail = lambda operation, call: errno.EIO
        self.syncs.set()

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        self._check("open")
        return super().open(path, create=create, write=write)

    def pwritev(self, fd: int, pieces: Sequence[Piece], offset: int) -> int:
        self._check("pwritev")
        if self.short:
            pieces = [b"".join(pieces)[: max(1, sum(map(len, pieces)) // 2)]]
        size = super().pwritev(fd, pieces, offset)
        with self._count:
            self.writes += 1
        return size

    def truncate(self, fd: int, size: int) -> None:
        self._check("truncate")
        super().truncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        self.syncs.wait(20)
        self._check("fdatasync")

    def sync_folder(self, path: Path) -> None:
        self._check("sync_folder")

    def free(self, path: Path) -> int:
        return self.room


class Diary(Disk):
    """A disk that writes down what is done to which file or folder: ``("write", "state")``."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[str, str]] = []

    def note(self, what: str, fd: int) -> None:
        self.entries.append((what, Path(f"/proc/self/fd/{fd}").readlink().name))

    def pwritev(self, fd: int, pieces: Sequence[Piece], offset: int) -> int:
        self.note("write", fd)
        return super().pwritev(fd, pieces, offset)

    def fdatasync(self, fd: int) -> None:
        self.note("sync", fd)

    def sync_folder(self, path: Path) -> None:
        self.entries.append(("sync", path.name))


def crash(store: Store, disk: Disk) -> None:
    """kill -9: the threads end without syncing or publishing anything more."""
    disk.crash()
    store.close()


def written(disk: Disk, writes: int, timeout: float = 20) -> None:
    """Wait until that many writes are finished."""
    waited = threading.Event()
    for _ in range(int(timeout * 1000)):
        if disk.writes >= writes:
            return
        waited.wait(0.001)
    raise TimeoutError
