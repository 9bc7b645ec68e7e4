"""gzip with any number of members, within a bound (F13, F14, F53)."""

from __future__ import annotations

import zlib

from wendelin_stream.errors import BadData

_GZIP = 16 + zlib.MAX_WBITS
_INPUT, _OUTPUT = 1 << 16, 1 << 20


class TooLarge(BadData):
    """The content goes past the limit."""


def gunzip(data: memoryview, limit: int) -> bytearray:
    """The content of all members, one behind the other.

    Raises TooLarge past `limit` bytes; BadData for a cut or corrupt member and for bytes behind the last one. Takes
    no more memory than the content, a step of 1 MiB and zlib's window.
    """
    content = bytearray()
    while len(data):
        data = data[_member(data, content, limit) :]
    return content


def _member(data: memoryview, content: bytearray, limit: int) -> int:
    """Append the first member's content; returns the member's size."""
    inflate = zlib.decompressobj(_GZIP)
    at = 0
    try:
        while True:
            piece: bytes | memoryview = inflate.unconsumed_tail
            if not len(piece):
                piece = data[at : at + _INPUT]
                at += len(piece)
            found = inflate.decompress(piece, min(_OUTPUT, limit + 1 - len(content)))
            content += found
            if len(content) > limit:
                raise TooLarge(f"gzip content of more than {limit} bytes")
            if inflate.eof:
                return at - len(inflate.unused_data)
            if not found and not len(piece):
                raise BadData("a gzip member is cut")
    except zlib.error as error:
        raise BadData(f"no valid gzip: {error}") from None
