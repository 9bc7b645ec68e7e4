"""Which file is which: names change and inode numbers are used again, the time of birth does neither.

A fingerprint of a file's first bytes would not do: recordings begin alike, and recorders go back to write lengths
into the header. So a file is its inode and its time of birth, which Linux tells for ext4, xfs, btrfs, tmpfs and others
by statx(2). Where it is unknown the device stands in, and `Mark` finds that a number was used again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from typing import Final

_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = -100, 0x100, 0x1000
_STATX_BTIME: Final = 0x800
_BIRTH_AT: Final = 80  # struct statx: stx_btime is 8 bytes of seconds and 4 of nanoseconds

WINDOW: Final = 64
"""Bytes that a `Mark` is about."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the file system says of a file. born, changed: ns UTC; born is 0 where it is unknown."""

    device: int
    inode: int
    born: int
    size: int
    changed: int
    links: int
    regular: bool

    @property
    def key(self) -> int:
        """The file itself, whatever its name: 64 bits, the same after a restart."""
        return _hash64(b"born", self.inode, self.born) if self.born else _hash64(b"device", self.device, self.inode)

    @property
    def start(self) -> int:
        """When the first sample was written, as far as one can tell, in ns UTC.

        The time of birth of a file that was recorded here. One that was copied here with its times was changed before
        it was born, and then the end of the recording is all that is known.
        """
        return min(self.born or self.changed, self.changed)


def producer(key: int, generation: int) -> int:
    """Names the contents of a file durably in the store: 64 bits. A file that is begun anew is another generation."""
    return _hash64(b"producer", key, generation)


def _hash64(what: bytes, *numbers: int) -> int:
    raw = b"".join(number.to_bytes(16, "little") for number in numbers)
    return int.from_bytes(hashlib.blake2b(what + raw, digest_size=8).digest(), "little")


def look(file: str | int) -> Look:
    """Look at a path, without following a symbolic link, or at a descriptor. Raises OSError."""
    found = os.fstat(file) if isinstance(file, int) else os.lstat(file)
    return Look(
        device=found.st_dev,
        inode=found.st_ino,
        born=_birth(file),
        size=found.st_size,
        changed=found.st_mtime_ns,
        links=found.st_nlink,
        regular=stat.S_ISREG(found.st_mode),
    )


_libc: Final = ctypes.CDLL(None)


def _birth(file: str | int) -> int:
    """Time of birth in ns UTC; 0 where libc, kernel or file system cannot tell."""
    if not hasattr(_libc, "statx"):
        return 0
    answer = ctypes.create_string_buffer(256)
    folder, name, flags = (
        (file, b"", _AT_EMPTY_PATH) if isinstance(file, int) else (_AT_FDCWD, os.fsencode(file), _AT_SYMLINK_NOFOLLOW)
    )
    if _libc.statx(folder, name, flags, _STATX_BTIME, answer) != 0:
        return 0
    known: int = struct.unpack_from("=I", answer)[0]
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _BIRTH_AT)
    return max(0, seconds * 10**9 + nanoseconds) if known & _STATX_BTIME else 0


@dataclass(frozen=True, slots=True)
class Mark:
    """Proof that a file is still the one we read: the `WINDOW` bytes before `end` had this digest."""

    end: int
    digest: str

    @classmethod
    def at(cls, descriptor: int, end: int) -> Mark:
        """The mark of what is there now."""
        window = os.pread(descriptor, WINDOW, end - WINDOW)
        return cls(end, hashlib.blake2b(window, digest_size=8).hexdigest())


def still_the_same(descriptor: int, size: int, offset: int, marks: tuple[Mark, ...]) -> bool:
    """Whether a file of `size` bytes still begins with the `offset` bytes that were read of it.

    Every mark within the file must hold. A file that is shorter now needs one that holds: after a power cut the
    recorder's last seconds may be gone while the store has them, and that is not a new recording.
    """
    within = [mark for mark in marks if mark.end <= size]
    return all(Mark.at(descriptor, mark.end) == mark for mark in within) and (size >= offset or bool(within))
