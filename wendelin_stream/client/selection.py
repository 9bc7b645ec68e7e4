"""Rows chosen by time: which ones, and the array of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import Signal
from wendelin_stream.store import StreamReader

Run = tuple[int, int]
"""Rows start to stop of a stream's array, half-open."""


class Selection:
    """Rows of a stream, as it was when they were chosen: array-like, lazy, as light as its list of runs."""

    def __init__(self, reader: StreamReader, runs: Sequence[Run], owner: object) -> None:
        """owner: kept alive, because the reader closes with it."""
        self._reader, self._owner = reader, owner
        self._whole, self._first = reader.array, reader.first_row
        self.runs = tuple(runs)

    @property
    def signal(self) -> Signal | None:
        """What the rows are; None for a stream of bytes."""
        return self._reader.signal

    @property
    def array(self) -> NDArray[Any]:
        """The rows, read-only: (n, channels, *axes), or structured (n,).

        A view of the files where the rows lie together. Where late data left them in pieces it is a copy, in the
        order of arrival.
        """
        if not self.runs:
            return self._whole[:0]
        if len(self.runs) == 1:
            return self._whole[slice(*self.runs[0])]
        return np.concatenate([self._whole[slice(*run)] for run in self.runs])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Time of each row: (n,), datetime64[ns], UTC."""
        parts = [self._reader.times(self._first + start, self._first + stop) for start, stop in self.runs]
        return np.concatenate(parts) if parts else np.empty(0, "<M8[ns]")

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.runs)

    def __repr__(self) -> str:
        where = f"rows {self.runs[0][0]:,} to {self.runs[-1][1]:,}" if self.runs else "no rows"
        pieces = f" in {len(self.runs)} pieces" if len(self.runs) > 1 else ""
        return f"<Selection of {self._reader.name}: {len(self):,} rows, {where}{pieces}>"


def rows_between(reader: StreamReader, start: int | None, stop: int | None) -> list[Run]:
    """Runs of the rows with ``start <= time < stop`` (ns UTC, None: open), in the order of arrival.

    Records that lie wholly inside are taken by their index alone, so that a day costs no more than its index.
    """
    assert reader.signal is not None
    first_record = 0 if start is None else reader.record_at(start)
    index = reader.index(first_record)
    inside = index["count"] > 0
    if start is not None:
        inside &= index["t_last"] >= start
    if stop is not None:
        inside &= index["t_first"] < stop
    index = index[inside]
    starts = (index["offset"] // reader.signal.row_bytes).astype(np.int64) - reader.first_row
    stops = starts + index["count"].astype(np.int64)
    partial = np.zeros(len(index), bool)
    if start is not None:
        partial |= index["t_first"] < start
    if stop is not None:
        partial |= index["t_last"] >= stop
    runs = _joined(starts[~partial], stops[~partial])
    for record in np.flatnonzero(partial):  # in order of time these are the two ends
        runs += _rows_inside(reader, int(starts[record]), int(stops[record]), start, stop)
    return merge(sorted(runs))


def _rows_inside(reader: StreamReader, first: int, last: int, start: int | None, stop: int | None) -> list[Run]:
    times = reader.times(reader.first_row + first, reader.first_row + last).view(np.int64)
    keep = np.ones(len(times), bool)
    if start is not None:
        keep &= times >= start
    if stop is not None:
        keep &= times < stop
    edges = np.flatnonzero(np.diff(keep.astype(np.int8), prepend=0, append=0)) + first
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _joined(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[Run]:
    """Neighbouring runs as one each, without a loop over all."""
    if not len(starts):
        return []
    breaks = np.flatnonzero(starts[1:] != stops[:-1])
    begins = np.concatenate([starts[:1], starts[breaks + 1]])
    ends = np.concatenate([stops[breaks], stops[-1:]])
    return [(int(a), int(b)) for a, b in zip(begins, ends, strict=True)]


def merge(runs: Sequence[Run]) -> list[Run]:
    """Runs in order of row, those that touch made one."""
    merged: list[Run] = []
    for start, stop in runs:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged
