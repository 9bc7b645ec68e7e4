"""Opening a stream for writing: find the end of the log, keep all that was acknowledged, cut only what was not.

The order is the design:

1. check the records from the start of the last index file on; a bad one below the durable watermark is damage:
   raise, write nothing (S26). So is anything behind the end, if no slot says what was durable;
2. write the accepted tail once more and sync it and the names of its files: it may have been in the page cache
   only, or be what a failed sync left there, marked clean (S18, S27);
3. copy what lies behind the end to `quarantine`, zero and sync it (S28);
4. raise the epoch, publish.

A crash anywhere in it, and another run, give the same log (S29).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from wendelin_stream.errors import Corrupt
from wendelin_stream.store.files import Files
from wendelin_stream.store.format import (
    INDEX_BYTES,
    INDEX_RECORDS,
    RECORD_BYTES,
    STATE_BYTES,
    Flag,
    Slot,
    StreamInfo,
    Tail,
    newest_slot,
    records,
    tail_after,
    valid_prefix,
)
from wendelin_stream.store.fs import FileSystem, write_all

_PIECE = 1 << 18
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """Where the log ends, and the slot that was published for it. last: the last record, None if there is none."""

    tail: Tail
    slot: Slot
    last: np.void | None


@dataclass(frozen=True, slots=True)
class Place:
    """What recovery works on: an open, locked stream."""

    fs: FileSystem
    folder: Path
    info: StreamInfo
    state: int
    index: Files
    data: Files

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.folder.name


def recover(place: Place) -> Recovered:
    """Find the end of the log and make the stream ready for appending.

    Raises Corrupt if a record below the durable watermark is bad, and then has written nothing; OSError.
    """
    found = newest_slot(place.fs.pread(place.state, STATE_BYTES, 0))
    slot = found or Slot()
    block, tail = _accepted(place, slot.synced)
    end = tail.seq
    _check_segments(place, block, slot.synced)
    if found is None:
        _check_nothing_behind(place, tail)
    _rewrite(place, block[block["seq"] >= slot.synced])
    _zero_behind(place, end)
    slot = replace(slot, generation=slot.generation + 1, committed=end, synced=end, writer_epoch=slot.writer_epoch + 1)
    write_all(place.fs, place.state, [slot.pack()], slot.offset)
    place.fs.fdatasync(place.state)
    return Recovered(tail, slot, block[-1].copy() if len(block) else None)


def _accepted(place: Place, synced: int) -> tuple[NDArray[Any], Tail]:
    """The valid records from the start of the last index file that holds a durable one, and the tail behind them."""
    start = max(synced - 1, 0) // INDEX_RECORDS * INDEX_RECORDS
    tail = first = _tail_before(place, start)
    parts: list[NDArray[Any]] = []
    while True:
        block = records(place.index.read(tail.seq * RECORD_BYTES, _PIECE))
        good = valid_prefix(block, tail)
        checked = _payload_prefix(place, block[:good], synced)
        parts.append(block[:checked])
        if checked:
            tail = tail_after(block[checked - 1])
        if checked < len(block) or not checked:
            break
    if tail.seq < synced:
        what = f"index records {tail.seq} to {synced - 1} are durable but record {tail.seq} does not check"
        raise Corrupt(f"{what}; nothing was changed", stream=place.name, position=tail.offset)
    accepted = np.concatenate(parts)
    keep = len(accepted)
    while keep and accepted[keep - 1]["seq"] >= synced and accepted[keep - 1]["flags"] & Flag.MORE:
        keep -= 1  # a chunk whose last record is missing
    return accepted[:keep], tail_after(accepted[keep - 1]) if keep else first


def _tail_before(place: Place, start: int) -> Tail:
    if start == 0:
        return Tail(crc=place.info.seed)
    before = records(place.index.read((start - 1) * RECORD_BYTES, RECORD_BYTES))
    if len(before) == 0 or before[0]["seq"] != start - 1:
        raise Corrupt(f"index record {start - 1} is durable but not there; nothing was changed", stream=place.name)
    return tail_after(before[0])


def _payload_prefix(place: Place, block: NDArray[Any], synced: int) -> int:
    """How many records of the block hold: those behind the durable watermark must have the right payload."""
    first = int(np.searchsorted(block["seq"], synced))
    fields = (block[name][first:].tolist() for name in ("offset", "length", "payload_crc"))
    for k, (offset, length, crc) in enumerate(zip(*fields, strict=True), first):
        found, size = 0, 0
        for piece in _pieces(place.data, offset, length):
            found, size = crc32c(piece, found), size + len(piece)
        if (found, size) != (crc, length):
            return k
    return len(block)


def _pieces(files: Files, offset: int, length: int) -> Iterator[bytes]:
    """The bytes that are there, in pieces."""
    for at in range(offset, offset + length, _PIECE):
        yield files.read(at, min(_PIECE, offset + length - at))


def _check_segments(place: Place, block: NDArray[Any], synced: int) -> None:
    """Raise Corrupt if a data file of the durable records in the last index file is missing or short."""
    durable = block[(block["seq"] < synced) & (block["length"] > 0)]
    if len(durable) == 0:
        return
    size = place.info.seg_bytes
    stop = int(durable[-1]["offset"]) + int(durable[-1]["length"])
    for number in range(int(durable[0]["offset"]) // size, (stop - 1) // size + 1):
        if place.data.length(number) < size:
            what = f"data file {place.data.names.path(number).name} is missing or short; nothing was changed"
            raise Corrupt(what, stream=place.name, position=number * size)


def _rewrite(place: Place, tail: NDArray[Any]) -> None:
    """Write payload and index of the accepted tail once more, so that the sync really writes them."""
    if len(tail):
        first, last = tail[0], tail[-1]
        offset, stop = int(first["offset"]), int(last["offset"]) + int(last["length"])
        size = place.info.seg_bytes
        for piece in _pieces(place.data, offset, stop - offset):
            place.data.write(offset, [piece])
            if (offset + len(piece)) // size > offset // size:
                _sync(place.fs, place.data)  # which closes what is full: a long tail must not need many descriptors
            offset += len(piece)
        place.index.write(int(first["seq"]) * RECORD_BYTES, [tail.tobytes()])
        _sync(place.fs, place.data)
        _sync(place.fs, place.index)


def _sync(fs: FileSystem, files: Files) -> None:
    dirty = files.take_dirty()
    try:
        dirty.sync(fs)
    finally:
        dirty.close_retired(fs)


def _check_nothing_behind(place: Place, tail: Tail) -> None:
    """Raise Corrupt if there is something in the index from the tail on: nothing tells if it was acknowledged."""
    if any(_stale(place, tail.seq)):
        what = f"no slot of the state file is valid, and index record {tail.seq} does not check but is not the end"
        raise Corrupt(f"{what}; nothing was changed", stream=place.name, position=tail.offset)


def _stale(place: Place, end: int) -> Iterator[tuple[int, int]]:
    """First and last byte (exclusive) of what is not zero in each index file from record `end` on."""
    for name in place.fs.names(place.index.names.folder):
        number = place.index.names.number(name)
        if number is None or (number + 1) * INDEX_RECORDS <= end:
            continue
        start, stop = max(number * INDEX_BYTES, end * RECORD_BYTES), (number + 1) * INDEX_BYTES
        used = _used(place.index, start, stop)
        if used > start:
            yield start, used


def _zero_behind(place: Place, end: int) -> None:
    """Zero the index from record `end` on, after copying what is there to `quarantine`."""
    for start, used in _stale(place, end):
        stale = place.index.read(start, used - start)
        copy = _quarantine(place, start // RECORD_BYTES, stale)
        _log.warning(
            "stream %s: %d bytes of unfinished index records were cut off, kept in %s", place.name, len(stale), copy
        )
        place.index.write(start, [bytes(len(stale))])
    _sync(place.fs, place.index)


def _used(files: Files, start: int, stop: int) -> int:
    """The end of the last byte between `start` and `stop` that is not zero, without reading holes."""
    used = at = start
    while at < stop:
        data = files.next_data(at)
        if data is None:
            break
        piece = files.read(data, min(_PIECE, stop - data))
        if piece.rstrip(b"\0"):
            used = data + len(piece.rstrip(b"\0"))
        at = data + max(len(piece), 1)
    return used


def _quarantine(place: Place, record: int, stale: bytes) -> Path:
    """Copy durably, under a name that no earlier copy has."""
    folder = place.folder / "quarantine"
    if not place.fs.exists(folder):
        place.fs.mkdir(folder)
    taken = set(place.fs.names(folder))
    attempt = next(k for k in range(len(taken) + 1) if f"{record:020d}.{k}.idx" not in taken)
    path = folder / f"{record:020d}.{attempt}.idx"
    fd = place.fs.open(path, create=True)
    try:
        write_all(place.fs, fd, [stale], 0)
        place.fs.fdatasync(fd)
    finally:
        place.fs.close(fd)
    place.fs.sync_folder(folder)
    place.fs.sync_folder(place.folder)
    return path


def newest_first(index: Files, end: int) -> Iterator[NDArray[Any]]:
    """The index records before `end`: a block for each index file, the newest block first."""
    while end > 0:
        start = (end - 1) // INDEX_RECORDS * INDEX_RECORDS
        block = records(index.read(start * RECORD_BYTES, (end - start) * RECORD_BYTES))
        yield block
        end = start
