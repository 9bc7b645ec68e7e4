"""Averaged spectra of windowed, overlapping segments.

P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", IEEE Trans. Audio
Electroacoust. AU-15 (1967) 70-73. Equal to `scipy.signal.welch` over the rows of each spectrum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from wendelin_stream.batch import Axis, Batch, Gap, Item, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.operators.framing import Emitter, Origin, RowBuffer, Timeline, waveform_rate
from wendelin_stream.plugin import OperatorContext, Options
from wendelin_stream.units import Frequency, Ratio, format_frequency

BLOCK = 2**16
"""Samples that are transformed at a time: enough to hide the cost of a call, few enough to stay in the cache."""

MAX_NPERSEG = 2**22
"""Longest segment: some of them are held in memory."""

PER_FMAX = Fraction(256, 100)
"""Sample rate over the highest frequency shown: what is above the anti-alias filter's corner is left out."""


class WelchConfig(Options):
    """Options of `welch`: either `fmax` with `lines`, or `nperseg`."""

    fmax: Frequency | None = Field(None, description="highest frequency of the spectrum; needs `lines`")
    lines: int | None = Field(None, ge=1, le=2**20, description="number of lines up to `fmax`, spaced fmax / lines")
    nperseg: int | None = Field(
        None, ge=2, le=MAX_NPERSEG, description="rows of a segment; all bins up to half the rate"
    )
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
            if nperseg > MAX_NPERSEG:
                raise ConfigError(
                    f"{config.lines} lines up to {format_frequency(config.fmax)} at {format_frequency(rate)} need "
                    f"segments of {nperseg} rows",
                    where="lines",
                    hint=f"a segment has at most {MAX_NPERSEG}",
                )
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
        self._step = cut.hop * config.average
        self._most = min(config.average, max(1, 2 * BLOCK // cut.nperseg))
        at_once = max(self._most, BLOCK // (cut.nperseg * len(signal.channels)))
        self._span = (at_once - 1) * cut.hop + cut.nperseg
        self._scale = _scale(config, cut, rate)
        self._transform = Transform(config, cut)
        self._buffer = RowBuffer(len(signal.channels), self._span, self._transform.real)
        self._segments = sliding_window_view(self._buffer.lines, cut.nperseg, axis=-1)[:, :: cut.hop]
        self._context = _numpy_context()
        self._timeline = Timeline()
        self._start = self._done = 0
        self._sums: list[NDArray[np.float64]] = []
        declared = Signal(
            dtype=np.dtype(config.dtype),
            channels=signal.channels,
            units=tuple(_squared(unit, config.scaling) for unit in signal.units),
            rate=rate / self._step,
            axes=(Axis("frequency", "Hz", cut.bins, 0.0, float(cut.df)),),
            attrs=signal.attrs,
        )
        self._emitter = Emitter(declared, self._step)
        return declared

    def on_batch(self, batch: Batch) -> Iterable[Item]:
        """The spectra that the batch completes, side by side."""
        self._timeline.add(batch)
        origins, spectra = self._context.run(self._spectra, batch.rows)
        return self._emitter.batches(origins, spectra, batch.stride) if origins else []

    def on_gap(self, gap: Gap) -> Iterable[Item]:
        """Forget the unfinished spectrum."""
        self._timeline.clear()
        self._buffer.clear()
        self._start = self._done = 0
        self._sums.clear()
        return [gap]

    def _complete(self) -> list[int]:
        """Sizes of the groups of segments that are in the buffer, whole.

        A spectrum is summed up in groups, the same for any cut of the input, so that its sums have the same order; a
        group does not cross from one spectrum to the next, so that no spectrum waits for the next. (How many segments
        are transformed in one call changes no bit of any of them.)
        """
        average = self._config.average
        most = 1 if self._config.averaging == "median" else self._most
        left = (self._buffer.held - self._cut.nperseg) // self._cut.hop + 1
        groups, done = [], self._done
        while (count := min(most, average - done)) <= left:
            groups.append(count)
            left -= count
            done = (done + count) % average
        return groups

    def _spectra(self, rows: NDArray[Any]) -> tuple[list[Origin], NDArray[Any]]:
        """The spectra that these rows complete (n, channels, bins), and the row where each begins."""
        segments = (self._buffer.held + len(rows) - self._cut.nperseg) // self._cut.hop + 1
        count = (self._done + max(0, segments)) // self._config.average
        spectra = np.empty((count, rows.shape[1], self._cut.bins), self._config.dtype)
        origins: list[Origin] = []
        taken = self._buffer.fill(rows, self._span)
        while groups := self._complete():
            first = self._buffer.first // self._cut.hop
            squares = self._transform.squares(self._segments[:, first : first + sum(groups)], groups)
            for size, part in zip(groups, squares, strict=True):
                self._add(part)
                self._done += size
                if self._done == self._config.average:
                    spectra[len(origins)] = self._average()
                    origins.append(self._timeline.at(self._start))
                    self._start += self._step
            self._timeline.forget(self._start)
            self._buffer.drop(sum(groups) * self._cut.hop)
            taken += self._buffer.fill(rows[taken:], self._span)
        return origins, spectra

    def _add(self, squares: NDArray[np.float64]) -> None:
        """Take in a group: the mean needs the sum only, the median each of its groups of one segment."""
        if self._sums and self._config.averaging == "mean":
            self._sums[0] += squares
        else:
            self._sums.append(squares)

    def _average(self) -> NDArray[np.float64]:
        """The spectrum (channels, bins) of the segments that were added; start anew."""
        powers = [squares[:, 0::2] + squares[:, 1::2] for squares in self._sums]
        power = powers[0] if self._config.averaging == "mean" else np.median(powers, axis=0)
        self._done = 0
        self._sums.clear()
        power *= self._scale
        return power

    def pending(self) -> int | None:
        """The first row of the unfinished spectrum."""
        return self._timeline.pending(self._start)

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """The rows of the unfinished group of segments, the sums of the groups before it, and the time bases."""
        shape = (len(self._sums), len(self._buffer.lines), 2 * self._cut.bins)
        return {
            **self._timeline.snapshot(),
            "start": np.array(self._start),
            "lines": self._buffer.snapshot(),
            "done": np.array(self._done),
            "sums": np.array(self._sums).reshape(shape),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue the unfinished spectrum."""
        self._timeline.restore(state)
        self._start, self._done = int(state["start"]), int(state["done"])
        self._buffer.restore(state["lines"])
        self._sums = list(state["sums"].copy())


class Transform:
    """Squared spectra of segments: detrended, windowed, transformed, in work space that is used again."""

    def __init__(self, config: WelchConfig, cut: Segments) -> None:
        self.real = np.dtype(np.float64 if config.precision == "double" else np.float32)
        self._detrend, self._cut = config.detrend, cut
        self._window = scipy.signal.get_window(config.window, cut.nperseg).astype(self.real)
        ramp = np.arange(cut.nperseg) - (cut.nperseg - 1) / 2
        self._ramp = (ramp / np.linalg.norm(ramp)).astype(self.real)
        self._per_row = self.real.type(1 / cut.nperseg)
        self._work = np.empty(max(2 * BLOCK, cut.nperseg), self.real)
        self._bins = np.empty(len(self._work) if self.real == np.float64 else 0, np.complex128)

    def squares(self, segments: NDArray[Any], groups: Sequence[int]) -> NDArray[np.float64]:
        """Sums over groups of segments of the squares of real and imaginary parts, in turn.

        segments: (channels, n, nperseg), as many as `groups` add up to.
        Returns (groups, channels, 2 * bins). Some channels at a time, so that the work space is enough.
        """
        channels, count = segments.shape[:2]
        squares = np.empty((len(groups), channels, 2 * self._cut.bins))
        per_call = max(1, BLOCK // (count * self._cut.nperseg))
        for first in range(0, channels, per_call):
            parts = self._spectra(segments[first : first + per_call])
            start = 0
            for sums, size in zip(squares, groups, strict=True):
                group = parts[:, start : start + size]
                sums[first : first + per_call] = np.einsum("cnf,cnf->cf", group, group)
                start += size
        return squares

    def _spectra(self, segments: NDArray[Any]) -> NDArray[Any]:
        """Spectra of segments (channels, n, nperseg): (channels, n, 2 * bins), real and imaginary parts in turn."""
        work = self._work[: segments.size].reshape(segments.shape)
        if self._detrend == "none":
            np.multiply(segments, self._window, out=work)
        else:
            mean = np.einsum("cnk->cn", segments)
            mean *= self._per_row
            np.subtract(segments, mean[..., np.newaxis], out=work)
            if self._detrend == "linear":
                work -= np.einsum("cnk,k->cn", work, self._ramp)[..., np.newaxis] * self._ramp
            np.multiply(work, self._window, out=work)
        spectra = self._rfft(work)
        parts: NDArray[Any] = spectra.view(self.real)[..., : 2 * self._cut.bins]
        return parts

    def _rfft(self, work: NDArray[Any]) -> NDArray[Any]:
        """NumPy's transform of doubles is faster than SciPy's, not least for writing into work space; its transform
        of floats is several times slower."""
        if self.real == np.float32:
            return np.asarray(scipy.fft.rfft(work, axis=-1))
        shape = (*work.shape[:2], self._cut.nperseg // 2 + 1)
        return np.fft.rfft(work, axis=-1, out=self._bins[: prod(shape)].reshape(shape))


def _numpy_context() -> Context:
    """A context in which NumPy does not warn of NaN, and does not copy broadcast lines of less than 8192 numbers into
    buffers, which takes longer than what is computed with them."""
    context = copy_context()
    context.run(np.seterr, invalid="ignore", over="ignore")
    context.run(np.setbufsize, 16)
    return context


def _scale(config: WelchConfig, cut: Segments, rate: Fraction) -> NDArray[np.float64]:
    """Factors (bins,) from the sum, or the median, of the segments' squared spectra to what the options ask for."""
    window = scipy.signal.get_window(config.window, cut.nperseg)
    gain = float(rate) * np.sum(window**2) if config.scaling == "density" else np.sum(window) ** 2
    count = config.average if config.averaging == "mean" else _median_bias(config.average)
    scale = np.full(cut.bins, 2.0 / (gain * count))
    scale[0] /= 2.0  # 0 Hz has no mirror image, nor has half the rate where the segment is even
    if 2 * (cut.bins - 1) == cut.nperseg:
        scale[-1] /= 2.0
    return scale


def _median_bias(count: int) -> float:
    """Median over mean of the power of white noise in `count` independent segments (Allen et al., gr-qc/0509116)."""
    even = np.arange(2, count, 2)
    return float(1.0 + np.sum(1.0 / (even + 1) - 1.0 / even))


def _squared(unit: str, scaling: str) -> str:
    if not unit:
        return ""
    base = f"({unit})^2" if "/" in unit or " " in unit else f"{unit}^2"
    return f"{base}/Hz" if scaling == "density" else base
