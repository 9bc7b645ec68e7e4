"""Event streams whose events are all built alike, as a sensor's are: their bounds follow from the first one.

How msgpack is cut depends only on its heads and lengths. If these are the same in each piece of the first event's
size, each piece is one event; that is compared in a few passes over the bytes, several times faster than a walk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.sources.forward.vector import Index

_LONGEST = 1024
_TOKENS = 128
_FEWEST = 16
_BLOCK = 1 << 13

_LENGTH = [0] * 256  # bytes of the length behind the head
_CONTENT = [0] * 256  # bytes of content that the head itself tells
_ITEMS = [0] * 256  # objects inside that the head itself tells
_PER_ITEM = [0] * 256  # objects inside for each unit of the length; 0: the length counts bytes
_BITS = [0xFF] * 256  # bits of the head that the structure depends on
for _head in range(256):
    if _head < 0x80:
        _BITS[_head] = 0x80
    elif _head < 0x90:
        _ITEMS[_head] = 2 * (_head & 15)
    elif _head < 0xA0:
        _ITEMS[_head] = _head & 15
    elif _head < 0xC0:
        _CONTENT[_head] = _head & 31
    elif _head >= 0xE0:
        _BITS[_head] = 0xE0
_BITS[0xC2] = _BITS[0xC3] = 0xFE
for _head, _size in {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.items():
    _LENGTH[_head] = _size
_PER_ITEM[0xDC] = _PER_ITEM[0xDD] = 1
_PER_ITEM[0xDE] = _PER_ITEM[0xDF] = 2
for _head, _size in {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}.items():
    _CONTENT[_head] = _size
_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_NOT_HERE = frozenset({0xC1, 0xC7, 0xC8, 0xC9})


def uniform_bounds(data: memoryview, count: int | None) -> Index | None:
    """Bounds of all events, (n + 1,), if they are of one size and structure; None if not, or too few or long.

    count: events that begin at the start of `data`; None: they fill it.
    """
    mask = structure(data)
    if mask is None:
        return None
    size = len(mask)
    events = len(data) // size if count is None else count
    if events < _FEWEST or events * size > len(data) or (count is None and events * size < len(data)):
        return None
    first = np.frombuffer(data, np.uint8, size)
    bits = np.frombuffer(mask, np.uint8)
    rows = np.frombuffer(data, np.uint8, events * size).reshape(events, size)
    if not _alike(rows[:_FEWEST], first, bits):
        return None
    wide = max(1, min(_BLOCK // size, events))
    whole = events // wide * wide
    blocks = rows[:whole].reshape(whole // wide, wide * size)
    if not _alike(blocks, np.tile(first, wide), np.tile(bits, wide)) or not _alike(rows[whole:], first, bits):
        return None
    return np.arange(0, events * size + 1, size, dtype=np.int64)


def _alike(rows: NDArray[np.uint8], first: NDArray[np.uint8], bits: NDArray[np.uint8]) -> bool:
    difference = rows ^ first
    difference &= bits
    return not difference.any()


def structure(data: memoryview) -> bytes | None:
    """For each byte of the first object the bits that its structure depends on; None if it is long or unusual."""
    mask = bytearray()
    left = 1
    for _ in range(_TOKENS):
        at = len(mask)
        if not left:
            return bytes(mask)
        if at >= len(data) or at > _LONGEST:
            return None
        head = data[at]
        mask.append(_BITS[head])
        left -= 1
        if head in _NOT_HERE:
            return None
        if head in _EXT:
            mask += b"\xff" + bytes(_EXT[head])
            continue
        length = _LENGTH[head]
        if length:
            counted = int.from_bytes(data[at + 1 : at + 1 + length], "big")
            mask += b"\xff" * length
            left += counted * _PER_ITEM[head]
            if not _PER_ITEM[head]:
                if counted > _LONGEST:
                    return None
                mask += bytes(counted)
        else:
            left += _ITEMS[head]
            mask += bytes(_CONTENT[head])
    return None
