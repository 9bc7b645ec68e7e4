"""The shapes in which an event begins: ``[time, record]`` and ``[[time, metadata], record]`` in all widths.

Events of one sender begin alike, so the shape of the first one is read with care and then looked for in all others
at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import NS
from wendelin_stream.sources.forward.modes import object_size
from wendelin_stream.sources.forward.vector import Bytes, Index, Mask, same_bytes
from wendelin_stream.sources.forward.wire import array_head, map_head, type_name

GROUP_MARKERS = (0xFFFF_FFFF << 32, 0xFFFF_FFFE << 32)
"""EventTimes that open and close a group in Fluent Bit: no events (F21)."""
_LONGEST = 256
_INTEGERS = {0xCC: (1, False), 0xCD: (2, False), 0xCE: (4, False), 0xCF: (8, False)} | {
    0xD0: (1, True),
    0xD1: (2, True),
    0xD2: (4, True),
    0xD3: (8, True),
}
MAX_SECONDS = (2**63 - 1) // NS


@dataclass(frozen=True, slots=True)
class Form:
    """How an event begins: `before`, the time's `width` bytes, `after`, then the record.

    event_time: the value is seconds and nanoseconds, 32 bits each; else an integer number of seconds. A width of 0
    means that the value is the last byte of `before` (fixint).
    reason: what is wrong with every event that begins with `before`, or "".
    """

    before: bytes
    width: int = 0
    after: bytes = b""
    event_time: bool = False
    signed: bool = False
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes before the record."""
        return len(self.before) + self.width + len(self.after)

    def find(self, data: Bytes, starts: Index) -> Mask:
        """Which of the events have this form. Long ones (metadata) are not worth looking for: the first only."""
        if self.size > _LONGEST:
            result = np.zeros(len(starts), np.bool_)
            result[0] = True
            return result
        result = same_bytes(data, starts, self.before)
        if self.after:
            result &= same_bytes(data, starts + (len(self.before) + self.width), self.after)
        return result

    def value(self, event: memoryview) -> int:
        """The time of one event of this form, as it stands there."""
        if not self.width:
            head = self.before[-1]
            return head if head < 0x80 else head - 256
        start = len(self.before)
        return int.from_bytes(event[start : start + self.width], "big", signed=self.signed)

    def values(self, data: Bytes, starts: Index) -> NDArray[np.int64]:
        """The times of events of this form, as they stand there: EventTime as one 64-bit number, else seconds.

        Seconds that do not fit into 63 bits come as the largest number.
        """
        if not self.width:
            head = self.before[-1]
            return np.full(len(starts), head if head < 0x80 else head - 256, np.int64)
        word = data.word(starts + len(self.before))
        if self.event_time:
            return word.view(np.int64)
        shift = np.uint64(64 - 8 * self.width)
        if self.signed:
            return word.view(np.int64) >> shift.astype(np.int64)
        seconds: NDArray[np.uint64] = np.minimum(word >> shift, np.uint64(2**63 - 1))
        return seconds.view(np.int64)


def read_form(event: memoryview) -> Form:
    """The form of one well-formed event; with a `reason` if no event that begins so is valid (F17, F18, F20)."""
    count, at = array_head(event, 0)
    if count != 2:
        what = type_name(event[0]) if count < 0 else f"an array of {count}"
        return Form(bytes(event[: max(at, 1)]), reason=f"{what}, not a pair of time and record")
    header, inner = array_head(event, at)
    if header >= 0 and header != 2:
        return Form(bytes(event[:inner]), reason=f"a time header of {header} elements")
    at = inner
    width, value, event_time, signed = _time(event, at)
    if value < 0:
        return Form(bytes(event[: at + 2]), reason=f"the time is {type_name(event[at])}")
    stop = record = value + width
    if header >= 0:
        pairs, _ = map_head(event, stop)
        if pairs < 0:
            return Form(bytes(event[: stop + 1]), reason=f"the metadata are {type_name(event[stop])}, not a map")
        record = stop + object_size(event[stop:])
    return Form(bytes(event[:value]), width, bytes(event[stop:record]), event_time, signed)


def _time(event: memoryview, at: int) -> tuple[int, int, bool, bool]:
    """Width of the time's value, where it is (-1: that is no time), whether it is an EventTime or a signed number."""
    head = event[at]
    if head < 0x80 or head >= 0xE0:
        return 0, at + 1, False, True
    if head == 0xD7 and event[at + 1] == 0:
        return 8, at + 2, True, False
    if head == 0xC7 and event[at + 1] == 8 and event[at + 2] == 0:
        return 8, at + 3, True, False
    width, signed = _INTEGERS.get(head, (0, False))
    return (width, at + 1, False, signed) if width else (0, -1, False, False)
