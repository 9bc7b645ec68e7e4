"""Rows and events as bytes of csv, json, npy and raw, a bounded block at a time."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import Signal
from wendelin_stream.units import format_time

if TYPE_CHECKING:
    from wendelin_stream.cli.span import Run
    from wendelin_stream.client import Event

BLOCK = 1 << 20
"""Bytes of rows that are turned into text or handed to the system at once."""

Array = NDArray[Any]
Times = Callable[[int, int], NDArray[np.datetime64]]


def blocks(array: Array, runs: Sequence[Run], size: int = BLOCK) -> Iterator[Run]:
    """The runs cut into pieces of at most `size` bytes, one row at least."""
    step = max(1, size // max(1, array[:1].nbytes))
    for first, last in runs:
        for start in range(first, last, step):
            yield start, min(start + step, last)


def raw_blocks(array: Array, runs: Sequence[Run]) -> Iterator[memoryview]:
    """The bytes as they are stored."""
    for start, stop in blocks(array, runs):
        yield array[start:stop].reshape(-1).view(np.uint8).data


def npy_blocks(array: Array, runs: Sequence[Run]) -> Iterator[bytes | memoryview]:
    """One NumPy file of all runs, format 1.0 or, if the header is long, 2.0."""
    shape = (sum(stop - start for start, stop in runs), *array.shape[1:])
    head = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
    try:
        np.lib.format.write_array_header_1_0(head, header)
    except ValueError:
        head = io.BytesIO()
        np.lib.format.write_array_header_2_0(head, header)
    yield head.getvalue()
    yield from raw_blocks(array, runs)


def columns(signal: Signal) -> list[str]:
    """Headings of a row written flat: channels, with the axes' values behind ``@`` where there are axes."""
    if signal.rate is not None:
        names = list(signal.channels)
        for axis in signal.axes:
            names = [f"{name}@{value:g}" for name in names for value in axis.values()]
        return names
    names = []
    for channel in signal.channels:
        count = math.prod(signal.dtype[channel].shape)
        names += [channel] if count == 1 else [f"{channel}@{i}" for i in range(count)]
    return names


def _flat(rows: Array, signal: Signal) -> list[list[Any]]:
    """One list of numbers for each row, in the order of `columns`."""
    if signal.rate is not None:
        return list(rows.reshape(len(rows), -1).tolist())
    fields = [rows[channel].reshape(len(rows), -1).tolist() for channel in signal.channels]
    return [[value for field in row for value in field] for row in zip(*fields, strict=True)]


def csv_blocks(array: Array, runs: Sequence[Run], signal: Signal, times: Times) -> Iterator[bytes]:
    """``time,channel,...`` with times in ISO 8601, UTC, to the nanosecond."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", *columns(signal)])
    yield text.getvalue().encode()
    for start, stop in blocks(array, runs):
        text.seek(0)
        text.truncate()
        stamps = np.datetime_as_string(times(start, stop), unit="ns")
        rows = _flat(array[start:stop], signal)
        writer.writerows([f"{stamp}Z", *row] for stamp, row in zip(stamps, rows, strict=True))
        yield text.getvalue().encode()


def json_blocks(array: Array, runs: Sequence[Run], signal: Signal, times: Times) -> Iterator[bytes]:
    """``{"time": ..., channel: value}`` a line; a row with axes has lists. What JSON has no number for is null."""
    for start, stop in blocks(array, runs):
        rows = array[start:stop]
        by_channel = rows.tolist() if signal.rate is not None else [row[1:] for row in rows.tolist()]
        lines = []
        for stamp, values in zip(times(start, stop), by_channel, strict=True):
            fields = dict(zip(signal.channels, values, strict=True))
            lines.append(_json({"time": format_time(int(stamp.astype(np.int64))), **fields}))
        yield b"".join(lines)


def json_event(event: Event) -> bytes:
    """``{"time": ..., "record": ...}`` and a newline."""
    return _json({"time": format_time(int(event.time.astype(np.int64))), "record": event.record})


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError):  # binary, NaN, keys that are no text: rare, so the quick way goes first
        return json.dumps(plain(value)).encode() + b"\n"


def plain(value: Any) -> Any:
    """What JSON can hold: binary as base64, extension types as {"ext", "data"}, NaN and infinities as null."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, msgpack.ExtType):
        return {"ext": value.code, "data": plain(value.data)}
    if isinstance(value, msgpack.Timestamp):
        return {"ext": -1, "data": plain(value.to_bytes())}
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
