"""One data stream, read from its files: an array, a selection by time, events."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import Item, Kind, Signal
from wendelin_stream.client.selection import Selection, rows_between
from wendelin_stream.client.tables import html_table
from wendelin_stream.client.times import Time, nanoseconds
from wendelin_stream.errors import ConfigError
from wendelin_stream.runtime.events import unpack_events
from wendelin_stream.store import StreamReader
from wendelin_stream.units import format_frequency, format_size, format_time


@dataclass(frozen=True, slots=True)
class Event:
    """One event: where its bytes are in the stream, time (UTC; of arrival where the sender gave none), record."""

    position: int
    size: int
    time: np.datetime64
    record: Any


def _within(time: int, since: int | None, until: int | None) -> bool:
    return (since is None or time >= since) and (until is None or time < until)


class Stream:
    """A data stream as it was at the last `refresh`; reading takes no lock, a daemon may go on appending.

    A stream of kind ``rows`` has a `signal`; one of ``events`` or ``bytes`` has none and its array is uint8.
    Pickles by path. Its files are closed with the object, or before by `close` or as a context manager.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Raises ConfigError if the store has no such stream."""
        self._path, self.name = path, name
        self.reader = StreamReader.open(path, name)
        weakref.finalize(self, self.reader.close)

    def __reduce__(self) -> tuple[type[Stream], tuple[Path, str]]:
        return Stream, (self._path, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Arrays that were handed out stay valid."""
        self.reader.close()

    @property
    def kind(self) -> Kind:
        """``rows``, ``events`` or ``bytes``."""
        return self.reader.kind

    @property
    def signal(self) -> Signal | None:
        """dtype, channels, units, rate and axes of the rows; None for events and bytes."""
        return self.reader.signal

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the stream's maker wrote beside it: pipeline, input, model digest, ..."""
        return self.reader.attrs

    @property
    def array(self) -> NDArray[Any]:
        """All rows over all segments as one read-only array, without copying: (rows, channels, *axes).

        Rows that carry their time: structured, (rows,). Events and bytes: uint8, (bytes,).
        """
        return self.reader.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        if self.kind == "events":
            return int(self.reader.index()["count"].sum(dtype=np.int64))
        return self.reader.rows - self.reader.first_row

    def refresh(self) -> int:
        """See what was appended since; the new length. Arrays and selections made before stay as they are."""
        self.reader.refresh()
        return len(self)

    # --- by time and by row

    def times(self, start: int = 0, stop: int | None = None) -> NDArray[np.datetime64]:
        """Times of rows start to stop of `array`: datetime64[ns], UTC, computed from the index."""
        self.rows_only("times()")
        first = self.reader.first_row
        start, stop, _ = slice(start, stop).indices(len(self))
        return self.reader.times(first + start, first + max(start, stop))

    def sel(self, start: Time | None = None, stop: Time | None = None) -> Selection:
        """Rows with ``start <= time < stop``: ISO text, datetime or datetime64; UTC; None is open.

        Raises ConfigError for what is no time, or for a stream that has no rows.
        """
        self.rows_only("sel()")
        first, last = (None if t is None else nanoseconds(t) for t in (start, stop))
        return Selection(self.reader, rows_between(self.reader, first, last), self)

    def isel(self, start: int | None = None, stop: int | None = None) -> Selection:
        """Rows start to stop (of a stream of bytes: bytes), counted from the end if negative, as in a slice."""
        if self.kind == "events":
            raise ConfigError(f"{self.name} holds events", hint="use events()")
        first, last, _ = slice(start, stop).indices(len(self.array))
        return Selection(self.reader, [(first, last)] if first < last else [], self)

    def iter_batches(self, rows: int, overlap: int = 0) -> Iterator[NDArray[Any]]:
        """All rows in views of `rows` each, the last `overlap` of one being the first of the next.

        The last one may be shorter; none holds only rows that were there before. Holes in time are not looked at.
        """
        if not 0 <= overlap < rows:
            raise ConfigError(f"overlap {overlap} must be at least 0 and below rows, {rows}")
        whole = self.array
        for start in range(0, max(len(whole) - overlap, min(len(whole), 1)), rows - overlap):
            yield whole[start : start + rows]

    def items(self, start: int, stop: int) -> Iterator[Item]:
        """Rows start to stop of `array` as operators take them: a `Batch` for each time base, a `Gap` for each hole."""
        self.rows_only("items()")
        return self.reader.items(self.reader.first_row + start, stop - start)

    def rows_only(self, what: str) -> None:
        """Raises ConfigError, saying that `what` needs rows, for a stream of events or bytes."""
        if self.signal is None:
            hint = "see events(start, stop)" if self.kind == "events" else "see isel() and array, by byte"
            raise ConfigError(f"{what} needs rows, and {self.name} holds {self.kind}", hint=hint)

    # --- events

    def events(self, start: Time | None = None, stop: Time | None = None) -> Iterator[Event]:
        """The events with ``start <= time < stop`` in order of arrival, decoded one chunk at a time.

        Raises ConfigError for what is no time, or for a stream of another kind.
        """
        since, until = (None if t is None else nanoseconds(t) for t in (start, stop))
        return self.events_within(since, until)

    def events_within(
        self, since: int | None = None, until: int | None = None, first: int = 0, end: int | None = None
    ) -> Iterator[Event]:
        """Events from time `since` to before `until` (ns UTC) and numbered `first` to before `end`; None: open."""
        if self.kind != "events":
            raise ConfigError(f"{self.name} holds {self.kind}, not events", hint="use array")
        index = self.reader.index()
        ends = np.cumsum(index["count"], dtype=np.int64)
        inside = (index["count"] > 0) & (ends > first)
        if since is not None:
            inside &= index["t_last"] >= since
        if until is not None:
            inside &= index["t_first"] < until
        if end is not None:
            inside &= ends - index["count"] < end
        for record, last in zip(index[inside], ends[inside], strict=True):
            numbered = enumerate(self._record_events(record), int(last) - int(record["count"]))
            for number, event in numbered:
                time = int(event.time.astype(np.int64))
                if number >= first and (end is None or number < end) and _within(time, since, until):
                    yield event

    def _record_events(self, record: np.void) -> Iterator[Event]:
        offset, arrival = int(record["offset"]), int(record["t_ingest"])
        for event in unpack_events(self.reader.read(offset, int(record["length"]))):
            time = np.datetime64(arrival if event.time is None else event.time, "ns")
            yield Event(offset + event.start, event.stop - event.start, time, event.record)

    # --- shown

    @property
    def what(self) -> str:
        """The signal in a line: ``float32 x 6 channels [m/s2], 25.6 kHz``; empty for events and bytes."""
        signal = self.signal
        if signal is None:
            return ""
        units = ", ".join(dict.fromkeys(unit for unit in signal.units if unit))
        kind = f"{len(signal.channels)} channels" if signal.rate is None else str(signal.dtype)
        shape = "" if signal.rate is None else " x " + " x ".join(map(str, signal.shape))
        rate = "rows carry their time" if signal.rate is None else format_frequency(signal.rate)
        return f"{kind}{shape}{f' [{units}]' if units else ''}, {rate}"

    @property
    def span(self) -> tuple[str, str]:
        """First and last time as ISO text; empty before there is data."""
        first, last = self.reader.first_time(), self.reader.last_time()
        return ("" if first is None else format_time(first), "" if last is None else format_time(last))

    def _facts(self) -> list[tuple[str, str]]:
        first, last = self.span
        facts = [("kind", self.kind), (self.kind, f"{len(self):,}"), ("size", format_size(self.reader.end))]
        if self.signal is not None:
            facts.append(("signal", self.what))
            facts.append(("channels", ", ".join(self.signal.channels)))
            facts += [
                (axis.name, f"{axis.size} x {axis.step:g} {axis.unit} from {axis.start:g} {axis.unit}")
                for axis in self.signal.axes
            ]
        facts += [("first", first), ("last", last)]
        return facts + [(str(key), str(value)) for key, value in self.attrs.items()]

    def __repr__(self) -> str:
        lines = [f"  {key + ':':10} {value}" for key, value in self._facts()]
        return "\n".join([f"<Stream {self.name}>", *lines])

    def _repr_html_(self) -> str:
        return html_table(self._facts(), caption=self.name)
