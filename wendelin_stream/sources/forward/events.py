"""An event stream as it came, looked through: what is stored, from when to when, what is set aside.

Bytes that are stored are the sender's own (F16); nothing is decoded. Framing is proven by a walk over all of it,
the events' beginnings are compared all at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, repeat

import msgpack
import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import NS
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Rejected
from wendelin_stream.sources.forward.forms import GROUP_MARKERS, MAX_SECONDS, Form, read_form
from wendelin_stream.sources.forward.uniform import uniform_size
from wendelin_stream.sources.forward.vector import Bytes, Index
from wendelin_stream.sources.forward.wire import DEPTH, unpacker

STRETCH = 1 << 14
"""Events looked at in one go."""
_WINDOW = 1 << 17
_FORMS = 16
_FEW = 6
_PATIENCE = 500
MOST_REJECTED = 1000
"""Events of one frame that are set aside one by one; the others are set aside together."""


class Heavy(Exception):
    """More work than the event loop has time for: do it in a thread."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What an event stream came to.

    data: the events to be stored; `intact` if these are all bytes that came. t_first, t_last: ns UTC (the arrival
    if there is no event). end: bytes that the walk has passed.
    """

    data: bytes | bytearray | memoryview
    intact: bool
    count: int
    t_first: int
    t_last: int
    rejected: tuple[Rejected, ...]
    end: int


def check(data: memoryview, stretches: Iterable[Index], arrival: int, patience: int | None = None) -> Checked:
    """Sort the events of `data` into stored, set aside (F25) and left out (group markers, F21).

    stretches: bounds of consecutive events, as `walk` gives them. arrival: ns UTC, stands in for a time of 0 (F19).
    patience: how many events may be looked at. Raises Heavy beyond; BadData if the walk does (F26).
    """
    sorter = _Sorter(data, arrival, patience is not None)
    end = seen = 0
    for bounds in stretches:
        seen += len(bounds) - 1
        if patience is not None and seen > patience:
            raise Heavy
        sorter.stretch(bounds)
        end = int(bounds[-1])
    return sorter.result(end)


def judge(event: memoryview, arrival: int) -> tuple[str | None, int]:
    """What is wrong with one well-formed event ("": nothing; None: it is a group marker), and its time in ns UTC."""
    form = read_form(event)
    if form.reason:
        return form.reason, 0
    value = form.value(event)
    if form.event_time and value in GROUP_MARKERS:
        return None, 0
    if not _MAP[event[form.size]]:
        return _NO_MAP, 0
    if not value:
        return "", arrival
    if form.event_time:
        return "", (value >> 32) * NS + (value & 0xFFFF_FFFF)
    return ("", value * NS) if -MAX_SECONDS <= value <= MAX_SECONDS else (_NO_TIME, 0)


def check_one(event: bytes, arrival: int) -> Checked:
    """`check` for a single well-formed event."""
    reason, time = judge(memoryview(event), arrival)
    if reason == "":
        return Checked(event, True, 1, time, time, (), len(event))
    rejected = () if reason is None else (Rejected(event, reason),)
    return Checked(b"", False, 0, arrival, arrival, rejected, len(event))


def walk(data: memoryview, count: int | None = None) -> Iterator[Index]:
    """Bounds of the events in `data`, up to `STRETCH` at a time: ``(n + 1,)`` int64, each from the last one's end on.

    count: events to walk; None: to the exact end of the data. Raises BadData where that cannot be done (F26, F27).
    """
    size, events = uniform_size(data, count)
    for k in range(0, events, STRETCH):
        yield np.arange(k, min(k + STRETCH, events) + 1, dtype=np.int64) * size
    if events:
        return
    unpack = unpacker()
    skip, tell = unpack.skip, unpack.tell
    left = sys.maxsize if count is None else count
    fed, bounds = 0, [0]
    append = bounds.append
    try:
        while left:
            try:
                for _ in repeat(None, min(left, STRETCH) + 1 - len(bounds)):
                    skip()
                    append(tell())
            except msgpack.OutOfData:
                if fed < len(data):
                    unpack.feed(data[fed : fed + _WINDOW])
                    fed += _WINDOW
                    continue
                if count is not None or bounds[-1] != len(data):
                    raise BadData(f"ends inside the event at byte {bounds[-1]}") from None
                break
            left -= len(bounds) - 1
            yield np.array(bounds, np.int64)
            del bounds[:-1]
    except msgpack.StackError:
        raise BadData(f"nested deeper than {DEPTH} levels at byte {bounds[-1]}") from None
    except msgpack.FormatError:
        raise BadData(f"not msgpack at byte {bounds[-1]}") from None
    if len(bounds) > 1:
        yield np.array(bounds, np.int64)


class _Sorter:
    def __init__(self, data: memoryview, arrival: int, hasty: bool) -> None:
        self._bytes = Bytes(data)
        self._data = data
        self._arrival = arrival
        self._hasty = hasty
        self._first, self._last = sys.maxsize, -sys.maxsize
        self._count = 0
        self._kept: bytearray | None = None  # None: nothing has been left out so far
        self._rejected: list[Rejected] = []
        self._more, self._more_count = bytearray(), 0

    def stretch(self, bounds: Index) -> None:
        """Sort consecutive events."""
        verdict, reasons = self._judge(bounds)
        start, stop = int(bounds[0]), int(bounds[-1])
        if not verdict.any():
            self._count += len(verdict)
            if self._kept is not None:
                self._kept += self._data[start:stop]
            return
        good = verdict == 0
        self._count += int(good.sum())
        if self._kept is None:
            self._kept = bytearray(self._data[:start])
        for a, b in _runs(bounds, good):
            self._kept += self._data[a:b]
        self._reject(bounds, verdict, reasons)

    def _reject(self, bounds: Index, verdict: Verdict, reasons: list[str]) -> None:
        """Set events aside one by one, from `MOST_REJECTED` on in bulk."""
        bad = np.flatnonzero(verdict > 0)
        single = bad[: MOST_REJECTED - len(self._rejected)]
        for k in single.tolist():
            event = bytes(self._data[int(bounds[k]) : int(bounds[k + 1])])
            self._rejected.append(Rejected(event, reasons[int(verdict[k]) - 1]))
        if len(bad) > len(single):
            rest = verdict > 0
            rest[single] = False
            for a, b in _runs(bounds, rest):
                self._more += self._data[a:b]
            self._more_count += len(bad) - len(single)

    def _judge(self, bounds: Index) -> tuple[Verdict, list[str]]:
        """For each event 0 (stored), -1 (left out) or 1 + the number of the reason why it is set aside."""
        reasons: list[str] = []
        if len(bounds) <= _FEW:
            return self._judge_few(bounds.tolist(), reasons), reasons
        starts, stops = bounds[:-1], bounds[1:]
        form = read_form(self._data[int(bounds[0]) : int(bounds[1])])
        same = form.find(self._bytes, starts)
        if same.all():
            return self._judge_form(form, starts, stops, reasons), reasons
        verdict = np.zeros(len(starts), np.int16)
        left: Index = np.arange(len(starts))
        forms = 0
        while len(left):
            first = int(left[0])
            form = read_form(self._data[int(starts[first]) : int(stops[first])])
            forms += 1
            if forms > _FORMS:
                if self._hasty and len(left) > _PATIENCE:
                    raise Heavy
                mine, left = left[:1], left[1:]
            else:
                same = form.find(self._bytes, starts[left])
                mine, left = left[same], left[~same]
            verdict[mine] = self._judge_form(form, starts[mine], stops[mine], reasons)
        return verdict, reasons

    def _judge_few(self, bounds: list[int], reasons: list[str]) -> Verdict:
        verdict = np.zeros(len(bounds) - 1, np.int16)
        for k, (start, stop) in enumerate(pairwise(bounds)):
            reason, time = judge(self._data[start:stop], self._arrival)
            if reason == "":
                self._first, self._last = min(self._first, time), max(self._last, time)
            else:
                verdict[k] = -1 if reason is None else _number(reason, reasons)
        return verdict

    def _judge_form(self, form: Form, starts: Index, stops: Index, reasons: list[str]) -> Verdict:
        """The verdicts on events of one form; takes their times into account."""
        verdict = np.zeros(len(starts), np.int16)
        if form.reason:
            verdict[:] = _number(form.reason, reasons)
            return verdict
        values = form.values(self._bytes, starts)
        is_map = _MAP[self._bytes.u8[np.minimum(starts + form.size, stops - 1)]]
        if form.event_time:
            unsigned = values.view(np.uint64)
            times = ((unsigned >> _HALF) * np.uint64(NS) + (unsigned & _LOW)).view(np.int64)
        else:
            outside = (values > MAX_SECONDS) | (values < -MAX_SECONDS)
            if outside.any():
                verdict[outside] = _number(_NO_TIME, reasons)
            times = values * NS
        if not is_map.all():
            verdict[~is_map] = _number(_NO_MAP, reasons)
        if form.event_time and unsigned.max() >= min(GROUP_MARKERS):
            verdict[np.isin(unsigned, _MARKERS)] = -1
        times[values == 0] = self._arrival
        stored = times[verdict == 0] if verdict.any() else times
        if len(stored):
            self._first = min(self._first, int(stored.min()))
            self._last = max(self._last, int(stored.max()))
        return verdict

    def result(self, end: int) -> Checked:
        """What all stretches came to."""
        if self._more_count:
            reason = f"{self._more_count} more events of a frame that are invalid in some way"
            self._rejected.append(Rejected(self._more, reason))
        intact = self._kept is None
        first, last = (self._first, self._last) if self._count else (self._arrival, self._arrival)
        data = self._data[:end] if self._kept is None else self._kept
        return Checked(data, intact, self._count, first, last, tuple(self._rejected), end)


_NO_MAP = "the record is no map"
_NO_TIME = "the time is outside of what 64 bits of nanoseconds hold"
Verdict = NDArray[np.int16]
_MAP = np.zeros(256, np.bool_)
_MAP[0x80:0x90] = _MAP[0xDE:0xE0] = True
_MARKERS = np.array(GROUP_MARKERS, np.uint64)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFF_FFFF)


def _number(reason: str, reasons: list[str]) -> int:
    if reason not in reasons:
        reasons.append(reason)
    return reasons.index(reason) + 1


def _runs(bounds: Index, chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Byte ranges of the chosen events, neighbours joined."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield int(bounds[a]), int(bounds[b])
