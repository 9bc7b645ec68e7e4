"""`cat`: a stream's data to standard output or a file, in bounded memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from wendelin_stream.cli.common import ConfigFiles, StorePath, open_stream
from wendelin_stream.cli.span import From, Last, Span, To
from wendelin_stream.errors import ConfigError

if TYPE_CHECKING:
    from wendelin_stream.client import Event, Stream


class Format(StrEnum):
    """How data is written."""

    RAW = "raw"
    CSV = "csv"
    JSON = "json"
    NPY = "npy"


DEFAULTS = {"rows": Format.CSV, "events": Format.JSON, "bytes": Format.RAW}


def cat(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    *,
    start: From = None,
    stop: To = None,
    last: Last = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="raw: the bytes as stored; csv, npy: rows; json: a line each.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of standard output.")
    ] = None,
    config: ConfigFiles = None,
    store: StorePath = None,
) -> None:
    """Print data: rows as csv (a time column first), events as JSON lines, bytes as they are.

    Binary fields of events become base64 in JSON. Numbers are written so that reading them gives the same bits.

    \b
    wendelin-stream cat park.t01.gearbox.acc --last 10 --store /srv/data
    wendelin-stream cat park.t01.gearbox.acc --from 2026-11-01T10:00 --to 2026-11-01T10:05 -f npy -o five.npy -s DATA
    wendelin-stream cat scada.events --from 1000 --to 2000 --format raw -s /srv/data > events.msgpack
    """
    span = Span.of(start, stop, last)
    with open_stream(config, store, stream) as source:
        chosen = form or DEFAULTS[source.kind]
        if chosen in (Format.RAW, Format.NPY) and output is None and sys.stdout.isatty():
            raise typer.BadParameter("binary data is not for a terminal: use --output FILE", param_hint="--format")
        with _opened(output) as out:
            for piece in pieces(source, span, chosen):
                out.write(piece)
            out.flush()


def _opened(output: Path | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if output is None else output.open("wb")


def pieces(stream: Stream, span: Span, form: Format) -> Iterable[bytes | memoryview]:
    """The output, a block at a time. Raises ConfigError for a format that the kind of stream does not have."""
    from wendelin_stream.cli import formats

    if stream.kind == "events":
        events = choose_events(stream, span)
        if form is Format.JSON:
            return map(formats.json_event, events)
        if form is Format.RAW:
            return (stream.reader.read(event.position, event.size) for event in events)
        raise ConfigError(f"{stream.name} holds events, which are no table", hint="use --format json or raw")
    runs = span.runs(stream)
    if form is Format.RAW:
        return formats.raw_blocks(stream.array, runs)
    if form is Format.NPY:
        return formats.npy_blocks(stream.array, runs)
    if stream.signal is None:
        raise ConfigError(f"{stream.name} holds bytes", hint="use --format raw or npy")
    write = formats.csv_blocks if form is Format.CSV else formats.json_blocks
    return write(stream.array, runs, stream.signal, stream.times)


def choose_events(stream: Stream, span: Span) -> Iterator[Event]:
    """Events by number and by time, then the last of those; only `--last` with a time holds them in memory."""
    first, end = span.numbers(len(stream))
    if span.last is None or not span.timed:
        first = first if span.last is None else max(first, end - span.last)
        return stream.events_within(span.since, span.until, first, end)
    return iter(deque(stream.events_within(span.since, span.until, first, end), maxlen=span.last))
