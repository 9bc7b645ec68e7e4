"""What flows through a pipeline: `Signal`, `Batch`, `Gap`.

Time is never summed up from rounded periods: row k of a batch is at
``anchor + (index + k) / rate`` exactly, so cutting a batch anywhere changes no row's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NS = 1_000_000_000

Kind = Literal["rows", "events", "bytes"]
"""What a data stream holds: typed rows, msgpack ``[time, record]`` events, or plain bytes."""


def ticks(rows: int, rate: Fraction) -> int:
    """Nanoseconds that `rows` rows last at `rate` rows per second, rounded down; exact for any size."""
    return rows * NS * rate.denominator // rate.numerator


@dataclass(frozen=True, slots=True)
class Axis:
    """One further dimension of a row, evenly spaced: ``value(i) = start + i * step``."""

    name: str
    unit: str
    size: int
    start: float
    step: float

    def values(self) -> NDArray[np.float64]:
        """All coordinates: shape (size,), float64, in `unit`."""
        return np.float64(self.start) + self.step * np.arange(self.size, dtype=np.float64)


@dataclass(frozen=True)
class Signal:
    """What a typed stream holds.

    With a `rate` (rows per second, exact) a row has shape ``(channels, *axes)`` of a plain `dtype`.
    Without one the dtype is structured, its first field is ``time`` (``<M8[ns]``), the other fields
    are the channels, and a row has shape ``()``.
    `attrs` says where the rows come from (model digest, operating point); it takes no part in equality.
    """

    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    units: tuple[str, ...] = ()
    rate: Fraction | None = None
    axes: tuple[Axis, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "units", tuple(self.units) or ("",) * len(self.channels))
        object.__setattr__(self, "axes", tuple(self.axes))
        if self.rate is not None:
            object.__setattr__(self, "rate", Fraction(self.rate))
        self._validate()

    def _validate(self) -> None:
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channel names must be there and differ: {list(self.channels)}")
        if len(self.units) != len(self.channels):
            raise ValueError(f"{len(self.channels)} channels but {len(self.units)} units")
        if self.dtype.hasobject or self.dtype.itemsize == 0:
            raise ValueError(f"dtype {self.dtype} has no fixed size on disk")
        if self.rate is None:
            names = self.dtype.names or ()
            if names[:1] != ("time",) or self.dtype["time"] != np.dtype("<M8[ns]") or self.axes:
                raise ValueError("without a rate the dtype's first field must be time, <M8[ns], and there are no axes")
            if self.dtype != np.dtype([(name, self.dtype[name]) for name in names]):
                raise ValueError(f"the fields of {self.dtype} must lie side by side: aligned dtypes have holes")
            if tuple(names[1:]) != self.channels:
                raise ValueError(f"channels {list(self.channels)} are not the fields {list(names[1:])}")
        elif self.rate <= 0 or self.dtype.names is not None:
            raise ValueError("a stream with a rate needs rate > 0 and a plain dtype")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return () if self.rate is None else (len(self.channels), *(axis.size for axis in self.axes))

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row on disk."""
        return self.dtype.itemsize * prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into an equal signal."""
        descr = self.dtype.str if self.dtype.names is None else [list(d) for d in self.dtype.descr]
        return {
            "dtype": descr,
            "channels": list(self.channels),
            "units": list(self.units),
            "rate": None if self.rate is None else str(self.rate),
            "axes": [
                {"name": a.name, "unit": a.unit, "size": a.size, "start": a.start, "step": a.step} for a in self.axes
            ],
            "attrs": dict(self.attrs),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signal:
        """The signal that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        descr = data["dtype"]
        dtype = np.dtype(descr) if isinstance(descr, str) else np.dtype([tuple(d) for d in descr])
        return cls(
            dtype=dtype,
            channels=tuple(data["channels"]),
            units=tuple(data["units"]),
            rate=None if data["rate"] is None else Fraction(data["rate"]),
            axes=tuple(Axis(**axis) for axis in data["axes"]),
            attrs=dict(data.get("attrs", {})),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one signal, read-only.

    rows: (n, *signal.shape), n >= 1.
    anchor, index: row k is at ``anchor + (index + k) / rate`` (ns UTC); both 0 for rows that carry their time.
    position, stride: row k stems from the pipeline's input rows from ``position + k * stride`` on. On a
    batch read from a stream that is the row number and 1. An operator passes them on (see `Operator`).
    """

    signal: Signal
    rows: NDArray[Any]
    anchor: int = 0
    index: int = 0
    position: int = 0
    stride: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    def time(self, k: int) -> int:
        """Time of row k in ns UTC; ``time(len(batch))`` is where the next row is expected (with a rate)."""
        if self.signal.rate is None:
            return int(self.rows["time"][k].astype(np.int64))
        return self.anchor + ticks(self.index + k, self.signal.rate)

    def times(self) -> NDArray[np.datetime64]:
        """Times of all rows: (n,), datetime64[ns]."""
        if self.signal.rate is None:
            return np.asarray(self.rows["time"])
        return row_times(self.anchor, self.index, len(self), self.signal.rate)

    def cut(self, start: int, stop: int | None = None) -> Batch:
        """Rows start to stop, counted from 0, without copying."""
        rows = self.rows[start:stop]
        step = 0 if self.signal.rate is None else start
        return replace(self, rows=rows, index=self.index + step, position=self.position + start * self.stride)


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole in time before the next row: nothing is known from `start` to `stop` (ns UTC).

    position: the pipeline's input row behind the hole. Windows, filters and counters start anew.
    """

    start: int
    stop: int
    position: int = 0


Item = Batch | Gap


def row_times(anchor: int, index: int, count: int, rate: Fraction) -> NDArray[np.datetime64]:
    """Times ``anchor + (index + k) / rate`` for k < count: (count,), datetime64[ns], as `Batch.time` gives them."""
    whole, rest = divmod(index * NS * rate.denominator, rate.numerator)
    if (count + 1) * NS * rate.denominator + rate.numerator < 2**62:
        steps = (np.arange(count, dtype=np.int64) * (NS * rate.denominator) + rest) // rate.numerator
    else:  # a rate of huge numbers, or a view over years: exact, if slower
        steps = np.array([(k * NS * rate.denominator + rest) // rate.numerator for k in range(count)], dtype=np.int64)
    return (anchor + whole + steps).view("<M8[ns]")
