"""Event streams whose events are all built alike, as a sensor's are: their bounds follow from the first one.

How msgpack is cut depends only on its heads and lengths. If these are the same in each piece of the first event's
size, each piece is one event; that is compared in a few passes over the bytes, several times faster than a walk.
"""

from __future__ import annotations

import numpy as np

_LONGEST = 1024
_TOKENS = 128
_FEWEST = 16
_BLOCK = 1 << 13
_SLAB = 128

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


def uniform_size(data: memoryview, count: int | None) -> tuple[int, int]:
    """Size and number of the events in `data` if all are of one size and structure; (0, 0) if not, or few or long.

    count: events that begin at the start of `data`; None: they fill it.
    """
    mask = structure(data)
    if mask is None:
        return 0, 0
    size = len(mask)
    events = len(data) // size if count is None else count
    if events < _FEWEST or events * size > len(data) or (count is None and events * size < len(data)):
        return 0, 0
    first, bits = data[:size].tobytes(), mask
    if not _alike(data[size : _FEWEST * size], first, bits):
        return 0, 0
    wide = _BLOCK // size  # a row of several events keeps NumPy's inner loop long
    first, bits = first * wide, bits * wide
    for start in range(0, events * size, _SLAB * len(first)):
        if not _alike(data[start : min(start + _SLAB * len(first), events * size)], first, bits):
            return 0, 0
    return size, events


def _alike(data: memoryview, first: bytes, bits: bytes) -> bool:
    """Whether each `len(first)` bytes of the data, and the rest behind them, agree with `first` in these bits."""
    size = len(first)
    whole = len(data) // size * size
    for part in (data[:whole], data[whole:]):
        width = min(size, len(part))
        if width:
            rows = np.frombuffer(part, np.uint8).reshape(-1, width)
            difference = rows ^ np.frombuffer(first, np.uint8, width)
            difference &= np.frombuffer(bits, np.uint8, width)
            if difference.max():
                return False
    return True


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
