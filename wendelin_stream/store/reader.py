"""`StreamReader`: a stream as arrays, in any process, while a writer appends."""

from __future__ import annotations

import difflib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import Batch, Gap, Item, Kind, Signal, row_times, ticks
from wendelin_stream.errors import ConfigError, Corrupt
from wendelin_stream.store.files import Files, data_files, index_files
from wendelin_stream.store.format import (
    IDX,
    RECORD_BYTES,
    STATE_BYTES,
    Flag,
    Slot,
    StreamInfo,
    newest_slot,
    parse_attrs,
    records,
)
from wendelin_stream.store.fs import FileSystem
from wendelin_stream.store.names import is_name, stream_folder, stream_names
from wendelin_stream.store.view import View

DATA_RESERVE = 16 * 2**30
INDEX_RESERVE = 2**30
_BLOCK = 1024  # index records that `items` looks at together
_RUN = 2**20  # bytes of records that it makes one batch of, or one record more
_TRIES = 100


class StreamReader:
    """Reads one stream. Takes no lock and sees what is durable, as of the last `refresh`. One thread at a time.

    records: durable index records.  end: durable bytes.  start: first byte that is kept.  first_record: its record.
    """

    def __init__(self, folder: Path, info: StreamInfo, attrs: Mapping[str, Any]) -> None:
        self.name = folder.name
        self.info = info
        self.kind: Kind = info.kind
        self.signal: Signal | None = info.signal
        self.attrs = attrs
        self.uuid = info.uuid
        self.records = self.first_record = self.start = self.end = 0
        self._folder = folder
        self._generation = 0
        fs = FileSystem()
        self._index_files = Files(fs, index_files(folder), write=False)
        self._data_files = Files(fs, data_files(folder, info.seg_bytes), write=False)
        self._state = os.open(folder / "state", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, name: str) -> StreamReader:
        """Open stream `name` of the store at `path`.

        Raises ConfigError, with the nearest existing name, if there is none; Corrupt if it cannot be read.
        """
        folder = stream_folder(path, name) if is_name(name) else None
        if folder is None or not (folder / "stream.json").is_file():
            known = stream_names(path)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the store has {len(known)} streams"
            raise ConfigError(f"there is no stream {name!r} in {path}", hint=hint)
        info = StreamInfo.from_json((folder / "stream.json").read_bytes(), name)
        attrs_file = folder / "attrs.json"
        return cls(folder, info, parse_attrs(attrs_file.read_bytes(), name) if attrs_file.exists() else {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Arrays that were handed out stay valid."""
        self._index_files.close()
        self._data_files.close()
        if self._state >= 0:
            os.close(self._state)
            self._state = -1

    def refresh(self) -> int:
        """Read the watermark; returns how many records are durable. Raises Corrupt if it cannot be read."""
        slot = self._read_slot()
        if slot.committed != self.records:
            self.end = _end(self._record_now(slot.committed - 1)) if slot.committed else 0
            self.records = slot.committed
        if slot.first_record != self.first_record:
            self.first_record = slot.first_record
            kept = slot.first_record < self.records
            self.start = int(self._record_now(slot.first_record)["offset"]) if kept else self.end
        return self.records

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 1 in an untyped stream."""
        return self.info.row_bytes

    @property
    def rows(self) -> int:
        """Durable rows, counted from the stream's beginning; in an untyped stream bytes."""
        return self.end // self.row_bytes

    @property
    def first_row(self) -> int:
        """The first row that is kept."""
        return -(-self.start // self.row_bytes)

    def index(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Index records `start` to `stop`: (n,), `IDX`, read-only, not copied. The range is clipped to what is kept."""
        stop = self.records if stop is None else min(stop, self.records)
        start = max(start, self.first_record)
        window = self._index_view.window(start * RECORD_BYTES, max(start, stop) * RECORD_BYTES)
        return window.view(IDX)

    def read(self, offset: int, size: int) -> bytes:
        """The payload bytes from `offset` on, at most `size`, none behind the end; without mapping anything.

        Raises Corrupt if a file is missing or short.
        """
        offset = max(offset, self.start)
        size = max(0, min(size, self.end - offset))
        data = self._data_files.read(offset, size)
        if len(data) < size:
            at = offset + len(data)
            raise Corrupt(
                "bytes are durable but not there: a data file is missing or short", stream=self.name, position=at
            )
        return data

    @property
    def array(self) -> NDArray[Any]:
        """All that is kept as one read-only array over the files themselves.

        Typed: (rows - first_row, *signal.shape), or (rows - first_row,) of a structured dtype. Untyped: uint8,
        (bytes,). After a `refresh` a new array shows what is new; old ones stay valid, also after `close`.
        """
        return self.slice(self.first_row, self.rows)

    def slice(self, start_row: int, stop_row: int) -> NDArray[Any]:
        """Rows `start_row` to `stop_row`, counted from the stream's beginning, as `array` gives them."""
        start, stop = max(start_row, self.first_row), min(stop_row, self.rows)
        window = self._data_view.window(start * self.row_bytes, max(start, stop) * self.row_bytes)
        if self.signal is None:
            return window
        return window.view(self.signal.dtype).reshape(-1, *self.signal.shape)

    def items(self, start_row: int, max_rows: int) -> Iterator[Item]:
        """Batches from row `start_row` on, at most `max_rows` rows in all; Gaps between them.

        Records that follow each other on one time base are one batch, of about `_RUN` bytes at most. A record that was
        flagged as following a hole comes with a `Gap` before it, unless reading starts behind its first row. Rows are
        views of the files. Raises ConfigError for an untyped stream.
        """
        signal = self._typed()
        start = run = row = max(start_row, self.first_row)
        stop = min(row + max_rows, self.rows)
        if row >= stop:
            return
        number = self._record_of(row)
        before, base = self._row_record_before(number), (0, 0)
        while row < stop:
            for record in self.index(number, number + _BLOCK):
                first, count = int(record["offset"]) // self.row_bytes, int(record["length"]) // self.row_bytes
                if count == 0:
                    continue
                if first >= stop:
                    break
                gap = int(record["flags"]) & Flag.GAP and first >= start
                found = self._time_base(signal, record, first)
                if run < row and (gap or found != base or (row - run) * self.row_bytes >= _RUN):
                    yield self._batch(signal, base, run, row)
                    run = row
                if gap:
                    yield self._gap(signal, before, record, first)
                row, base, before = min(stop, first + count), found, record
            number += _BLOCK
        yield self._batch(signal, base, run, row)

    def row_at(self, time: int) -> int:
        """First row that may be at or after `time` (ns UTC); `rows` if there is none. Raises ConfigError if untyped.

        Before it there is no such row, whatever the disorder; behind it there may be earlier ones (S34).
        """
        signal = self._typed()
        for record in self.index(self.record_at(time)):
            first, count = int(record["offset"]) // self.row_bytes, int(record["length"]) // self.row_bytes
            if count and record["t_max"] >= time:
                return first + self._row_within(signal, record, first, count, time)
        return self.rows

    def record_at(self, time: int) -> int:
        """First record that may hold something at or after `time` (ns UTC); `records` if there is none."""
        return self.first_record + bisect_left(self.index()["t_max"], time)

    def times(self, start_row: int, stop_row: int) -> NDArray[np.datetime64]:
        """Times of rows: (n,), datetime64[ns], UTC. Raises ConfigError for an untyped stream."""
        signal = self._typed()
        start_row = max(start_row, self.first_row)
        if signal.rate is None:
            return np.asarray(self.slice(start_row, stop_row)["time"])
        found = [item.times() for item in self.items(start_row, stop_row - start_row) if isinstance(item, Batch)]
        return np.concatenate(found) if found else np.empty(0, "<M8[ns]")

    def first_time(self) -> int | None:
        """Time of the first thing that is kept, ns UTC; None in an empty stream."""
        return int(self._record(self._record_of(self.first_row))["t_first"]) if self.end > self.start else None

    def last_time(self) -> int | None:
        """Latest time of all, ns UTC; None in an empty stream."""
        return int(self._record(self.records - 1)["t_max"]) if self.end > self.start else None

    # --- within ---

    @cached_property
    def _index_view(self) -> View:
        return View(self._index_files.names, INDEX_RESERVE)

    @cached_property
    def _data_view(self) -> View:
        return View(self._data_files.names, DATA_RESERVE)

    def _read_slot(self) -> Slot:
        slot = None
        for _ in range(_TRIES):  # a writer that is faster than we are may tear one slot, then the other
            slot = newest_slot(os.pread(self._state, STATE_BYTES, 0)) or slot
            if slot is not None and slot.generation >= self._generation:
                break
        if slot is None:
            raise Corrupt("no slot of the state file is valid", stream=self.name)
        self._generation = slot.generation
        return slot

    def _record_now(self, number: int) -> np.void:
        """A record, without mapping the index."""
        found = records(self._index_files.read(number * RECORD_BYTES, RECORD_BYTES))
        if len(found) == 0 or found[0]["seq"] != number:
            raise Corrupt(f"index record {number} is durable but not there", stream=self.name)
        record: np.void = found[0]
        return record

    def _record(self, number: int) -> np.void:
        record: np.void = self.index(number, number + 1)[0]
        return record

    def _record_of(self, row: int) -> int:
        """Number of the record that holds a row (or a byte): the last one that begins there or before."""
        return self.first_record + bisect_right(self.index()["offset"], row * self.row_bytes) - 1

    def _row_record_before(self, number: int) -> np.void | None:
        """The last record with rows before record `number`, None if none is kept."""
        for k in range(number - 1, self.first_record - 1, -1):
            record = self._record(k)
            if record["length"]:
                return record
        return None

    def _typed(self) -> Signal:
        if self.signal is None:
            raise ConfigError(f"stream {self.name} holds {self.kind}, not rows")
        return self.signal

    def _gap(self, signal: Signal, before: np.void | None, record: np.void, row: int) -> Gap:
        stop = int(record["t_first"])
        if before is None:
            start = stop
        elif signal.rate is None:
            start = int(before["t_last"])
        else:
            index = int(before["row"])
            anchor = int(before["t_first"]) - ticks(index, signal.rate)
            start = anchor + ticks(index + int(before["length"]) // self.row_bytes, signal.rate)
        return Gap(min(start, stop), stop, row)

    def _time_base(self, signal: Signal, record: np.void, first: int) -> tuple[int, int]:
        """Anchor and the index of the stream's row 0, as a record says that begins at row `first`."""
        if signal.rate is None:
            return 0, 0
        index = int(record["row"])
        return int(record["t_first"]) - ticks(index, signal.rate), index - first

    def _batch(self, signal: Signal, base: tuple[int, int], start: int, stop: int) -> Batch:
        """Rows `start` to `stop`, all on one time base."""
        anchor, index = base
        return Batch(signal, self.slice(start, stop), anchor, 0 if signal.rate is None else index + start, start)

    def _row_within(self, signal: Signal, record: np.void, first: int, count: int, time: int) -> int:
        """First row of a record at or after `time`, counted from the record's first; 0 if none is."""
        if signal.rate is None:
            times = self.slice(first, first + count)["time"].view(np.int64)
        else:
            index = int(record["row"])
            anchor = int(record["t_first"]) - ticks(index, signal.rate)
            times = row_times(anchor, index, count, signal.rate).view(np.int64)
        return int(np.argmax(times >= time))


def _end(record: np.void) -> int:
    return int(record["offset"]) + int(record["length"])
