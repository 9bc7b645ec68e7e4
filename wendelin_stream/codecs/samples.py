"""Samples as bytes: the number formats of messages and files, and which rows a piece of them holds.

Rows are always little endian in memory and on disk, in the width that they came in (an int16 stays an
int16, whatever its byte order was); only the packed 24-bit integer, which NumPy does not know, is widened to int32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_DTYPE: Final = re.compile(r"([<>|]?)([iuf])([0-9])")
_SIZES: Final = {"i": (1, 2, 3, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """One number as it is sent: `kind` i, u or f, `size` in bytes (3 only for i), byte order ``<`` or ``>``."""

    kind: str
    size: int
    order: str = "<"

    @classmethod
    def parse(cls, text: str) -> SampleFormat:
        """``parse(">i2")``: NumPy's spelling, and ``<i3`` for packed 24 bit. Raises ValueError.

        The byte order must be said where there is one.
        """
        match = _DTYPE.fullmatch(text)
        if match is None or int(match[3]) not in _SIZES[match[2]]:
            raise ValueError(f"{text!r} is no sample type: write it like '<i2', '>i2', '<i3', '<f4', 'u1'")
        order, kind, size = match[1], match[2], int(match[3])
        if size > 1 and order not in ("<", ">"):
            raise ValueError(f"{text!r} needs its byte order: '<{kind}{size}' (little endian) or '>{kind}{size}'")
        return cls(kind, size, order if size > 1 else "<")

    @property
    def stored(self) -> np.dtype[Any]:
        """The dtype of rows: little endian, ``<i4`` for 24 bit."""
        return np.dtype(f"<{self.kind}{4 if self.size == 3 else self.size}")

    def rows(self, data: memoryview, channels: int) -> NDArray[Any]:
        """Interleaved samples as (n, channels) of dtype `stored`, read-only.

        data: n * channels * size bytes. A view of them, unless they are big endian or packed.
        """
        if self.size == 3:
            rows = _widened(data, self.order)
        else:
            rows = np.frombuffer(data, dtype=f"{self.order}{self.kind}{self.size}").astype(self.stored, copy=False)
        rows = rows.reshape(-1, channels)
        rows.flags.writeable = False
        return rows


def _widened(data: memoryview, order: str) -> NDArray[np.int32]:
    """Packed 24-bit integers as int32 of equal value: their bytes above an empty one, shifted down with the sign."""
    packed = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
    wide = np.zeros((len(packed), 4), dtype=np.uint8)
    wide[:, 1:] = packed if order == "<" else packed[:, ::-1]
    numbers = wide.view("<i4").reshape(-1)
    numbers >>= 8
    return numbers


def whole_rows(start: int, row_bytes: int, begin: int, end: int) -> tuple[int, int]:
    """Where the whole rows within the file positions begin to end lie: (first byte, behind the last byte).

    Row k of the file is at ``start + k * row_bytes``, begin >= start. A row of which only the end is there is left
    out; the first position is behind `end` if nothing but such a torn row is there.
    """
    first = begin + (start - begin) % row_bytes
    return first, first + max(end - first, 0) // row_bytes * row_bytes


def channel_names(channels: int | Sequence[str]) -> tuple[str, ...]:
    """The names, or ``ch1``, ``ch2``, ... for a count."""
    return tuple(f"ch{k + 1}" for k in range(channels)) if isinstance(channels, int) else tuple(channels)


def channel_units(unit: str | Sequence[str], count: int) -> tuple[str, ...]:
    """One unit for all channels, or the list as it is."""
    return (unit,) * count if isinstance(unit, str) else tuple(unit)
