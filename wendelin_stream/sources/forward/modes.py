"""Whole top-level objects to frames of the three modes (F5, F10); runs of plain messages to one event stream.

A sender in Message mode writes one small frame per event. Taken one by one each costs Python several
microseconds, so frames of the same tag that carry no option are cut out of the block together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import as_strided

from wendelin_stream.sources.forward.frames import Block
from wendelin_stream.sources.forward.uniform import uniform_size
from wendelin_stream.sources.forward.vector import Bytes, Index, Mask, same_bytes
from wendelin_stream.sources.forward.wire import NIL, array_head, text_span, type_name, unpacker

LONGEST_TAG = 4096
"""Bytes; a tag of more is set aside like one that is no text."""
_TAGS_AT_ONCE = 16
_FEW = 8


class Mode(Enum):
    """How a frame carries its events; the second element decides."""

    MESSAGE = "message"
    FORWARD = "forward"
    PACKED = "packed"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, well formed as a whole but nothing in it looked at yet.

    data: all of it. tag: its bytes, b"" if invalid, the reason is in `bad_tag` then.
    start, stop: PACKED: the payload. FORWARD: from the first entry to the frame's end. MESSAGE: from the time to
    the frame's end. entries: FORWARD: as announced. elements: of the frame. offset: in the connection.
    """

    data: memoryview
    offset: int
    mode: Mode
    tag: bytes
    start: int
    stop: int
    elements: int
    entries: int = 0
    bad_tag: str = ""


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one tag without options, in order, as an event stream: event k is ``data[bounds[k]:bounds[k+1]]``."""

    tag: bytes
    data: bytes
    bounds: Index
    offset: int


@dataclass(frozen=True, slots=True)
class Junk:
    """An object that is no frame: skipped, with a warning (F5)."""

    what: str
    offset: int


@dataclass(frozen=True, slots=True)
class Text:
    """A frame in JSON."""

    data: memoryview
    offset: int


Unit = Frame | Messages | Text | Junk


def units(block: Block) -> Iterator[Unit]:
    """What a block brings, in order; nil (a heartbeat) brings nothing (F4).

    Messages without options of one tag come together at the place of the first one; other frames are never overtaken.
    """
    stops = block.ends
    if len(stops) <= _FEW:
        for start, stop in pairwise([0, *stops]):
            if block.data[start] != NIL:
                yield read_frame(block.data[start:stop], block.offset + start)
        return
    yield from _many(block, np.array(stops, np.int64))


def texts(block: Block) -> Iterator[Unit]:
    """What a block of JSON values brings."""
    for start, stop in pairwise([0, *block.ends]):
        yield Text(block.data[start:stop], block.offset + start)


def _many(block: Block, stops: Index) -> Iterator[Unit]:
    starts = np.concatenate((np.zeros(1, np.int64), stops[:-1]))
    data = Bytes(block.data)
    kinds, runs = _kinds(data, starts, stops)
    heads = data.u8[starts]
    if not (kinds < 0).any():
        cuts = [0, len(kinds)]
    else:  # what is no plain message stands between two runs
        edge = np.flatnonzero(np.diff(kinds < 0)) + 1
        cuts = [0, *edge.tolist(), len(kinds)]
    for begin, end in pairwise(cuts):
        if kinds[begin] < 0:
            for k in (np.flatnonzero(heads[begin:end] != NIL) + begin).tolist():
                start = int(starts[k])
                yield read_frame(block.data[start : int(stops[k])], block.offset + start)
        else:
            part = kinds[begin:end]
            for kind in dict.fromkeys(part.tolist()):
                chosen = np.flatnonzero(part == kind) + begin
                yield runs[kind].gather(data, block.offset, starts[chosen], stops[chosen])


@dataclass(frozen=True, slots=True)
class _Run:
    """How plain messages of one tag begin: the frame's head and the tag."""

    prefix: bytes
    tag: bytes
    option: bool

    def gather(self, block: Bytes, offset: int, starts: Index, stops: Index) -> Messages:
        """Their events: 92 in the place of head and tag, the option (empty or nil, one byte) left out."""
        first = starts + len(self.prefix)
        last = stops - 1 if self.option else stops
        sizes = last - first + 1
        bounds = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(sizes, out=bounds[1:])
        step = int(starts[1] - starts[0]) if len(starts) > 1 else 0
        if step and (np.diff(starts) == step).all() and (sizes == sizes[0]).all():
            begin, size = int(first[0]) - 1, int(sizes[0])
            events = as_strided(block.u8[begin:], (len(starts), size), (step, 1)).copy()
            events[:, 0] = 0x92
            data = events.tobytes()
        else:
            whole = bytes(block.view)  # slices of bytes are cheaper than those of a memoryview
            pieces = [whole[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
            data = b"\x92" + b"\x92".join(pieces)
        return Messages(self.tag, data, bounds, offset + int(starts[0]))


def _kinds(data: Bytes, starts: Index, stops: Index) -> tuple[Index, list[_Run]]:
    """For each object the number of its run, or -1 if it is no plain message."""
    kinds = np.full(len(starts), -1, np.int64)
    runs: list[_Run] = []
    heads = data.u8[starts]
    left = np.flatnonzero((heads == 0x93) | (heads == 0x94))
    while len(left) and len(runs) < _TAGS_AT_ONCE:
        start = int(starts[left[0]])
        run = _run_of(data.view[start : int(stops[left[0]])])
        if run is None:
            left = left[1:]
            continue
        same = same_bytes(data, starts[left], run.prefix)
        mine, left = left[same], left[~same]
        second = data.u8[starts[mine] + len(run.prefix)]
        plain = ~_NOT_A_TIME[second]
        if run.option:
            plain &= _empty_options(data, starts[mine], stops[mine])
        kinds[mine[plain]] = len(runs)
        runs.append(run)
    return kinds, runs


def _run_of(frame: memoryview) -> _Run | None:
    start, stop = text_span(frame, 1)
    if start < 0 or start == stop or stop - start > LONGEST_TAG:
        return None
    return _Run(bytes(frame[:stop]), bytes(frame[start:stop]), frame[0] == 0x94)


def _empty_options(data: Bytes, starts: Index, stops: Index) -> Mask:
    """Which frames of four elements end in an option that says nothing: {} or nil."""
    first, last = int(starts[0]), int(stops[-1])
    size, count = uniform_size(data.view[first:last], None)
    if count == len(starts) and (stops - starts == size).all():  # then what holds for the first holds for all
        starts, stops = starts[:1], stops[:1]
    else:
        count = 1
    result = np.isin(data.u8[stops - 1], _NOTHING)  # or the last byte of a longer option: look where it begins
    walk = unpacker()
    header, skip, tell = walk.read_array_header, walk.skip, walk.tell
    begun = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        walk.feed(data.view[start:stop])
        header()
        skip()
        skip()
        skip()
        begun.append(tell())
        skip()
    ends = np.cumsum(stops - starts)
    result &= np.array(begun, np.int64) == ends - 1
    return np.tile(result, count)


_NOTHING = (0x80, NIL)
_NOT_A_TIME = np.zeros(256, np.bool_)  # second elements that make a frame PackedForward or Forward
_NOT_A_TIME[0x90:0xC0] = True
_NOT_A_TIME[[0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD]] = True


def read_frame(data: memoryview, offset: int) -> Frame | Junk:
    """The frame that `data`, one well-formed object, is."""
    elements, at = array_head(data, 0)
    if elements < 0:
        return Junk(f"{type_name(data[0])} where a frame should be", offset)
    if elements < 2:
        return Junk(f"an array of {elements} elements where a frame should be", offset)
    tag, bad_tag, at = _tag(data, at)
    start, stop = text_span(data, at)
    if start >= 0:
        return Frame(data, offset, Mode.PACKED, tag, start, stop, elements, bad_tag=bad_tag)
    entries, start = array_head(data, at)
    if entries >= 0:
        return Frame(data, offset, Mode.FORWARD, tag, start, len(data), elements, entries, bad_tag=bad_tag)
    return Frame(data, offset, Mode.MESSAGE, tag, at, len(data), elements, bad_tag=bad_tag)


def _tag(data: memoryview, at: int) -> tuple[bytes, str, int]:
    """The tag, what is wrong with it, and where the second element begins."""
    start, stop = text_span(data, at)
    if start < 0:
        return b"", f"the tag is {type_name(data[at])}", at + object_size(data[at:])
    if start == stop:
        return b"", "the tag is empty", stop
    if stop - start > LONGEST_TAG:
        return b"", f"the tag has {stop - start} bytes", stop
    return bytes(data[start:stop]), "", stop


def object_size(data: memoryview) -> int:
    """Bytes of the object that `data` begins with. Raises msgpack.UnpackException if it is cut or broken."""
    walk = unpacker()
    walk.feed(data)
    walk.skip()
    return int(walk.tell())
