"""`streams`: what is in the store, and how fresh it is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wendelin_stream.cli.common import AsJson, ConfigFiles, StorePath, find_store

if TYPE_CHECKING:
    from wendelin_stream.client import Stream

NamePattern = Annotated[
    str | None,
    typer.Argument(metavar="PATTERN", help="Only those: * is one part of a name, ** any number, {a,b} either."),
]


def streams(
    pattern: NamePattern = None, config: ConfigFiles = None, store: StorePath = None, as_json: AsJson = False
) -> None:
    """List the streams: kind, size, rate, first and last time, lag.

    Lag of a derived stream: how much of its input is not in it yet, in seconds of input. Of any other: the age of
    its newest data.

    \b
    wendelin-stream streams --store /srv/data
    wendelin-stream streams 'park.*.drivetrain.*' --store /srv/data --json
    """
    from wendelin_stream.client import Stream
    from wendelin_stream.store import stream_names

    path = find_store(config, store)
    names = _matching(stream_names(path), pattern)
    now = time.time_ns()
    facts = []
    for name in names:
        with Stream(path, name) as stream:
            facts.append(describe(stream, path, now))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    elif facts:
        _print_table(facts)
    else:
        typer.echo(f"no stream in {path}" + (f" matches {pattern!r}" if pattern else " yet"), err=True)


def _matching(names: list[str], pattern: str | None) -> list[str]:
    if pattern is None:
        return names
    from wendelin_stream.config.pattern import Pattern

    try:
        wanted = Pattern.of(pattern)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="PATTERN") from error
    return [name for name in names if wanted.matches(name)]


def describe(stream: Stream, path: Path, now: int) -> dict[str, Any]:
    """What `streams --json` says of one stream. now: ns UTC."""
    signal, (first, last) = stream.signal, stream.span
    rate = signal.rate if signal else None
    return {
        "name": stream.name,
        "kind": stream.kind,
        "length": len(stream),
        "bytes": stream.reader.end,
        "records": stream.reader.records,
        "rate_hz": float(rate) if rate else None,
        "signal": signal.to_json() if signal else None,
        "first": first or None,
        "last": last or None,
        "lag_seconds": _lag(stream, path, now),
        "attrs": dict(stream.attrs),
    }


def _lag(stream: Stream, path: Path, now: int) -> float | None:
    """See `streams`. None while there is no data."""
    from wendelin_stream.store import stream_names

    last = stream.reader.last_time()
    source = stream.attrs.get("input") if "pipeline" in stream.attrs else None
    if source in stream_names(path):
        return _input_ahead(stream, path, str(source))
    return None if last is None else max(0.0, (now - last) / 1e9)


def _input_ahead(stream: Stream, path: Path, source: str) -> float | None:
    """Seconds of the input from the row where the pipeline would resume to its end.

    The output's last record holds that row. The output was opened first, so that the input is never behind it.
    """
    from wendelin_stream.client import Stream

    reader = stream.reader
    done = int(reader.index(reader.records - 1)[-1]["position"]) if reader.records else 0
    with Stream(path, source) as feed:
        rows = feed.reader.rows
        if feed.signal is not None and feed.signal.rate is not None:
            return float(max(0, rows - done) / feed.signal.rate)
        if done >= rows:
            return 0.0
        begun, newest = feed.reader.times(done, done + 1), feed.reader.times(rows - 1, rows)
        return float((newest[0] - begun[0]).astype("int64")) / 1e9


def _print_table(facts: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from wendelin_stream.units import format_frequency, format_size

    table = Table(box=None, pad_edge=False)
    for head in ("stream", "kind"):
        table.add_column(head, no_wrap=True)
    for head in ("length", "size", "rate", "first", "last", "lag"):
        table.add_column(head, justify="right", no_wrap=True)
    for fact in facts:
        rate, lag = fact["rate_hz"], fact["lag_seconds"]
        table.add_row(
            fact["name"],
            fact["kind"],
            f"{fact['length']:,}",
            format_size(fact["bytes"]),
            format_frequency(rate) if rate else "",
            _second(fact["first"]),
            _second(fact["last"]),
            "" if lag is None else _short(lag),
        )
    Console(highlight=False, width=1000).print(table)  # rather a long line than half a name


def _second(iso: str | None) -> str:
    """To the second: a list is read by people."""
    return "" if iso is None else iso.rstrip("Z").partition(".")[0] + "Z"


def _short(seconds: float) -> str:
    from wendelin_stream.units import format_duration

    return format_duration(round(seconds, 3)) if seconds else "0 s"
