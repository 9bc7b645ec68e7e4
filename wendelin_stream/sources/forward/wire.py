"""What the forward protocol looks like on the wire: msgpack heads, the option map, acks, chunk ids.

Forward Protocol Specification v1.5; msgpack specification (heads and widths).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any

import crc32c
import msgpack

from wendelin_stream.errors import BadData

DEPTH = 1024
"""Levels of nesting that an event may have, `[time, record]` itself counted; its frame takes up to two of them."""

NIL = 0xC0
_MOST_OPTIONS = 1000
_ACK = b"\x81\xa3ack"

_U8, _U16, _U32 = Struct(">B"), Struct(">H"), Struct(">I")
_TEXT_HEADS = {0xC4: _U8, 0xC5: _U16, 0xC6: _U32, 0xD9: _U8, 0xDA: _U16, 0xDB: _U32}
_NAMES = {0xC0: "nil", 0xC2: "a boolean", 0xC3: "a boolean", 0xCA: "a float", 0xCB: "a float"}


def unpacker() -> Any:
    """A walker without a limit of its own: callers bound what they feed it."""
    return msgpack.Unpacker(max_buffer_size=0, read_size=1 << 17)


def array_head(data: memoryview, at: int) -> tuple[int, int]:
    """Number of elements and where the first one is; (-1, at) where no array begins.

    Raises IndexError or struct.error where the data ends too early.
    """
    return _container_head(data, at, 0x90, 0xDC)


def map_head(data: memoryview, at: int) -> tuple[int, int]:
    """Number of pairs and where the first key is; (-1, at) where no map begins. Raises like `array_head`."""
    return _container_head(data, at, 0x80, 0xDE)


def _container_head(data: memoryview, at: int, small: int, wide: int) -> tuple[int, int]:
    """`small`: the byte of an empty one with its count inside; `wide`: the byte before a 16-bit count, then 32-bit."""
    head = data[at]
    if small <= head <= small + 0x0F:
        return head & 0x0F, at + 1
    if head == wide:
        return _U16.unpack_from(data, at + 1)[0], at + 3
    if head == wide + 1:
        return _U32.unpack_from(data, at + 1)[0], at + 5
    return -1, at


def text_span(data: memoryview, at: int) -> tuple[int, int]:
    """Where the content of a str or bin of any width starts and stops; (-1, at) for other types.

    The stop may lie behind the end of `data`. Raises like `array_head`.
    """
    head = data[at]
    if 0xA0 <= head <= 0xBF:
        return at + 1, at + 1 + (head & 0x1F)
    width = _TEXT_HEADS.get(head)
    if width is None:
        return -1, at
    start = at + 1 + width.size
    return start, start + int(width.unpack_from(data, at + 1)[0])


def type_name(head: int) -> str:
    """What begins with that byte, for people."""
    if head < 0x80 or head >= 0xE0 or 0xCC <= head <= 0xD3:
        return "an integer"
    if head < 0x90 or head in {0xDE, 0xDF}:
        return "a map"
    if head < 0xA0 or head in {0xDC, 0xDD}:
        return "an array"
    if head < 0xC0 or head in {0xD9, 0xDA, 0xDB}:
        return "text"
    if head in {0xC4, 0xC5, 0xC6}:
        return "binary"
    return _NAMES.get(head, "an ext value")


@dataclass(frozen=True, slots=True)
class Option:
    """What of a frame's option map concerns us; `chunk` and `metadata` are the objects' own bytes, b"" if absent."""

    chunk: bytes = b""
    compressed: str = ""
    metadata: bytes = b""
    signal: int = 0


_NO_OPTION = Option()


def read_option(data: memoryview) -> Option:
    """The option at the start of `data`, which a walk has found well formed; nothing or nil: no option (F12).

    Raises BadData if it is not a map (section 3 of the table of malformed input).
    """
    if not len(data) or data[0] == NIL:
        return _NO_OPTION
    pairs, at = map_head(data, 0)
    if pairs < 0:
        raise BadData(f"the option is {type_name(data[0])}, not a map")
    if not pairs:
        return _NO_OPTION
    if pairs > _MOST_OPTIONS:
        raise BadData(f"an option map of {pairs} entries")
    walk = unpacker()
    walk.feed(data[at:])
    found: dict[bytes, bytes] = {}
    for _ in range(pairs):
        key = at + walk.tell()
        walk.skip()
        value = at + walk.tell()
        walk.skip()
        start, stop = text_span(data, key)
        if start > 0 and stop - start <= 16:
            found[bytes(data[start:stop])] = bytes(data[value : at + walk.tell()])
    return Option(
        chunk=b"" if found.get(b"chunk", b"\xc0") == b"\xc0" else found[b"chunk"],
        compressed=_text(found.get(b"compressed", b"")),
        metadata=b"" if found.get(b"metadata", b"\xc0") == b"\xc0" else found[b"metadata"],
        signal=_integer(found.get(b"fluent_signal", b"")),
    )


def _text(raw: bytes) -> str:
    if not raw or raw[0] == NIL:
        return ""
    start, stop = text_span(memoryview(raw), 0)
    if start < 0:
        raise BadData(f"compressed is {type_name(raw[0])}, not a name")
    return raw[start:stop].decode("utf-8", "replace")


def _integer(raw: bytes) -> int:
    if not raw or type_name(raw[0]) != "an integer":
        return 0
    return int(msgpack.unpackb(raw))


def chunk_id(tag: bytes, chunk: bytes, length: int, crc: int) -> bytes:
    """16 bytes that name a frame when it is sent again (F38).

    blake2b-128 of the tag, the chunk object, the payload's size and its crc32c.
    """
    digest = blake2b(b"%d %d %d %d " % (len(tag), len(chunk), length, crc), digest_size=16)
    digest.update(tag)
    digest.update(chunk)
    return digest.digest()


def crc_of(data: bytes | bytearray | memoryview) -> int:
    """crc32c of the data."""
    return int(crc32c.crc32c(data))


def binary_ack(chunk: bytes) -> bytes:
    """``{"ack": chunk}``, the chunk object byte for byte as it came (F31)."""
    return _ACK + chunk


def text_ack(chunk: bytes) -> bytes:
    """The ack of a connection that speaks JSON (F3): no newline behind it."""
    value = msgpack.unpackb(chunk, strict_map_key=False, unicode_errors="surrogateescape")
    return json.dumps({"ack": value}, separators=(",", ":")).encode("utf-8", "surrogateescape")
