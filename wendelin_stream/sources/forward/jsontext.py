"""Connections that speak JSON text instead of msgpack (F3): values one behind the other, white space or none between.

Text is for people and small scripts: values become msgpack frames and go the same way from there.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgpack

from wendelin_stream.errors import BadData
from wendelin_stream.sources.forward.frames import Block

LARGEST = 8 << 20
"""Bytes of a value: its objects take many times that while it is turned into msgpack."""
_DEEPEST = 500
_ROOM = 1 << 16
_OUTSIDE = re.compile(rb'[\[{\]}"]|[^\s\[{\]}"]+')
_IN_VALUE = re.compile(rb'[\[{\]}"]')
_IN_STRING = re.compile(rb'["\\]')


class TextReader:
    """Cuts text into values; the counterpart of `FrameReader`, with the same use."""

    def __init__(self, max_frame: int) -> None:
        self._max_frame = min(max_frame, LARGEST)
        self._room = memoryview(bytearray(_ROOM))
        self._text = bytearray()
        self._offset = 0  # of the text in the connection
        self._seen = 0
        self._depth = 0
        self._string = False

    @property
    def partial(self) -> int:
        """Bytes of a value that has begun."""
        return len(self._text) if self._depth or self._string else 0

    def get_buffer(self) -> memoryview:
        """Where the next bytes go."""
        return self._room

    def received(self, count: int) -> Block | None:
        """`count` bytes have come: the values that are whole now, if any."""
        return self.take(bytes(self._room[:count]))

    def take(self, text: bytes) -> Block | None:
        """Like `received`, for bytes that came another way."""
        self._text += text
        ends, broken = self._scan()
        whole = ends[-1] if ends else 0
        if self.partial > self._max_frame:
            broken = broken or f"a value of more than {self._max_frame} bytes"
        block = Block(memoryview(bytes(self._text[:whole])), self._offset, ends, broken) if ends or broken else None
        done = whole if self.partial else len(self._text)
        del self._text[:done]
        self._seen -= done
        self._offset += done
        return block

    def _scan(self) -> tuple[list[int], str]:
        ends: list[int] = []
        while True:
            pattern = _IN_STRING if self._string else _IN_VALUE if self._depth else _OUTSIDE
            found = pattern.search(self._text, self._seen)
            if found is None:
                self._seen = len(self._text)
                return ends, ""
            if found.group() == b"\\" and found.end() == len(self._text):
                self._seen = found.start()  # what it escapes is still to come
                return ends, ""
            self._seen = found.end()
            if self._token(found.group()):
                ends.append(self._seen)
            if not 0 <= self._depth <= _DEEPEST:
                return ends, "not JSON" if self._depth < 0 else "nested too deeply"

    def _token(self, token: bytes) -> bool:
        """Take one token in; true if a value ends with it."""
        if token == b"\\":
            self._seen += 1
        elif token == b'"':
            self._string = not self._string
            return not self._string and not self._depth
        elif token in b"[{":
            self._depth += 1
        elif token in b"]}":
            self._depth -= 1
            return not self._depth
        else:
            return True  # a bare word or number outside of any array
        return False


def to_msgpack(text: memoryview) -> bytes:
    """The msgpack form of one JSON value. Raises BadData if it is none.

    Integers beyond 64 bits become floats, as most readers of JSON take them.
    """
    try:
        value = json.loads(bytes(text).decode("utf-8", "surrogateescape"), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise BadData(f"not JSON: {error}") from None
    return pack(value)


def pack(value: Any) -> bytes:
    """msgpack with bytes that were not UTF-8 restored, or with the surrogates that the text names."""
    try:
        return bytes(msgpack.packb(value, unicode_errors="surrogateescape"))
    except UnicodeEncodeError:
        return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))


def _integer(digits: str) -> int | float:
    if len(digits) > 20:
        return float(digits)
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(digits)
