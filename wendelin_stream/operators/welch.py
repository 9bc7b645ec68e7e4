"""Averaged spectra of windowed, overlapping segments.

P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", IEEE Trans. Audio
Electroacoust. AU-15 (1967) 70-73. Equal to `scipy.signal.welch` over the rows of each spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from wendelin_stream.batch import Axis, Batch, Gap, Item, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.operators.framing import Output, RowBuffer, Timeline, batches, waveform_rate
from wendelin_stream.plugin import OperatorContext, Options
from wendelin_stream.units import Frequency, Ratio, format_frequency

BLOCK = 2**17
"""Samples that are transformed at a time: enough to hide the cost of a call, few enough to stay in the cache."""

PER_FMAX = Fraction(256, 100)
"""Sample rate over the highest frequency shown: what is above the anti-alias filter's corner is left out."""


class WelchConfig(Options):
    """Options of `welch`: either `fmax` with `lines`, or `nperseg`."""

    fmax: Frequency | None = Field(None, description="highest frequency of the spectrum; needs `lines`")
    lines: int | None = Field(None, ge=1, le=2**20, description="number of lines up to `fmax`, spaced fmax / lines")
    nperseg: int | None = Field(None, ge=2, le=2**22, description="rows of a segment; all bins up to half the rate")
    window: str | tuple[str | float, ...] = Field(
        "hann", description="window as scipy.signal.get_window names it, or a list of its name and parameters"
    )
    overlap: Ratio = Field(Fraction(1, 2), description="share of a segment that the next one repeats")
    detrend: Literal["constant", "linear", "none"] = Field("constant", description="what is taken off each segment")
    scaling: Literal["density", "spectrum"] = Field(
        "density", description="`density`: unit squared per Hz; `spectrum`: unit squared, a sine of amplitude A is A²/2"
    )
    average: int = Field(8, ge=1, le=4096, description="segments in one spectrum")
    averaging: Literal["mean", "median"] = Field(
        "mean", description="`median` ignores short disturbances and is corrected for its bias"
    )
    precision: Literal["double", "single"] = Field(
        "double", description="arithmetic; `single` is about twice as fast, with a noise floor 140 dB down"
    )
    dtype: Literal["<f8", "<f4"] = Field("<f8", description="numbers that are stored")

    @field_validator("window")
    @classmethod
    def _known_window(cls, window: str | tuple[str | float, ...]) -> str | tuple[str | float, ...]:
        try:
            scipy.signal.get_window(window, 16)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{window!r} is no window: {error}") from error
        return window

    @field_validator("overlap")
    @classmethod
    def _below_one(cls, overlap: Fraction) -> Fraction:
        if overlap >= 1:
            raise ValueError("overlap must be below 100 %")
        return overlap

    @model_validator(mode="after")
    def _one_way(self) -> WelchConfig:
        by_lines = self.fmax is not None and self.lines is not None
        if (self.fmax is None) != (self.lines is None) or by_lines == (self.nperseg is not None):
            raise ValueError("give either `fmax` and `lines`, or `nperseg`")
        return self


@dataclass(frozen=True, slots=True)
class Segments:
    """How a stream is cut: segments of `nperseg` rows every `hop`, `bins` bins from 0 Hz, `df` Hz apart."""

    nperseg: int
    hop: int
    bins: int
    df: Fraction

    @classmethod
    def of(cls, config: WelchConfig, rate: Fraction) -> Segments:
        """The cut for a sample rate. Raises ConfigError if the rate is too low for `fmax`."""
        if config.fmax is None or config.lines is None:
            assert config.nperseg is not None
            nperseg, bins = config.nperseg, config.nperseg // 2 + 1
        else:
            highest = rate / PER_FMAX
            if config.fmax > highest * (1 + Fraction(1, 10**9)):
                raise ConfigError(
                    f"fmax {format_frequency(config.fmax)} needs a sample rate of {float(PER_FMAX)} fmax; "
                    f"this stream has {format_frequency(rate)}",
                    where="fmax",
                    hint=f"the highest possible fmax is {format_frequency(highest)}",
                )
            nperseg, bins = round(rate * config.lines / config.fmax), config.lines + 1
        return cls(nperseg, nperseg - floor(config.overlap * nperseg), bins, rate / nperseg)


