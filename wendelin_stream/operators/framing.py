"""What windowed operators share: rows in, frames out, and the time of each output row.

Frames start at absolute row numbers, counted since the start or the last gap, and never at the borders of batches.
An operator that adds up frames does so in an order that depends on their numbers only. So results are equal bit for
bit however the input was cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import NS, Batch, Signal, ticks
from wendelin_stream.errors import ConfigError

PIECE = 2**12
"""Rows that are sorted into lines at a time: read once from memory, and for each further channel from the cache."""

State = Mapping[str, NDArray[Any]]


def waveform_rate(signal: Signal, operator: str) -> Fraction:
    """The sample rate of a signal that windows can be cut from: real numbers, a flat row, a rate.

    Raises ConfigError for anything else.
    """
    if signal.rate is None:
        raise ConfigError(
            f"{operator} needs a stream with a sample rate, and these rows carry a time each",
            hint="give the stream's codec a rate",
        )
    if signal.axes:
        axes = " x ".join(axis.name for axis in signal.axes)
        raise ConfigError(f"{operator} needs one number per channel, and these rows have the axes {axes}")
    if signal.dtype.kind not in "fiu":
        raise ConfigError(f"{operator} needs real numbers, and these rows are {signal.dtype}")
    return signal.rate


@dataclass(slots=True)
class Origin:
    """Where a row comes from: its time is ``anchor + index / rate``, its input row `position` (see `Batch`)."""

    row: int
    anchor: int
    index: int
    position: int

    def after(self, rows: int, stride: int) -> Origin:
        """The origin of the row that is `rows` further on, on the same time base."""
        return Origin(self.row + rows, self.anchor, self.index + rows, self.position + rows * stride)


class Timeline:
    """Time base and position of every row since the start or the last gap, as far back as they are needed."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows; the next one is number 0."""
        self.rows = 0
        self.stride = 1
        self._origins: list[Origin] = []

    def add(self, batch: Batch) -> None:
        """Count the rows of a batch. A time base that just goes on is not kept twice."""
        self.stride = batch.stride
        origin = Origin(self.rows, batch.anchor, batch.index, batch.position)
        if not self._origins or self._origins[-1].after(self.rows - self._origins[-1].row, batch.stride) != origin:
            self._origins.append(origin)
        self.rows += len(batch)

    def at(self, row: int) -> Origin:
        """Origin of a row that was added and not forgotten."""
        place = len(self._origins) - 1
        while self._origins[place].row > row:
            place -= 1
        origin = self._origins[place]
        return origin.after(row - origin.row, self.stride)

    def forget(self, row: int) -> None:
        """Rows before `row` will not be asked for any more."""
        while len(self._origins) > 1 and self._origins[1].row <= row:
            del self._origins[0]

    def pending(self, row: int) -> int | None:
        """Position of `row`, or None if it has not come yet."""
        return self.at(row).position if row < self.rows else None

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """The timeline as arrays."""
        origins = np.array([astuple(origin) for origin in self._origins], dtype=np.int64)
        return {
            "origins": origins.reshape(-1, 4),
            "rows": np.array([self.rows, self.stride], dtype=np.int64),
        }

    def restore(self, state: State) -> None:
        """The timeline that gave `state`."""
        self._origins = [Origin(*map(int, origin)) for origin in state["origins"]]
        self.rows, self.stride = map(int, state["rows"])


class RowBuffer:
    """The latest rows, one line per channel: `held` of them from `first` on are valid.

    lines: (channels, capacity). Rows are moved to the front only when there is no room behind them.
    """

    def __init__(self, channels: int, capacity: int, dtype: np.dtype[Any]) -> None:
        self.lines: NDArray[Any] = np.zeros((channels, capacity), dtype)
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.first = self.held = 0

    def fill(self, rows: NDArray[Any], size: int) -> int:
        """Take from `rows` (n, channels) until `size` rows are held; returns how many were taken."""
        count = min(len(rows), size - self.held)
        if self.first + self.held + count > self.lines.shape[1]:
            self.restore(self.lines[:, self.first : self.first + self.held])
        end = self.first + self.held
        for start in range(0, count, PIECE):
            piece = rows[start : min(start + PIECE, count)]
            self.lines[:, end + start : end + start + len(piece)] = piece.T
        self.held += count
        return count

    def drop(self, count: int) -> None:
        """Forget the oldest `count` rows."""
        self.first += count
        self.held -= count

    def snapshot(self) -> NDArray[Any]:
        """What is held: (channels, held)."""
        return self.lines[:, self.first : self.first + self.held].copy()

    def restore(self, lines: NDArray[Any]) -> None:
        """Hold `lines` (channels, held), at the front."""
        self.first, self.held = 0, lines.shape[1]
        self.lines[:, : self.held] = lines


class Emitter:
    """Makes batches of `signal` from output rows that are `step` input rows apart.

    Each row gets exactly the time of the input row that it begins with. Rounding to nanoseconds at the output's rate
    and at the input's can differ: a batch ends before the row where it would, so that no cut of the input shows.
    """

    def __init__(self, signal: Signal, step: int) -> None:
        assert signal.rate is not None
        self._signal, self._step = signal, step
        self._rate, self._source = signal.rate, signal.rate * step

    def batches(self, origins: Sequence[Origin], rows: NDArray[Any], stride: int) -> list[Batch]:
        """The rows (n, *signal.shape) as batches; origins: of the input row that each begins with; stride: the
        input's."""
        rows.setflags(write=False)
        found: list[Batch] = []
        first, anchor, index = 0, *self._time_base(origins[0])
        for k, origin in enumerate(origins):
            if anchor + ticks(index + k - first, self._rate) != self._time(origin):
                found.append(self._batch(rows[first:k], anchor, index, origins[first], stride))
                first, anchor, index = k, *self._time_base(origin)
        found.append(self._batch(rows[first:], anchor, index, origins[first], stride))
        return found

    def _batch(self, rows: NDArray[Any], anchor: int, index: int, origin: Origin, stride: int) -> Batch:
        return Batch(self._signal, rows, anchor, index, origin.position, self._step * stride)

    def _time(self, origin: Origin) -> int:
        return origin.anchor + ticks(origin.index, self._source)

    def _time_base(self, origin: Origin) -> tuple[int, int]:
        """Anchor and index, in output rows, for the output row that begins at `origin`.

        The input's own anchor, moved by less than a step, where that is a whole number of nanoseconds: then both
        rates agree for ever. Else the row's own time.
        """
        index, rest = divmod(origin.index, self._step)
        if rest * NS * self._source.denominator % self._source.numerator == 0:
            return origin.anchor + ticks(rest, self._source), index
        return self._time(origin), 0
