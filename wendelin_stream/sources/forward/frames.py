"""Bytes in any split to whole frames, each byte looked at once.

The reader owns the buffer that the socket fills. Frames that are whole leave it as a `Block`: copied if they are
small, by giving the buffer away if they fill most of it. A packed payload that is still on its way is not looked
at until it is there; everything else is walked by one msgpack walker that goes on where it ran out of bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from wendelin_stream.sources.forward.wire import array_head, text_span, unpacker

ROOM = 1 << 17
"""Bytes of a connection's buffer as long as no frame needs more: what one read takes at most."""
LEAST = 1 << 14
"""A read with less room than this is not worth its call."""

_CROWD = 1 << 13
AT_ONCE = 1 << 21
"""A frame that announces its size gets a buffer of so much at once, then four times what has come."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole top-level objects as they came.

    data: never changes again. offset: where it begins in the connection. Object k stops at ``ends[k]`` (relative
    to data), the next one starts there. broken: why nothing behind the last object can be read, or "".
    """

    data: memoryview
    offset: int
    ends: list[int]
    broken: str = ""


class FrameReader:
    """Incremental reader of msgpack frames (F1, F2, F6, F27). Pure: it is filled by `get_buffer` and `received`.

    Positions are byte offsets in the connection. Memory grows with the bytes that came, not with what is announced.
    """

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._buffer = memoryview(bytearray())
        self._base = 0  # where the buffer begins
        self._frame = 0  # where the unfinished frame begins
        self._end = 0  # where the bytes end
        self._walk: Any = unpacker()
        self._origin = 0  # where the walker began
        self._fed = 0  # what it has been given
        self._payload_end = 0  # where a packed payload on its way will end, 0 if there is none
        self._behind = 0  # elements of that frame behind its payload
        self._crowded = True  # so small were the objects of the last read that the next one should be smaller

    @property
    def partial(self) -> int:
        """Bytes of a frame that has begun."""
        return self._end - self._frame

    def peek(self, count: int) -> bytes:
        """The first of the bytes that have been written to the buffer and not yet announced by `received`."""
        return bytes(self._view(self._end, self._end + count))

    def get_buffer(self) -> memoryview:
        """Where the next bytes go: never empty, valid until `received`."""
        room = self._base + len(self._buffer) - self._end
        if room < LEAST or (self._payload_end > self._end + room and len(self._buffer) < AT_ONCE):
            self._make_room()
        start = self._end - self._base
        most = LEAST if self._crowded and not self._payload_end else len(self._buffer)
        return self._buffer[start : start + most]

    def _make_room(self) -> None:
        held = self._view(self._frame, self._end)
        size = max(ROOM, 2 * len(held))
        if self._payload_end:
            whole = self._payload_end - self._frame + 4 * LEAST  # and an option behind it
            size = max(ROOM, min(whole, max(AT_ONCE, 4 * len(held))))
        if size > len(self._buffer):
            fresh = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]  # pages are taken when written to
            fresh[: len(held)] = held
            self._buffer = fresh
        else:
            self._buffer[: len(held)] = held
        self._base = self._frame

    def received(self, count: int) -> Block | None:
        """`count` bytes have been written to the buffer: the objects that are whole now, if any."""
        self._end += count
        if self._end < self._payload_end:
            return None
        ends: list[int] = []
        broken = self._scan(ends)
        self._crowded = len(ends) > _CROWD
        last = self._frame + ends[-1] if ends else self._frame
        if not broken:
            broken = self._too_large(ends) or self._look_ahead(last)
        if not ends and not broken:
            return None
        return Block(self._take(last), last - (ends[-1] if ends else 0), ends, broken)

    def _scan(self, ends: list[int]) -> str:
        """Walk what is new; append where objects end (relative to the unfinished frame). Returns what is broken."""
        if self._fed < self._payload_end:
            self._walk, self._origin, self._fed = unpacker(), self._payload_end, self._payload_end
        walk = self._walk
        walk.feed(self._view(self._fed, self._end))
        self._fed = self._end
        shift = self._origin - self._frame
        skip, tell, append = walk.skip, walk.tell, ends.append
        try:
            if self._payload_end:
                while self._behind:
                    skip()
                    self._behind -= 1
                self._payload_end = 0
                append(shift + tell())
            while True:
                skip()
                append(shift + tell())
        except msgpack.OutOfData:
            return ""
        except msgpack.StackError:
            return "nested too deeply"
        except msgpack.FormatError:
            return "not msgpack"

    def _too_large(self, ends: list[int]) -> str:
        if ends and ends[-1] > self._max_frame and int(np.diff(ends, prepend=0).max()) > self._max_frame:
            ends.clear()
            return f"a frame of more than {self._max_frame} bytes"
        return ""

    def _look_ahead(self, start: int) -> str:
        """Is the unfinished frame a packed one whose payload need not be walked? Too large?"""
        size = self._end - start
        if size and not self._payload_end:
            stop, behind = packed_end(self._view(start, self._end))
            if stop > size:
                self._payload_end, self._behind, size = start + stop, behind, stop
        if size > self._max_frame:
            return f"a frame of more than {self._max_frame} bytes"
        return ""

    def _take(self, last: int) -> memoryview:
        """The bytes up to `last`, never to change again."""
        whole = self._view(self._frame, last)
        rest = self._view(last, self._end)
        if 2 * len(whole) < len(self._buffer):
            whole = memoryview(bytes(whole))
        else:
            size = max(ROOM, 2 * len(rest)) if len(rest) else 0
            self._buffer = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]
            self._buffer[: len(rest)] = rest
            self._base = last
        self._frame = last
        if last == self._end:
            self._base = last
        return whole.toreadonly()

    def _view(self, start: int, stop: int) -> memoryview:
        return self._buffer[start - self._base : stop - self._base]


def packed_end(data: memoryview) -> tuple[int, int]:
    """Where the payload of a PackedForward frame will end, and how many elements follow it; (0, 0) if it is no such
    frame or too little of it is there."""
    try:
        count, at = array_head(data, 0)
        if count < 2:
            return 0, 0
        start, stop = text_span(data, at)
        if start < 0:
            return 0, 0
        start, stop = text_span(data, stop)
    except (IndexError, struct.error):
        return 0, 0
    return (stop, count - 2) if start >= 0 else (0, 0)
