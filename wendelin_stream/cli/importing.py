"""How a recording becomes records of a stream: at the right times, once, with few blocks in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wendelin_stream.batch import Batch, Signal, ticks
from wendelin_stream.cli.recordings import Labels, Recording, digest, open_recording
from wendelin_stream.runtime.routing import continuity, expected_time, rows_part
from wendelin_stream.store import Chunk, Flag, Store, StreamReader, StreamWriter, Ticket, encode_name, stream_names

UNDER_WAY = 4
"""Blocks that may wait for the disk."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. rows: appended now; total: of the stream."""

    stream: str
    rows: int
    total: int


def import_file(  # noqa: PLR0917 - in the order of the sentence: a file into a stream
    path: Path,
    store: Store,
    stream: str,
    labels: Labels,
    begin: int | None,
    progress: Callable[[int, int], None] = lambda at, size: None,
) -> Imported:
    """Append what of the file is not in the stream yet. begin: time of the file's first row, ns UTC.

    The file's digest is the records' producer, and they carry how far it is used up: so a file goes in once, and an
    interrupted import goes on. Raises ConfigError, BadData, Locked, Corrupt, Retry.
    """
    name = encode_name(stream)
    recording = open_recording(path, labels, _signal(store.path, name))
    writer = store.writer(name, "rows", recording.signal)
    producer = digest(path)
    before = writer.end
    with closing(writer.reader()) as reader:
        anchor, index = _first_row(path, recording, writer, _record_of(reader, producer), begin)
    waiting: deque[Ticket] = deque()
    due = expected_time(writer.last(), recording.signal)
    for block in recording.blocks(writer.position(producer) or 0):
        batch = Batch(recording.signal, block.rows, anchor, index + block.index)
        part = rows_part(batch, _flags(batch, due))
        due = None if recording.signal.rate is None else batch.time(len(batch))
        waiting.append(writer.append(Chunk([part], producer=producer, position=block.position)))
        if len(waiting) > UNDER_WAY:
            waiting.popleft().wait()
        progress(block.position, recording.size)
    for ticket in waiting:
        ticket.wait()
    return Imported(name, (writer.end - before) // recording.signal.row_bytes, writer.end // recording.signal.row_bytes)


def _signal(store: Path, name: str) -> Signal | None:
    """What the stream holds, if it is there."""
    if name not in stream_names(store):
        return None
    with closing(StreamReader.open(store, name)) as reader:
        return reader.signal


def _record_of(reader: StreamReader, producer: int) -> np.void | None:
    """The last record that came from that file."""
    index = reader.index()
    mine = np.flatnonzero(index["producer"] == producer)
    return index[mine[-1]] if len(mine) else None


def _flags(batch: Batch, due: int | None) -> Flag:
    """Whether a hole in time, or a step back, lies before the batch. Half a period is no hole."""
    rate = batch.signal.rate
    return Flag(0) if rate is None else continuity(due, batch.time(0), ticks(1, rate) // 2)


def _first_row(
    path: Path, recording: Recording, writer: StreamWriter, mine: np.void | None, begin: int | None
) -> tuple[int, int]:
    """(anchor, index) of the file's row 0: its time is ``anchor + index / rate``, exactly.

    As the file's earlier import had it; else as the user says; else behind the stream's last row; else so that the
    file's last row is as old as the file. Rows that carry their time need none.
    """
    rate = recording.signal.rate
    if rate is None:
        return 0, 0
    last = writer.last() if mine is None else mine
    if begin is not None and mine is None:
        return begin, 0
    if last is not None:
        row, count = int(last["row"]), int(last["count"])
        used = recording.rows_before(int(last["position"])) if mine is not None else 0
        return int(last["t_first"]) - ticks(row, rate), row + count - used
    return path.stat().st_mtime_ns - ticks(recording.rows, rate), 0
