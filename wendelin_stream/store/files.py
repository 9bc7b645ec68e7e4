"""Equal files in a folder that together are one array of bytes: data segments, index files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wendelin_stream.store.format import INDEX_BYTES, RECORD_BYTES
from wendelin_stream.store.fs import FileSystem, Piece, write_all
from wendelin_stream.store.layout import cut


@dataclass(frozen=True, slots=True)
class FileNames:
    """Where byte `o` is: in the file of number ``o // file_bytes``, named by its first byte (or record)."""

    folder: Path
    suffix: str
    file_bytes: int
    unit: int = 1

    def path(self, number: int) -> Path:
        """Path of a file by its number."""
        return self.folder / f"{number * self.file_bytes // self.unit:020d}{self.suffix}"

    def number(self, name: str) -> int | None:
        """Number of the file of that name, None if there is no such file in the array."""
        stem = name.removesuffix(self.suffix)
        if stem == name or not stem.isdecimal():
            return None
        number, rest = divmod(int(stem) * self.unit, self.file_bytes)
        return number if rest == 0 else None


def data_files(stream: Path, seg_bytes: int) -> FileNames:
    """The payload of a stream."""
    return FileNames(stream / "data", ".data", seg_bytes)


def index_files(stream: Path) -> FileNames:
    """The index of a stream."""
    return FileNames(stream / "index", ".idx", INDEX_BYTES, RECORD_BYTES)


@dataclass(slots=True)
class Dirty:
    """What must be synced before the bytes count as stored, and which descriptors nobody needs afterwards."""

    files: set[int] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    retired: set[int] = field(default_factory=set)

    def merge(self, other: Dirty) -> None:
        """Add what another write left to be synced."""
        self.files |= other.files
        self.folders |= other.folders
        self.retired |= other.retired

    def sync(self, fs: FileSystem) -> None:
        """Make all of it durable. Raises OSError."""
        for fd in self.files:
            fs.fdatasync(fd)
        for folder in self.folders:
            fs.sync_folder(folder)

    def close_retired(self, fs: FileSystem) -> None:
        """Close what nobody needs any more, durable or not."""
        for fd in self.retired:
            fs.close(fd)
        self.retired.clear()


class Files:
    """Reads and writes such an array. Not thread-safe: one thread at a time."""

    def __init__(self, fs: FileSystem, names: FileNames, *, write: bool = True) -> None:
        self._write = write
        self.names = names
        self._fs = fs
        self._open: dict[int, int] = {}
        self._dirty = Dirty()
        self._named: set[int] = set()  # files whose name was made durable, or waits for it, since we opened

    def write(self, offset: int, pieces: Sequence[Piece]) -> None:
        """Write all the pieces, making files of full length where there are none. Raises OSError."""
        for number, inside, run in cut(pieces, offset, self.names.file_bytes):
            fd = self._descriptor(number)
            self._dirty.files.add(fd)
            if number not in self._named:
                self._lengthen(fd)  # it may have been opened to read what a crash left of it
                self._named.add(number)
                self._dirty.folders.add(self.names.folder)
            write_all(self._fs, fd, run, inside)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes that are there: fewer than `size` if a file is short or missing. Raises OSError."""
        out = []
        while size > 0:
            number, inside = divmod(offset, self.names.file_bytes)
            want = min(size, self.names.file_bytes - inside)
            try:
                data = self._fs.pread(self._descriptor(number, create=False), want, inside)
            except FileNotFoundError:
                data = b""
            out.append(data)
            if not self._dirty.files:
                self.trim()
            if len(data) < want:
                break
            offset, size = offset + want, size - want
        return b"".join(out)

    def next_data(self, offset: int) -> int | None:
        """The next byte of the same file that is not in a hole; None if there is none, or no such file."""
        number, inside = divmod(offset, self.names.file_bytes)
        try:
            found = self._fs.next_data(self._descriptor(number, create=False), inside)
        except FileNotFoundError:
            return None
        return None if found is None else number * self.names.file_bytes + found

    def length(self, number: int) -> int:
        """Length of a file, -1 if it is missing."""
        try:
            fd = self._fs.open(self.names.path(number), write=False)
        except FileNotFoundError:
            return -1
        try:
            return self._fs.size(fd)
        finally:
            self._fs.close(fd)

    def take_dirty(self) -> Dirty:
        """What was written since the last call; files before the newest are handed over to be closed."""
        dirty, self._dirty = self._dirty, Dirty()
        newest = max(self._open, default=0)
        for number in [n for n in self._open if n < newest]:
            dirty.retired.add(self._open.pop(number))
        return dirty

    def trim(self) -> None:
        """Close all but the two files used last. Nothing may wait to be synced."""
        while len(self._open) > 2:
            self._fs.close(self._open.pop(next(iter(self._open))))

    def close(self) -> None:
        """Close what is open. Nothing may wait to be synced."""
        for fd in self._open.values():
            self._fs.close(fd)
        self._open.clear()

    def _descriptor(self, number: int, *, create: bool = True) -> int:
        fd = self._open.get(number)
        if fd is not None:
            return fd
        fd = self._fs.open(self.names.path(number), create=create, write=self._write)
        try:
            if create:
                self._lengthen(fd)
        except OSError:
            self._fs.close(fd)
            raise
        self._open[number] = fd
        return fd

    def _lengthen(self, fd: int) -> None:
        if self._fs.size(fd) < self.names.file_bytes:
            self._fs.truncate(fd, self.names.file_bytes)
