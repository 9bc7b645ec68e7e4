"""Comparing and reading bytes at many places of a buffer at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Bytes:
    """A buffer seen as bytes and as 8-byte words that begin at any byte.

    u8: (n,) uint8. words: (max(n - 7, 0),) big-endian uint64, word i is bytes i to i + 7, unaligned.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self.view = memoryview(data)
        self.u8: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
        count = max(len(self.u8) - 7, 0)
        self.words: NDArray[np.uint64] = np.ndarray((count,), ">u8", data, strides=(1,)) if count else _NO_WORDS

    def word(self, at: Index) -> NDArray[np.uint64]:
        """The 8 bytes at each place (ascending), as native numbers; zeros stand for what is behind the end."""
        whole = len(at)
        if whole and at[-1] >= len(self.words):
            whole = int(np.searchsorted(at, len(self.words)))
        result = np.empty(len(at), np.uint64)
        result[:whole] = self.words[at[:whole]]
        for k in range(whole, len(at)):
            start = int(at[k])
            result[k] = int.from_bytes(bytes(self.view[start : start + 8]).ljust(8, b"\0"), "big")
        return result


_NO_WORDS: NDArray[np.uint64] = np.empty(0, ">u8")


def same_bytes(data: Bytes, at: Index, expected: bytes) -> Mask:
    """At which places (ascending) `expected` stands. Never true where it would reach behind the end."""
    size = len(expected)
    result: Mask = at + size <= len(data.u8)
    for done in range(0, size, 8):
        part = expected[done : done + 8]
        bits = np.uint64(64 - 8 * len(part))
        result &= data.word(at + done) >> bits == np.uint64(int.from_bytes(part, "big"))
    return result