class Welch:
    """One spectrum for every `average` segments: rows of (channels, bins), one-sided.

    Spectrum j since the start or the last gap is the average of segment j * average and those that follow; a segment
    begins ``hop = nperseg - floor(overlap * nperseg)`` rows after the one before. With `fmax` and `lines` a segment
    is as long as the line spacing asks for, whatever the rate, and the `lines + 1` bins from 0 to `fmax` are kept:
    nothing is decimated, so nothing is aliased. (Where ``rate * lines / fmax`` is not whole, the nearest length is
    taken and the axis says the true spacing.) A NaN in the input makes the spectra that it is part of NaN.
    """

    Config = WelchConfig

    def __init__(self, config: WelchConfig, context: OperatorContext = OperatorContext()) -> None:  # noqa: ARG002, B008
        self._config = config

    def output(self, signal: Signal) -> Signal:
        """Spectra in the square of the channels' units (per Hz), `average` segments each.

        Raises ConfigError for rows that are not plain numbers at a rate, and for an `fmax` that the rate cannot give.
        """
        config, rate = self._config, waveform_rate(signal, "welch")
        cut = self._cut = Segments.of(config, rate)
        channels = len(signal.channels)
        self._step = cut.hop * config.average
        self._per_block = max(1, min(config.average, BLOCK // cut.nperseg))
        self._powers = Powers(config, cut, channels, self._per_block, rate)
        span = (self._per_block - 1) * cut.hop + cut.nperseg
        self._buffer = RowBuffer(channels, span, self._powers.real)
        self._timeline = Timeline()
        self._start = 0
        self._signal = Signal(
            dtype=np.dtype(config.dtype),
            channels=signal.channels,
            units=tuple(_squared(unit, config.scaling) for unit in signal.units),
            rate=rate / self._step,
            axes=(Axis("frequency", "Hz", cut.bins, 0.0, float(cut.df)),),
            attrs=signal.attrs,
        )
        return self._signal

    def on_batch(self, batch: Batch) -> Iterable[Item]:
        """The spectra that the batch completes."""
        self._timeline.add(batch)
        return list(batches(self._signal, self._spectra(batch.rows), self._step, batch.stride))

    def on_gap(self, gap: Gap) -> Iterable[Item]:
        """Forget the unfinished spectrum."""
        self._timeline.clear()
        self._buffer.held = self._start = self._powers.done = 0
        return [gap]

    def _spectra(self, rows: NDArray[Any]) -> Iterator[Output]:
        """Fill the buffer with whole blocks of segments. Blocks do not cross from one spectrum to the next, so a
        block, its place and its operands are the same for any cut of the input, and no spectrum waits for the next."""
        cut, taken = self._cut, 0
        while taken < len(rows):
            count = min(self._per_block, self._config.average - self._powers.done)
            size = (count - 1) * cut.hop + cut.nperseg
            taken += self._buffer.fill(rows[taken:], size)
            if self._buffer.held < size:
                return
            self._powers.add(self._buffer.lines, count)
            self._buffer.drop(count * cut.hop)
            if self._powers.done == self._config.average:
                yield Output(self._timeline.at(self._start), self._powers.spectrum())
                self._start += self._step
                self._timeline.forget(self._start)

    def pending(self) -> int | None:
        """The first row of the unfinished spectrum."""
        return self._timeline.pending(self._start)

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """The rows of the unfinished block, the power of the blocks before it, and the time bases."""
        return {
            **self._timeline.snapshot(),
            "start": np.array(self._start),
            "lines": self._buffer.snapshot(),
            "done": np.array(self._powers.done),
            "power": self._powers.power.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue the unfinished spectrum."""
        self._timeline.restore(state)
        self._start = int(state["start"])
        self._buffer.restore(state["lines"])
        self._powers.done = int(state["done"])
        self._powers.power[:] = state["power"]


class Powers:
    """The power of the segments of one spectrum, block by block.

    done: segments so far.  power: for the mean (channels, 2 * bins), the sums of the squares of real and imaginary
    parts in turn; for the median (average, channels, bins), the power of each segment.
    """

    def __init__(self, config: WelchConfig, cut: Segments, channels: int, per_block: int, rate: Fraction) -> None:
        self._config, self._cut = config, cut
        self.real = np.dtype(np.float64 if config.precision == "double" else np.float32)
        window = scipy.signal.get_window(config.window, cut.nperseg)
        per_hz = float(rate) * np.sum(window**2)
        self._scale = 1.0 / (per_hz if config.scaling == "density" else np.sum(window) ** 2)
        self._window = window.astype(self.real)
        ramp = np.arange(cut.nperseg) - (cut.nperseg - 1) / 2
        self._ramp = (ramp / np.linalg.norm(ramp)).astype(self.real)
        self._group = max(1, min(channels, BLOCK // (per_block * cut.nperseg)))
        self._work = np.empty((self._group, per_block, cut.nperseg), self.real)
        self._median = config.averaging == "median"
        shape = (config.average, channels, cut.bins) if self._median else (channels, 2 * cut.bins)
        self.power = np.zeros(shape)
        self.done = 0

    @np.errstate(invalid="ignore", over="ignore")
    def add(self, lines: NDArray[Any], count: int) -> None:
        """Transform the first `count` segments of lines (channels, rows), some channels at a time."""
        if self.done == 0:
            self.power[:] = 0.0
        cut = self._cut
        segments = sliding_window_view(lines, cut.nperseg, axis=-1)[:, : count * cut.hop : cut.hop]
        for first in range(0, len(lines), self._group):
            group = slice(first, first + self._group)
            parts = self._transform(segments[group])
            if self._median:
                power = parts[..., 0::2] ** 2 + parts[..., 1::2] ** 2
                self.power[self.done : self.done + count, group] = power.swapaxes(0, 1)
            else:
                self.power[group] += np.einsum("ckf,ckf->cf", parts, parts)
        self.done += count

    def _transform(self, segments: NDArray[Any]) -> NDArray[Any]:
        """Spectra of segments (channels, n, nperseg): (channels, n, 2 * bins), real and imaginary parts in turn."""
        work = self._work[: segments.shape[0], : segments.shape[1]]
        with np.errstate(invalid="ignore", over="ignore"):
            np.setbufsize(16)  # else NumPy copies lines of less than 8192 numbers, which takes longer than the sums
            if self._config.detrend == "none":
                np.multiply(segments, self._window, out=work)
            else:
                mean = np.add.reduce(segments, axis=-1, keepdims=True) / self.real.type(self._cut.nperseg)
                np.subtract(segments, mean, out=work)
                if self._config.detrend == "linear":
                    work -= np.einsum("ckn,n->ck", work, self._ramp)[..., np.newaxis] * self._ramp
                work *= self._window
        spectra = scipy.fft.rfft(work, axis=-1, overwrite_x=True)
        parts: NDArray[Any] = spectra.view(self.real)[..., : 2 * self._cut.bins]
        return parts

    @np.errstate(invalid="ignore", over="ignore")
    def spectrum(self) -> NDArray[Any]:
        """The average of all segments: (channels, bins), in the scaling and dtype of the options. Starts anew."""
        if self._median:
            power = np.median(self.power, axis=0) * (self._scale / _median_bias(self.done))
        else:
            power = (self.power[:, 0::2] + self.power[:, 1::2]) * (self._scale / self.done)
        both_halves = 2 * (self._cut.bins - 1) == self._cut.nperseg  # the last bin is half the rate: it has no mirror
        power[:, 1 : -1 if both_halves else None] *= 2.0
        self.done = 0
        rounded: NDArray[Any] = power.astype(self._config.dtype)
        return rounded


def _median_bias(count: int) -> float:
    """Mean over median of the power of white noise in `count` independent segments (Allen et al., gr-qc/0509116)."""
    even = np.arange(2, count, 2)
    return float(1.0 + np.sum(1.0 / (even + 1) - 1.0 / even))


def _squared(unit: str, scaling: str) -> str:
    if not unit:
        return ""
    base = f"({unit})^2" if "/" in unit or " " in unit else f"{unit}^2"
    return f"{base}/Hz" if scaling == "density" else base
