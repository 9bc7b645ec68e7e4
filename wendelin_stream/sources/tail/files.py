"""One file that is followed: where we are in it, and how its next piece is read. No clock, no other file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Final

from wendelin_stream.sources.tail.identity import WINDOW, Mark, look, producer, still_the_same
from wendelin_stream.sources.tail.options import TailOptions
from wendelin_stream.sources.tail.positions import Entry

logger = logging.getLogger(__name__)

HEAD: Final = 64 * 1024
_HEADER: Final = 4096
"""In binary files what is before it may change later: recorders go back to write lengths into the header."""
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Replaced(Exception):
    """Another file is at this path now."""


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """A reading of a file's contents from some offset on: within it offsets only grow."""

    key: int
    generation: int
    attempt: int


@dataclass(slots=True, eq=False)
class TailedFile:
    """A file that is followed.

    offset: behind the last piece that was handed on.  committed: durable up to here.  size: as last seen.
    changed: when it last grew or got a commit.  paused: not before that.  Both of the tailer's clock.
    stuck: the size at which nothing could be read on.  moved: no pattern finds it under its old name any more.
    final: nothing more will come, so that a last line without an end is one.
    """

    key: int
    path: str
    tag: str
    generation: int
    offset: int
    time: int
    marks: tuple[Mark, ...]
    committed: int
    size: int = 0
    attempt: int = 0
    changed: float = 0.0
    paused: float = float("-inf")
    stuck: int = -1
    moved: bool = False
    final: bool = False
    stopped: bool = False
    complaint: str = ""
    descriptor: int | None = None
    head: bytes = b""

    @classmethod
    def resume(cls, key: int, entry: Entry, offset: int) -> TailedFile:
        """Go on at `offset`, which is durable."""
        return cls(key, entry.path, entry.tag, entry.generation, offset, entry.time, entry.marks, offset)

    @property
    def origin(self) -> FileOrigin:
        """Changes whenever offsets fall."""
        return FileOrigin(self.key, self.generation, self.attempt)

    @property
    def producer(self) -> int:
        """The contents' name in the store."""
        return producer(self.key, self.generation)

    @property
    def has_news(self) -> bool:
        """Whether another look into the file may bring something."""
        return not self.stopped and self.size not in (self.offset, self.stuck)

    def entry(self) -> Entry:
        """What to remember of it."""
        return Entry(self.path, self.tag, self.generation, self.committed, self.time, self.marks)

    def begin_anew(self, time: int) -> None:
        """The contents are others than before: a new origin and producer, from the beginning."""
        self.generation, self.attempt = self.generation + 1, 0
        self.offset = self.committed = 0
        self.time, self.marks, self.head, self.stuck = time, (), b"", -1

    def rewind(self) -> None:
        """Back to what is durable, as a new origin."""
        self.attempt += 1
        self.offset, self.stuck = self.committed, -1

    def open(self) -> int:
        """Its descriptor. Raises OSError, Replaced."""
        if self.descriptor is None:
            descriptor = os.open(self.path, _FLAGS)
            if look(descriptor).key != self.key:
                os.close(descriptor)
                raise Replaced(self.path)
            self.descriptor = descriptor
        return self.descriptor

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def next_piece(self, limit: int, options: TailOptions) -> bytes:
        """The bytes from `offset` on, up to the file position `limit`, one block at most; b"" if none can be given yet.

        The file must be open. One that was truncated or written over begins anew.
        """
        assert self.descriptor is not None
        now = look(self.descriptor)
        if not still_the_same(self.descriptor, now.size, self.offset, self.marks):
            logger.warning("%s was truncated or written over: it is read again from its beginning", self.path)
            self.begin_anew(now.changed)
        limit = min(limit, now.size)
        if options.mode == "lines":
            piece = self._lines(limit, options)
        else:
            piece = os.pread(self.descriptor, min(options.block, max(limit - self.offset, 0)), self.offset)
        if piece:
            self.offset += len(piece)
            self._mark(_HEADER if options.mode == "bytes" else 0)
        elif limit == now.size:
            self.stuck = now.size
        return piece

    def _lines(self, limit: int, options: TailOptions) -> bytes:
        """Whole lines; a line that does not fit into `max_line` is cut there."""
        assert self.descriptor is not None
        room = min(options.block, options.max_line)
        while True:
            text = os.pread(self.descriptor, min(room, max(limit - self.offset, 0)), self.offset)
            end = text.rfind(b"\n") + 1
            if end or (self.final and self.offset + len(text) == limit):
                return text[: end or len(text)]
            if len(text) < room:
                return b""
            if room == options.max_line:
                logger.warning("%s: a line of more than %d bytes is cut into pieces", self.path, room)
                return text
            room = min(2 * room, options.max_line)

    def _mark(self, first: int) -> None:
        """Keep one mark near the beginning for good and one at `offset`."""
        assert self.descriptor is not None
        early, late = first + WINDOW, self.offset
        if late < early:
            return
        kept = self.marks[:1] or (Mark.at(self.descriptor, early),)
        self.marks = kept if late == early else (*kept, Mark.at(self.descriptor, late))

    def read_head(self) -> bytes:
        """Its first bytes as they are now: after a piece was read, so that a header is not older than the piece."""
        assert self.descriptor is not None
        head = os.pread(self.descriptor, HEAD, 0)
        if head != self.head:
            self.head = head
        return self.head
