"""`import`: a recorded file into a stream."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wendelin_stream.cli.common import AsJson, ConfigFiles, StorePath
from wendelin_stream.errors import ConfigError

if TYPE_CHECKING:
    from wendelin_stream.cli.importing import Imported
    from wendelin_stream.cli.recordings import Labels
    from wendelin_stream.store import StoreConfig

Source = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A .npy or .wav file.")]
Rate = Annotated[str | None, typer.Option(metavar="FREQUENCY", help="Rows per second: '25.6 kHz'. A WAV file says it.")]
Channels = Annotated[str | None, typer.Option(metavar="A,B,...", help="Names; ch1,ch2,... if not given.")]
Unit = Annotated[str | None, typer.Option(metavar="UNIT", help="Of all channels, or one for each: m/s2,m/s2,rpm.")]
Start = Annotated[str | None, typer.Option(metavar="TIME", help="Time of the first row, ISO 8601, UTC unless it says.")]


def import_(
    src: Source,
    stream: Annotated[str, typer.Argument(help="Name of the stream, new or not.")],
    *,
    rate: Rate = None,
    channels: Channels = None,
    unit: Unit = None,
    start: Start = None,
    config: ConfigFiles = None,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Append a recording to a stream, out of core: rows x channels of a .npy file, or a WAV file's samples.

    Without --start an existing stream goes on where it ends, and a new one ends when the file was last written.
    A file, known by its content, goes into a stream once: again, it is skipped; interrupted, it is continued.

    \b
    wendelin-stream import shaker.npy lab.shaker.acc --rate "5 kHz" --channels x,y,z --unit m/s2 --store /srv/data
    wendelin-stream import tape.wav lab.tape --start 2026-11-01T10:00:00Z --store /srv/data
    """
    from rich.console import Console
    from rich.progress import Progress

    from wendelin_stream.cli.importing import import_file
    from wendelin_stream.store import Store

    labels, begin = _labels(rate, channels, unit), _time(start)
    path, options = _writing(config, store)
    quiet = as_json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=quiet, transient=True) as bar, Store(path, options) as target:
        task = bar.add_task(src.name, total=None)
        done = import_file(
            src, target, stream, labels, begin, lambda at, size: bar.update(task, completed=at, total=size)
        )
    _tell(src, done, as_json=as_json)


def _labels(rate: str | None, channels: str | None, unit: str | None) -> Labels:
    from wendelin_stream.cli.recordings import Labels
    from wendelin_stream.units import frequency

    try:
        hertz = None if rate is None else frequency(rate)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from error
    names = None if channels is None else tuple(name.strip() for name in channels.split(","))
    units = None if unit is None else tuple(one.strip() for one in unit.split(","))
    return Labels(hertz, names, units[0] if units is not None and len(units) == 1 else units)


def _time(text: str | None) -> int | None:
    from wendelin_stream.units import parse_time

    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--start") from error


def _writing(config: list[Path] | None, store: Path | None) -> tuple[Path, StoreConfig]:
    """Where to write and how: what the configuration says, at another path if one is given."""
    from wendelin_stream.store import StoreConfig

    if config:
        from wendelin_stream.config import load

        section = load(config, store=store).store
        return section.path, section.config
    if store is None:
        raise ConfigError("into which data?", hint="give --store PATH or --config FILE, or set WENDELIN_STREAM_STORE")
    return store, StoreConfig()


def _tell(src: Path, done: Imported, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"stream": done.stream, "rows": done.rows, "total": done.total}))
    elif done.rows:
        typer.echo(f"{done.stream}: {done.rows:,} rows appended, {done.total:,} in all")
    else:
        typer.echo(f"{src} is in {done.stream} already: nothing to do")
