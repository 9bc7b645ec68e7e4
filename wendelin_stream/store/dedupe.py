"""Which chunks are stored already, by their 16-byte ids, and how far each producer got."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.store.format import Flag

RECENT = 16_384  # ids in the set before they move to the sorted array, which costs some ms
_PAIR = np.dtype([("high", "<u8"), ("low", "<u8")])
_NO_ID = bytes(16)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """Ids in sorted order; born: which one of all ids it was, so that the oldest can be dropped. 20 bytes each.

    `high` and `low` are memoryviews: `bisect` reads them five times faster than an array.
    """

    ids: NDArray[Any]
    born: NDArray[np.uint64]
    high: memoryview
    low: memoryview

    @classmethod
    def of(cls, ids: NDArray[Any], born: NDArray[np.uint64]) -> _Frozen:
        high, low = (np.ascontiguousarray(ids[half]) for half in ("high", "low"))
        return cls(ids, born, high.data, low.data)

    def __contains__(self, chunk_id: bytes) -> bool:
        want, low = int.from_bytes(chunk_id[:8], "little"), int.from_bytes(chunk_id[8:], "little")
        at = bisect_left(self.high, want)
        if at == len(self.high) or self.high[at] != want:
            return False
        stop = bisect_right(self.high, want, at)
        at = bisect_left(self.low, low, at, stop)
        return at < stop and bool(self.low[at] == low)


class Window:
    """The last `size` ids, in bounded memory: a set of the newest, one sorted array of the others.

    One thread calls `add`; any thread may ask.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._count = 0
        self._recent: dict[bytes, None] = {}
        self._frozen = _Frozen.of(np.empty(0, _PAIR), np.empty(0, np.uint64))

    def __contains__(self, chunk_id: bytes) -> bool:
        return chunk_id in self._recent or chunk_id in self._frozen

    def add(self, chunk_ids: Iterable[bytes]) -> None:
        """Remember ids; the oldest beyond the window's size are forgotten."""
        if self.size == 0:
            return
        recent = self._recent
        before = len(recent)
        recent.update(dict.fromkeys(chunk_ids))
        self._count += len(recent) - before
        if len(recent) >= min(RECENT, self.size):
            self._freeze()

    def fill(self, blocks: Iterable[NDArray[Any]]) -> None:
        """Start anew with the ids of index records; the blocks of records come newest first."""
        parts: list[NDArray[Any]] = []
        found = 0
        for block in blocks if self.size else ():
            ids = np.ascontiguousarray(block["chunk_id"]).view(_PAIR)
            ids = ids[(ids["high"] != 0) | (ids["low"] != 0)]
            parts.insert(0, ids)
            found += len(ids)
            if found >= self.size:
                break
        ids = np.concatenate(parts)[-self.size :] if parts else np.empty(0, _PAIR)
        self._count = len(ids)
        self._recent = {}
        self._frozen = _sorted(ids, np.arange(len(ids), dtype=np.uint64))

    def _freeze(self) -> None:
        """Move the set into the array. The array is there before the set goes, so that a reader misses nothing."""
        new = np.frombuffer(b"".join(self._recent), _PAIR)
        births = np.arange(self._count - len(new), self._count, dtype=np.uint64)
        old = self._frozen
        ids, born = np.concatenate((old.ids, new)), np.concatenate((old.born, births))
        kept = born + np.uint64(self.size) >= np.uint64(self._count)
        self._frozen = _sorted(ids[kept], born[kept])
        self._recent = {}


def _sorted(ids: NDArray[Any], born: NDArray[np.uint64]) -> _Frozen:
    order = np.lexsort((ids["low"], ids["high"]))
    return _Frozen.of(ids[order], born[order])


def producer_positions(blocks: Iterable[NDArray[Any]]) -> dict[int, int]:
    """The last position of every producer, from blocks of index records that come newest first."""
    positions: dict[int, int] = {}
    for block in blocks:
        told = block[(block["producer"] != 0) & (block["flags"] & np.uint32(Flag.MORE) == 0)][::-1]
        producers, first = np.unique(told["producer"], return_index=True)
        for producer, position in zip(producers.tolist(), told["position"][first].tolist(), strict=True):
            positions.setdefault(producer, position)
    return positions


def take(blocks: Iterator[NDArray[Any]], records: int) -> list[NDArray[Any]]:
    """The newest blocks that together hold `records` records, so that opening costs no more for a longer stream."""
    taken: list[NDArray[Any]] = []
    for block in blocks:
        taken.append(block)
        records -= len(block)
        if records <= 0:
            break
    return taken
