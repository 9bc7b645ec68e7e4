"""The few things that writing code asks of a file system, in one object that tests replace.

A disk knows three durabilities: a file's bytes and length (`fdatasync`), and its name (`sync_folder`). Everything
that writes or recovers goes through here; readers map files directly.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

Piece = bytes | bytearray | memoryview
IOV_MAX = 1024


class FileSystem:
    """The real one. All methods raise OSError."""

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        """A descriptor for reading and, if `write`, writing; a missing file is made if `create`."""
        access = os.O_RDWR if write else os.O_RDONLY
        return os.open(path, access | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def close(self, fd: int) -> None:
        """Give the descriptor back, with its lock. What it says of the data matters to nobody: syncs have decided."""
        try:
            os.close(fd)
        except OSError as error:  # it is closed all the same
            if error.errno == errno.EBADF:
                raise

    def size(self, fd: int) -> int:
        """Length of the file in bytes."""
        return os.fstat(fd).st_size

    def next_data(self, fd: int, offset: int) -> int | None:
        """Where, from `offset` on, the file may hold something else than a hole; None: nowhere."""
        try:
            return os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer at the file's end."""
        return os.pread(fd, size, offset)

    def pwritev(self, fd: int, pieces: Sequence[Piece], offset: int) -> int:
        """Write at most 1024 pieces one after the other; returns how many bytes went out (maybe not all)."""
        return os.pwritev(fd, pieces, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Set the length; new bytes are zero and take no space."""
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        """Make the file's bytes and length durable."""
        os.fdatasync(fd)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            self.close(fd)

    def mkdir(self, path: Path) -> None:
        """Make one folder."""
        path.mkdir(mode=0o755)

    def rename(self, old: Path, new: Path) -> None:
        """Rename, replacing a file or an empty folder."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def names(self, path: Path) -> list[str]:
        """What a folder holds, sorted."""
        return sorted(os.listdir(path))  # noqa: PTH208

    def is_folder(self, path: Path) -> bool:
        """Whether there is a folder."""
        return path.is_dir()

    def exists(self, path: Path) -> bool:
        """Whether there is anything."""
        return path.exists()

    def lock(self, fd: int, *, wait: bool = False) -> bool:
        """Take the exclusive lock of an open file; False if somebody else has it and `wait` is not set."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def free(self, path: Path) -> int:
        """Bytes that we may still write on the disk of `path`."""
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize


def write_all(fs: FileSystem, fd: int, pieces: Sequence[Piece], offset: int) -> None:
    """Write all pieces at `offset`, finishing short writes. `len` of a piece must be its bytes."""
    for start in range(0, len(pieces), IOV_MAX):
        group = pieces[start : start + IOV_MAX]
        size = sum(map(len, group))
        written = fs.pwritev(fd, group, offset) if size else 0
        while written < size:
            rest = memoryview(b"".join(group))[written:]
            step = fs.pwritev(fd, [rest], offset + written)
            if step <= 0:
                raise OSError(f"only {written} of {size} bytes were written")
            written += step
        offset += size


def replace_file(fs: FileSystem, path: Path, data: bytes) -> None:
    """Put `data` into a file so that after a crash there is the old content or the new, never a part."""
    fresh = path.with_name(f".{path.name}.new")
    fd = fs.open(fresh, create=True)
    try:
        fs.truncate(fd, 0)
        write_all(fs, fd, [data], 0)
        fs.fdatasync(fd)
    finally:
        fs.close(fd)
    fs.rename(fresh, path)
    fs.sync_folder(path.parent)


def make_folder(fs: FileSystem, path: Path) -> None:
    """Make a folder and those above it where there are none; its name is durable, also if it was there."""
    if fs.is_folder(path):
        with contextlib.suppress(PermissionError):  # nobody who may not read the folder above has made this one
            fs.sync_folder(path.parent)  # who made it may have ended before doing so
        return
    make_folder(fs, path.parent)
    try:
        fs.mkdir(path)
    except FileExistsError:  # somebody was faster, or it is a file
        if not fs.is_folder(path):
            raise
    fs.sync_folder(path.parent)


def read_file(fs: FileSystem, path: Path) -> bytes:
    """A small file's content. Raises FileNotFoundError."""
    fd = fs.open(path, write=False)
    try:
        return fs.pread(fd, fs.size(fd), 0)
    finally:
        fs.close(fd)


def remove_tree(fs: FileSystem, path: Path) -> None:
    """Remove a folder and all that it holds."""
    for name in fs.names(path):
        inner = path / name
        if fs.is_folder(inner):
            remove_tree(fs, inner)
        else:
            fs.unlink(inner)
    fs.rmdir(path)
