"""`plot`: a stream as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wendelin_stream.cli.common import ConfigFiles, StorePath, open_stream
from wendelin_stream.cli.span import From, Last, Span, To
from wendelin_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from wendelin_stream.batch import Signal
    from wendelin_stream.client import Stream

NEWEST = 1_000_000
"""Rows that are shown if nothing is said."""

OutputFile = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The picture: .png, .svg or .pdf.")]
ChannelNames = Annotated[
    list[str] | None, typer.Option("--channel", metavar="NAME", help="Only this channel; may be given several times.")
]
AsSpectrum = Annotated[bool, typer.Option("--spectrum", help="Of a waveform: its mean power spectral density.")]


def plot(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    *,
    output: OutputFile,
    start: From = None,
    stop: To = None,
    last: Last = None,
    channel: ChannelNames = None,
    spectrum: AsSpectrum = False,
    config: ConfigFiles = None,
    store: StorePath = None,
) -> None:
    """Draw rows over time, or spectra over frequency: the latest and the mean of those chosen.

    Long waveforms are drawn as their envelope, so that no peak is lost. Without a choice it is the newest million
    rows. Needs matplotlib: pip install 'wendelin-stream[plot]'.

    \b
    wendelin-stream plot park.t01.drivetrain.acc --last 25600 --channel high_speed -o waveform.png -s /srv/data
    wendelin-stream plot park.t01.drivetrain.acc.spectrum --from 2026-11-01 -o spectrum.png -s /srv/data
    """
    span = Span.of(start, stop, last)
    if span == Span():
        span = Span(last=NEWEST)
    with open_stream(config, store, stream) as source:
        source.rows_only("plot")
        assert source.signal is not None
        draw = _pictures()
        chosen = _channels(source.signal, channel)
        runs = span.runs(source)
        if not runs:
            raise ConfigError(f"{stream} has no rows there", hint=f"it holds {_held(source)}")
        if source.signal.axes:
            figure = draw.spectra(source, runs, chosen)
        elif spectrum:
            figure = draw.waveform_spectrum(source, runs, chosen)
        else:
            figure = draw.over_time(source, runs, chosen)
        draw.save(figure, output)
    typer.echo(f"{output}: {sum(b - a for a, b in runs):,} rows of {stream}")


def _pictures() -> ModuleType:
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ConfigError("plot needs matplotlib", hint="pip install 'wendelin-stream[plot]'") from error
    from wendelin_stream.cli import pictures

    return pictures


def _channels(signal: Signal, wanted: Sequence[str] | None) -> list[str]:
    import difflib

    for name in wanted or ():
        if name not in signal.channels:
            near = difflib.get_close_matches(name, signal.channels, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(signal.channels)}"
            raise ConfigError(f"there is no channel {name!r}", hint=hint)
    return list(wanted or signal.channels)


def _held(stream: Stream) -> str:
    first, last = stream.span
    return f"{len(stream):,} rows, {first} to {last}" if first else "no data yet"
