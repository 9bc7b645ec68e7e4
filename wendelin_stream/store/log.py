"""One open stream on disk: created or recovered, locked, appended to, published. Knows neither threads nor tickets."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.store.chunk import Chunk
from wendelin_stream.store.dedupe import Window, producer_positions, take
from wendelin_stream.store.files import Dirty, Files, data_files, index_files
from wendelin_stream.store.format import IDX, INDEX_RECORDS, RECORD_BYTES, Slot, StreamInfo, Tail, describe, parse_attrs
from wendelin_stream.store.fs import FileSystem, read_file, replace_file, write_all
from wendelin_stream.store.layout import lay_out
from wendelin_stream.store.lock import take_lock
from wendelin_stream.store.recovery import Place, newest_first, recover


@dataclass(slots=True)
class Written:
    """What `Log.write` wrote and did not sync. ends: the stream's byte end after each chunk. last: newest record."""

    tail: Tail
    last: np.void
    ends: list[int]
    dirty: Dirty
    size: int


class Log:
    """The writing side of a stream's files.

    `write` is for one thread, `publish` and `sync_state` for another; `close` when neither is at work.
    """

    def __init__(self, place: Place, attrs: Mapping[str, Any], lock: int, dedupe: int) -> None:
        self.fs, self.folder, self.name, self.info, self.attrs = place.fs, place.folder, place.name, place.info, attrs
        self._lock, self._state, self._index, self._data = lock, place.state, place.index, place.data
        found = recover(place)
        self.tail, self.slot, self.last = found.tail, found.slot, found.last
        self.known = Window(dedupe)
        blocks = take(newest_first(place.index, self.tail.seq), max(dedupe, INDEX_RECORDS))
        self.known.fill(blocks)
        self.positions = producer_positions(blocks)
        self._index.close()
        self._data.close()

    def write(self, chunks: Sequence[Chunk]) -> Written:
        """Write payload, then index records, behind what was written before.

        Raises OSError, and struct.error for numbers out of range; then it is as if nothing had been written: the
        next call writes to the same place (S17).
        """
        plan = lay_out(self.tail, chunks, self.slot.writer_epoch)
        self._data.write(self.tail.offset, plan.pieces)
        self._index.write(self.tail.seq * RECORD_BYTES, [plan.records])
        size = plan.tail.offset - self.tail.offset + len(plan.records)
        self.tail = plan.tail
        dirty = self._data.take_dirty()
        dirty.merge(self._index.take_dirty())
        return Written(plan.tail, np.frombuffer(plan.records[-RECORD_BYTES:], IDX)[0], plan.ends, dirty, size)

    def publish(self, records: int, last: np.void | None, *, synced: bool) -> None:
        """Show readers that many records, the last of which is `last`. Raises OSError."""
        durable = records if synced else self.slot.synced
        slot = replace(self.slot, generation=self.slot.generation + 1, committed=records, synced=durable)
        write_all(self.fs, self._state, [slot.pack()], slot.offset)
        self.slot = slot
        self.last = last

    def sync_state(self) -> None:
        """Make the published watermark durable (it is what bounds the next recovery). Raises OSError."""
        self.fs.fdatasync(self._state)

    def close(self) -> None:
        """Close all files and give the lock back."""
        self._index.close()
        self._data.close()
        self.fs.close(self._state)
        self.fs.close(self._lock)


def open_log(fs: FileSystem, folder: Path, dedupe: int) -> Log:
    """Lock and recover an existing stream. Raises Locked, Corrupt, OSError."""
    lock = take_lock(fs, folder / "lock", f"stream {folder.name}")
    open_fds = [lock]
    index = data = None
    try:
        info = StreamInfo.from_json(read_file(fs, folder / "stream.json"), folder.name)
        attrs = _read_attrs(fs, folder)
        open_fds.append(fs.open(folder / "state", create=True))
        index, data = Files(fs, index_files(folder)), Files(fs, data_files(folder, info.seg_bytes))
        return Log(Place(fs, folder, info, open_fds[1], index, data), attrs, lock, dedupe)
    except BaseException:
        for files in (index, data):
            if files is not None:
                files.close()
        for fd in open_fds:
            fs.close(fd)
        raise


def _read_attrs(fs: FileSystem, folder: Path) -> dict[str, Any]:
    try:
        return parse_attrs(read_file(fs, folder / "attrs.json"), folder.name)
    except FileNotFoundError:
        return {}


def write_attrs(log: Log, attrs: Mapping[str, Any]) -> None:
    """Replace the user attributes of an open stream. Raises OSError."""
    replace_file(log.fs, log.folder / "attrs.json", _attrs_json(attrs))
    log.attrs = dict(attrs)


def _attrs_json(attrs: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(attrs), indent=2).encode() + b"\n"


def create_stream(fs: FileSystem, folder: Path, info: StreamInfo, attrs: Mapping[str, Any]) -> None:
    """Make an empty stream, complete and durable before it has its name, which is not durable yet. Raises OSError.

    The caller holds the store's lock, so that leftovers of another creation may be removed.
    """
    fresh = folder.with_name(f".new-{uuid.uuid4().hex}")
    fs.mkdir(fresh)
    fs.mkdir(fresh / "index")
    fs.mkdir(fresh / "data")
    replace_file(fs, fresh / "stream.json", info.to_json())
    replace_file(fs, fresh / "attrs.json", _attrs_json(attrs))
    replace_file(fs, fresh / "state", bytes(512) + Slot(generation=1).pack())
    fs.sync_folder(fresh)
    fs.rename(fresh, folder)


def check_same(log: Log, kind: Kind | None, signal: Signal | None) -> None:
    """Raise ConfigError if the stream is not what the caller wants to write (None: anything)."""
    wrong_kind = kind is not None and kind != log.info.kind
    if wrong_kind or (signal is not None and signal != log.info.signal):
        there = describe(log.info.kind, log.info.signal)
        wanted = describe(kind or log.info.kind, signal)
        hint = "a stream never changes what it holds: write to another name"
        raise ConfigError(f"stream {log.name} holds {there}, not {wanted}", hint=hint)


def new_info(kind: Kind, signal: Signal | None, segment: int) -> StreamInfo:
    """`stream.json` of a stream that is made now. Raises ConfigError if kind and signal disagree."""
    try:
        return StreamInfo.new(kind, signal, segment, time.time_ns())
    except ValueError as error:
        raise ConfigError(str(error)) from error
