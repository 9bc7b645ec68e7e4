"""Figures of streams: rows over time, spectra over frequency."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wendelin_stream.batch import Batch, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.operators.welch import Welch
from wendelin_stream.units import format_time

if TYPE_CHECKING:
    from wendelin_stream.cli.span import Run
    from wendelin_stream.client import Stream

POINTS = 2000
"""Columns of an envelope: about the pixels of a picture."""
PANELS = 8
"""Channels that get a panel each."""

Array = NDArray[Any]


def envelope(column: Array, edges: NDArray[np.int64]) -> tuple[Array, Array]:
    """Smallest and largest value from each edge to the next (the last: to the end). Every row counts; NaN stays."""
    return np.minimum.reduceat(column, edges), np.maximum.reduceat(column, edges)


def over_time(stream: Stream, runs: Sequence[Run], channels: Sequence[str]) -> Figure:
    """Each channel over time, a panel each; if that were many, those of one unit share a panel."""
    signal = _signal(stream)
    units = {channel: signal.units[signal.channels.index(channel)] for channel in channels}
    if len(channels) <= PANELS:
        groups = [[channel] for channel in channels]
    else:
        groups = [[name for name in channels if units[name] == unit] for unit in dict.fromkeys(units.values())]
    figure, panels = _panels([max(1.5, 0.17 * len(names)) for names in groups])
    for run in runs:
        edges = np.linspace(0, run[1] - run[0], min(POINTS // len(runs) + 1, run[1] - run[0]) + 1).astype(np.int64)[:-1]
        times = np.concatenate([stream.times(run[0] + int(edge), run[0] + int(edge) + 1) for edge in edges])
        for panel, names in zip(panels, groups, strict=True):
            panel.set_prop_cycle(color=colormaps["tab20"](range(20)))
            for name in names:
                low, high = envelope(_column(stream, name)[slice(*run)], edges)
                label = name if run == runs[0] else None
                if len(edges) == run[1] - run[0]:
                    panel.plot(times, low, linewidth=0.8, label=label)
                else:
                    panel.fill_between(times, low, high, linewidth=0.5, label=label)
    for panel, names in zip(panels, groups, strict=True):
        panel.set_ylabel(f"[{units[names[0]]}]" if units[names[0]] else "")
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    axis = panels[-1].xaxis
    axis.set_major_formatter(ConciseDateFormatter(axis.get_major_locator(), tz=UTC))  # type: ignore[no-untyped-call]
    panels[-1].set_xlabel("time (UTC)")
    figure.suptitle(stream.name)
    return figure


def _column(stream: Stream, name: str) -> Array:
    signal = _signal(stream)
    array = stream.array
    return np.asarray(array[name] if signal.rate is None else array[:, signal.channels.index(name)])


def spectra(stream: Stream, runs: Sequence[Run], channels: Sequence[str]) -> Figure:
    """The latest spectrum of each channel, and the mean of all that were chosen."""
    signal = _signal(stream)
    if len(signal.axes) != 1:
        raise ConfigError(f"rows of {stream.name} have {len(signal.axes)} axes: only spectra can be drawn")
    latest = np.asarray(stream.array[runs[-1][1] - 1], dtype=np.float64)
    count = sum(stop - start for start, stop in runs)
    total = np.zeros(latest.shape)
    for start, stop in runs:
        total += np.sum(stream.array[start:stop], axis=0, dtype=np.float64)
    when = format_time(int(stream.times(runs[-1][1] - 1, runs[-1][1])[0].astype(np.int64)))
    lines = {f"latest, {when}": latest} | ({f"mean of {count:,}": total / count} if count > 1 else {})
    return _spectrum(stream.name, signal, lines, channels)


def waveform_spectrum(stream: Stream, runs: Sequence[Run], channels: Sequence[str]) -> Figure:
    """The mean power spectral density of a waveform: Hann, 50 % overlap, as the `welch` operator does it."""
    signal = _signal(stream)
    if signal.rate is None:
        raise ConfigError(f"{stream.name} has no sample rate, so it has no spectrum")
    longest = max(stop - start for start, stop in runs)
    if longest < 2:
        raise ConfigError(f"{longest} rows have no spectrum")
    welch = Welch(Welch.Config.model_validate({"nperseg": min(8192, longest), "average": 1}))
    output = welch.output(signal)
    total, count = np.zeros(output.shape), 0
    for run in runs:
        for item in stream.items(*run):
            for spectrum in welch.on_batch(item) if isinstance(item, Batch) else welch.on_gap(item):
                if isinstance(spectrum, Batch):
                    total += spectrum.rows.sum(axis=0)
                    count += len(spectrum)
    if count == 0:
        raise ConfigError(f"no {min(8192, longest)} rows of {stream.name} follow each other without a hole there")
    return _spectrum(stream.name, output, {f"mean of {count:,}": total / count}, channels)


def _spectrum(name: str, signal: Signal, lines: dict[str, Array], channels: Sequence[str]) -> Figure:
    """lines: label -> (channels of the signal, bins)."""
    axis = signal.axes[0]
    figure, panels = _panels([1.5] * len(channels))
    for panel, channel in zip(panels, channels, strict=True):
        number = signal.channels.index(channel)
        for label, values in lines.items():
            panel.semilogy(axis.values(), values[number], linewidth=0.8, label=label)
        unit = signal.units[number]
        panel.set_ylabel(f"{channel}\n[{unit}]" if unit else channel, fontsize="small")
    panels[0].legend(loc="upper right", fontsize="small")
    panels[-1].set_xlabel(f"{axis.name} [{axis.unit}]" if axis.unit else axis.name)
    figure.suptitle(name)
    return figure


def _panels(heights: Sequence[float]) -> tuple[Figure, Any]:
    """A figure of panels above each other; heights in inches."""
    figure = Figure(figsize=(12, 1.2 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights))[:, 0]
    for panel in panels:
        panel.grid(visible=True, alpha=0.3)
    return figure, panels


def save(figure: Figure, path: Path) -> None:
    """Write the picture. Raises ConfigError for a format that there is not."""
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _signal(stream: Stream) -> Signal:
    assert stream.signal is not None
    return stream.signal
