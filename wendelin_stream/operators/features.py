"""Statistics of windows: mean, RMS, peak, peak to peak, crest factor, kurtosis, skewness of each channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from wendelin_stream.batch import Batch, Gap, Item, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.operators.framing import Emitter, RowBuffer, Timeline, waveform_rate
from wendelin_stream.plugin import OperatorContext, Options
from wendelin_stream.units import Duration, format_frequency

BLOCK = 2**17
"""Numbers that stay in the cache: larger windows are computed channel by channel."""

Stat = Literal["mean", "rms", "peak", "peak_to_peak", "crest_factor", "kurtosis", "skewness"]
STATS: tuple[Stat, ...] = ("mean", "rms", "peak", "peak_to_peak", "crest_factor", "kurtosis", "skewness")
WITHOUT_UNIT = ("crest_factor", "kurtosis", "skewness")

MAX_ROWS = 2**26
"""Longest window: its rows are held in memory, eight bytes a number."""

Length = Annotated[int, Field(ge=1, le=MAX_ROWS)] | Duration
"""Rows, or a time that is rounded to the nearest number of rows."""


class FeaturesConfig(Options):
    """Options of `features`."""

    window: Length = Field(description="length of a window: a time like `1 s`, or a number of rows")
    hop: Length | None = Field(None, description="from the start of a window to the next; as long as `window` if unset")
    stats: tuple[Stat, ...] = Field(STATS, min_length=1, description="what is computed of each channel, in this order")

    @field_validator("stats")
    @classmethod
    def _each_once(cls, stats: tuple[Stat, ...]) -> tuple[Stat, ...]:
        if len(set(stats)) < len(stats):
            raise ValueError("a statistic is named twice")
        return stats


class Features:
    """One row of float64 for every window: channels named ``{channel}.{stat}``, all statistics of a channel together.

    Windows begin every `hop` rows since the start or the last gap. A time is rounded to the nearest number of rows;
    the output's rate is exact for that number. See `statistics` for what is computed.
    """

    Config = FeaturesConfig

    def __init__(self, config: FeaturesConfig, context: OperatorContext = OperatorContext()) -> None:  # noqa: ARG002, B008
        self._config = config

    def output(self, signal: Signal) -> Signal:
        """Plain rows of ``channels * stats`` numbers at ``rate / hop``.

        Raises ConfigError for rows that are not plain numbers at a rate, a window below two rows, a hop that is zero
        or longer than the window.
        """
        config, rate = self._config, waveform_rate(signal, "features")
        self._window = _rows(config.window, rate)
        self._hop = self._window if config.hop is None else _rows(config.hop, rate)
        if not 2 <= self._window <= MAX_ROWS:
            raise ConfigError(
                f"a window of {self._window} rows at {format_frequency(rate)}",
                where="window",
                hint=f"a window has 2 to {MAX_ROWS} rows",
            )
        if not 1 <= self._hop <= self._window:
            raise ConfigError(
                f"a hop of {self._hop} rows with windows of {self._window}",
                where="hop",
                hint="a hop is at least one row and at most a window",
            )
        self._buffer = RowBuffer(len(signal.channels), 2 * self._window - self._hop, np.dtype(np.float64))
        self._timeline = Timeline()
        self._start = 0
        named = list(zip(signal.channels, signal.units, strict=True))
        declared = Signal(
            dtype=np.dtype(np.float64),
            channels=tuple(f"{channel}.{stat}" for channel, _ in named for stat in config.stats),
            units=tuple("" if stat in WITHOUT_UNIT else unit for _, unit in named for stat in config.stats),
            rate=rate / self._hop,
            attrs=signal.attrs,
        )
        self._emitter = Emitter(declared, self._hop)
        return declared

    def on_batch(self, batch: Batch) -> Iterable[Item]:
        """The features of the windows that the batch completes."""
        self._timeline.add(batch)
        origins, rows, taken = [], [], 0
        while taken < len(batch):
            taken += self._buffer.fill(batch.rows[taken:], self._window)
            if self._buffer.held == self._window:
                first = self._buffer.first
                values = statistics(self._buffer.lines[:, first : first + self._window], self._config.stats)
                rows.append(values.reshape(-1))
                origins.append(self._timeline.at(self._start))
                self._buffer.drop(self._hop)
                self._start += self._hop
                self._timeline.forget(self._start)
        return self._emitter.batches(origins, np.stack(rows), batch.stride) if rows else []

    def on_gap(self, gap: Gap) -> Iterable[Item]:
        """Forget the unfinished window."""
        self._timeline.clear()
        self._buffer.clear()
        self._start = 0
        return [gap]

    def pending(self) -> int | None:
        """The first row of the unfinished window."""
        return self._timeline.pending(self._start)

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """The rows of the unfinished window and their time bases."""
        return {**self._timeline.snapshot(), "start": np.array(self._start), "lines": self._buffer.snapshot()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue the unfinished window."""
        self._timeline.restore(state)
        self._start = int(state["start"])
        self._buffer.restore(state["lines"])


def _rows(length: int | Fraction, rate: Fraction) -> int:
    return length if isinstance(length, int) else round(length * rate)


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def statistics(lines: NDArray[np.float64], stats: Sequence[Stat] = STATS) -> NDArray[np.float64]:
    """Statistics of each line: (channels, rows) to (channels, stats), float64.

    peak is the largest absolute value, crest factor peak over RMS; mean, RMS, peak and peak to peak have the lines'
    unit. Skewness and kurtosis are the moments of the whole window (not corrected for bias), kurtosis is Pearson's:
    3 for normal noise. What is not defined is NaN: the crest factor of a line of zeros, skewness and kurtosis of a
    constant line (as scipy.stats has it: a deviation within rounding of the mean is none).
    """
    if len(lines) > 1 and lines.size > BLOCK:
        return np.concatenate([statistics(line[np.newaxis], stats) for line in lines])
    values: dict[Stat, NDArray[np.float64]] = {"mean": lines.mean(axis=-1)}
    low, high = lines.min(axis=-1), lines.max(axis=-1)
    values["rms"] = np.sqrt(np.square(lines).mean(axis=-1))
    values["peak"] = np.maximum(high, -low)
    values["peak_to_peak"] = high - low
    values["crest_factor"] = values["peak"] / values["rms"]
    if "kurtosis" in stats or "skewness" in stats:
        values["skewness"], values["kurtosis"] = _shape(lines, values["mean"])
    return np.stack([values[stat] for stat in stats], axis=-1)


def _shape(lines: NDArray[np.float64], mean: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Skewness and Pearson kurtosis: two of (channels,)."""
    deviation = lines - mean[:, np.newaxis]
    squared = deviation * deviation
    second = squared.mean(axis=-1)
    second[second <= (np.finfo(np.float64).eps * np.abs(mean)) ** 2] = np.nan
    third = (squared * deviation).mean(axis=-1)
    fourth = np.square(squared).mean(axis=-1)
    return third / second**1.5, fourth / second**2
