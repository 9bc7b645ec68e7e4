"""Many equal files as one array in memory, without copying (S42, S43).

A stretch of addresses is reserved without access, then every file is mapped at its place in it. So the array of a
stream that grows is contiguous, and nothing that was handed out ever moves: a file is mapped once and stays until
the last slice is gone. Where addresses are scarce (``ulimit -v``) each file is mapped for itself, and a range over
several files is copied.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.store.files import FileNames

_PROT_NONE, _MAP_FIXED, _MAP_NORESERVE = 0, 0x10, 0x4000
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _map(address: int | None, size: int, prot: int, flags: int, fd: int) -> int:
    found = _mmap(address, size, prot, flags, fd, 0)
    if found == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found)


class _Area:
    """A reserved stretch of addresses, unmapped when nothing refers to it any more."""

    def __init__(self, names: FileNames, size: int) -> None:
        self._names = names
        self.size = size
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.address = _map(None, size, _PROT_NONE, flags, -1)
        self._low = self._high = 0  # files of these numbers are mapped
        weakref.finalize(self, _munmap, self.address, size).atexit = False

    def cover(self, first: int, stop: int) -> None:
        """Map the files from number `first` to before `stop`, and what lies between them and those already mapped."""
        if self._low == self._high:
            self._low = self._high = first
        for number in range(self._high, stop):
            self._add(number)
            self._high = number + 1
        for number in range(self._low - 1, first - 1, -1):
            self._add(number)
            self._low = number

    def _add(self, number: int) -> None:
        fd = os.open(self._names.path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = self._names.file_bytes
            _map(self.address + number * size, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, fd)
        finally:
            os.close(fd)


class _Span:
    """Bytes of an area, for NumPy; keeps the area alive."""

    def __init__(self, area: _Area, start: int, size: int) -> None:
        self._area = area
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (area.address + start, True),
        }


class View:
    """Bytes `start` to `stop` of equal files as arrays. Files must have their full length.

    reserve: bytes of addresses to begin with; a stream that outgrows them gets a larger stretch, while arrays from
    the old one stay valid.
    """

    def __init__(self, names: FileNames, reserve: int) -> None:
        self._names = names
        self._reserve = reserve
        self._area: _Area | None = None
        self._scarce = False

    def window(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The bytes, read-only: (stop - start,). Raises OSError if a file is missing.

        They must have been written: behind a stream's end there are zeros at best.
        """
        if start >= stop:
            empty = np.empty(0, np.uint8)
            empty.flags.writeable = False
            return empty
        if not self._scarce:
            try:
                return self._contiguous(start, stop)
            except FileNotFoundError:
                raise
            except OSError:  # no addresses or no more maps to be had
                self._scarce, self._area = True, None
        return self._pieces(start, stop)

    def _contiguous(self, start: int, stop: int) -> NDArray[np.uint8]:
        size = self._names.file_bytes
        if self._area is None or self._area.size < stop:
            self._area = self._reserved(stop)
        self._area.cover(start // size, -(-stop // size))
        return np.asarray(_Span(self._area, start, stop - start))

    def _reserved(self, need: int) -> _Area:
        """The largest stretch to be had between what is needed and what is wished for."""
        unit = self._names.file_bytes
        need = -(-need // unit) * unit
        wish = max(self._reserve // unit * unit, 4 * need)
        while wish > need:
            try:
                return _Area(self._names, wish)
            except OSError:
                wish = max(need, wish // 2 // unit * unit)
        return _Area(self._names, need)

    def _pieces(self, start: int, stop: int) -> NDArray[np.uint8]:
        """One map for each file; a range over several is copied."""
        size = self._names.file_bytes
        parts: list[NDArray[Any]] = []
        for number in range(start // size, -(-stop // size)):
            low, high = max(start - number * size, 0), min(stop - number * size, size)
            with open(self._names.path(number), "rb") as file:
                page = low // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
                mapped = mmap.mmap(file.fileno(), high - page, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED, offset=page)
            parts.append(np.frombuffer(mapped, np.uint8)[low - page :])
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        whole.flags.writeable = False
        return whole
