"""All files of a `tail` source: what there is, what comes next, what is durable. Blocking; knows no event loop.

Where a file is taken up again: at the position that the store holds with its rows; without one (nothing of it made
rows yet) at the position file's; without one, at its beginning, or at its end if it was there before the very first
start. Files of one tag follow each other in order: behind one that waits for the disk, the others of its tag wait.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from wendelin_stream.errors import BadData, Retry
from wendelin_stream.plugin import Blob, Origin, Received, SourceContext
from wendelin_stream.sources.tail.files import FileOrigin, Replaced, TailedFile
from wendelin_stream.sources.tail.finder import Finder
from wendelin_stream.sources.tail.identity import Look, look, producer
from wendelin_stream.sources.tail.options import TailOptions
from wendelin_stream.sources.tail.positions import MOST_ABSENT, Entry, load, save

logger = logging.getLogger(__name__)

SAVE_EVERY: Final = 1.0
"""Seconds between two writes of the position file."""
_GIVE_UP: Final = 10
"""So many times `rotate_wait` a finished file is held for commits that may not come (it ends within a row)."""


class Tailer:
    """The files that the patterns find, read in turn.

    One thread at a time calls `start`, `step`, `close`; `commit` and `refuse` may be called from another meanwhile.
    clock: seconds, monotonic.
    """

    def __init__(
        self, options: TailOptions, context: SourceContext, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options, self._context, self._clock = options, context, clock
        self._answers: deque[tuple[Origin, int, Exception | None]] = deque()
        self._absent: dict[int, Entry] = {}
        self._files: dict[int, TailedFile] = {}
        self._open: dict[int, TailedFile] = {}
        self._turn: list[tuple[TailedFile, int]] = []
        self._finder = Finder([str(pattern) for pattern in options.path])
        self._from_head = True
        self._next_scan = self._last_save = float("-inf")
        self._changed = self._urgent = self._unsaved = False
        self.waiting = False

    # --- life

    def start(self) -> None:
        """Read the position file and look for files. Raises OSError if `state_dir` cannot be used."""
        self._context.state_dir.mkdir(parents=True, exist_ok=True)
        try:
            known = load(self._context.state_dir)
        except BadData as damage:
            logger.warning("%s: files go on where the store ends", damage)
            known = None
        self._absent = known or {}
        self._from_head = known is not None or self._options.read_from_head
        self.scan()
        self._from_head = self._urgent = True
        self._save(self._clock())

    def close(self) -> None:
        """Write down what is durable and close all files."""
        self._settle(self._clock())
        self._urgent = self._changed
        self._save(self._clock())
        for file in tuple(self._open.values()):
            self._close(file)
        self._files.clear()
        self._turn.clear()

    # --- answers, from any thread

    def commit(self, origin: Origin, seq: int) -> None:
        """Everything of `origin` up to the offset `seq` is durable."""
        self._answers.append((origin, seq, None))

    def refuse(self, origin: Origin, seq: int, why: Exception) -> None:
        """The piece that ends at `seq` is not stored, nor will be what was read behind it."""
        self._answers.append((origin, seq, why))

    @property
    def has_answers(self) -> bool:
        """Whether the next step knows more of what is durable than the last one."""
        return bool(self._answers)

    def _settle(self, now: float) -> None:
        while self._answers:
            origin, seq, why = self._answers.popleft()
            file = self._files.get(origin.key) if isinstance(origin, FileOrigin) else None
            if file is None or file.origin != origin:
                continue  # the file is gone or was begun anew
            file.changed = now
            if why is None:
                file.committed = max(file.committed, min(seq, file.offset))
                self._changed = True
            elif isinstance(why, Retry):
                stored = self._context.position(file.tag, file.producer) or 0
                file.committed = max(file.committed, min(stored, file.offset))
                file.rewind()
                file.paused = now + why.delay
            else:
                logger.error("%s is left alone from byte %d on: %s", file.path, file.committed, why)
                file.rewind()
                file.stopped = True

    # --- reading

    def step(self) -> Received | None:
        """The next piece, None if there is none now: then either the files have no news or, if `waiting`, the disk is
        behind and a commit will change that. A due scan and a due write of the position file are done on the way.
        """
        now = self._clock()
        self._settle(now)
        if now >= self._next_scan:
            self.scan()
        received = self._next(now)
        self._save(now)
        return received

    def _next(self, now: float) -> Received | None:
        held: set[str] = set()
        self.waiting = False
        for file, limit in tuple(self._turn):
            if file.tag in held:
                continue
            if self._behind(file) or now < file.paused:
                self.waiting = self.waiting or self._behind(file)
                held.add(file.tag)
                continue
            received = self._read(file, limit)
            if received is not None:
                return received
            self._turn.remove((file, limit))
        return None

    def _behind(self, file: TailedFile) -> bool:
        return file.offset - file.committed > self._options.buffer - self._options.block

    def _read(self, file: TailedFile, limit: int) -> Received | None:
        generation = file.generation
        try:
            if file.stopped or not self._opened(file):
                return None
            piece = file.next_piece(limit, self._options)
            head = file.read_head() if piece else b""
        except Replaced:
            return None  # the next scan sees both
        except OSError as error:
            self._complain(file, f"cannot be read: {error.strerror}")
            return None
        file.complaint = ""
        if file.generation != generation:
            self._changed = self._urgent = True
        if not piece:
            return None
        return Received(
            origin=file.origin,
            seq=file.offset,
            tag=file.tag,
            body=Blob(
                piece,
                time=file.time if self._options.mode == "bytes" else None,
                offset=file.offset - len(piece),
                head=head,
            ),
            t_arrival=time.time_ns(),
            producer=file.producer,
            peer=file.path,
        )

    def _opened(self, file: TailedFile) -> bool:
        """Open it if it is not; in place of the longest quiet one when there are too many."""
        if file.descriptor is None:
            if len(self._open) >= self._options.max_open:
                idle = [other for other in self._open.values() if not (other.moved or other.has_news)]
                if not idle:
                    return False
                self._close(min(idle, key=lambda other: other.changed))
            file.open()
            self._open[file.key] = file
        return True

    def _close(self, file: TailedFile) -> None:
        file.close()
        self._open.pop(file.key, None)

    @staticmethod
    def _complain(file: TailedFile, text: str) -> None:
        if text != file.complaint:
            logger.warning("%s %s; it is tried again", file.path, text)
            file.complaint = text

    # --- looking for files

    def scan(self) -> None:
        """See which files there are and which have news. At most a tenth of the time goes into it."""
        began = self._clock()
        found = self._finder.find()
        for key, (path, seen) in found.items():
            file = self._files.get(key)
            if file is None:
                file = self._files[key] = self._adopt(key, path, seen)
            self._see(file, seen.size, began)
            file.moved = file.path != path or (file.moved and file.has_news)
            file.path = path
        for file in [file for key, file in self._files.items() if key not in found]:
            self._miss(file, began)
        self._queue(found)
        self._next_scan = began + max(float(self._options.poll), 10 * (self._clock() - began))

    def _adopt(self, key: int, path: str, seen: Look) -> TailedFile:
        """Take up a file that was not followed until now."""
        self._changed = self._urgent = True
        entry = self._absent.pop(key, None)
        if entry is None:
            return self._meet(key, path, seen)
        stored = self._context.position(entry.tag, producer(key, entry.generation))
        return TailedFile.resume(key, replace(entry, path=path), entry.offset if stored is None else stored)

    def _meet(self, key: int, path: str, seen: Look) -> TailedFile:
        """A file that the position file does not know; the store may, up to some generation, if that file is lost."""
        entry = Entry(path, self._options.tag_of(path), 0, 0 if self._from_head else seen.size, seen.start)
        offset, generation = entry.offset, 0
        while (stored := self._context.position(entry.tag, producer(key, generation))) is not None:
            entry, offset = replace(entry, generation=generation), stored
            generation += 1
        if entry.generation:
            entry = replace(entry, time=seen.changed)
        return TailedFile.resume(key, entry, offset)

    @staticmethod
    def _see(file: TailedFile, size: int, now: float) -> None:
        if size != file.size:
            file.size, file.changed, file.final = size, now, False

    def _miss(self, file: TailedFile, now: float) -> None:
        """A file that no pattern finds any more: renamed or deleted. It is read to its end, then let go."""
        file.moved = True
        if file.descriptor is None:
            if file.has_news:
                logger.warning("%s is gone; its bytes from %d on were not read", file.path, file.offset)
            self._let_go(file)
            return
        seen = look(file.descriptor)
        self._see(file, seen.size, now)
        quiet = now - file.changed
        if file.has_news or now < file.paused or quiet < self._options.rotate_wait:
            return
        if self._options.mode == "lines" and file.offset < file.size and not (file.final or file.stopped):
            file.final, file.stuck = True, -1
        elif file.committed == file.offset or quiet >= _GIVE_UP * self._options.rotate_wait:
            if file.committed < file.offset:
                logger.warning("%s is gone; its last %d bytes gave nothing", file.path, file.offset - file.committed)
            if seen.links == 0:
                file.begin_anew(0)  # should its number be used again
            self._let_go(file, forget=seen.links == 0 and seen.born > 0)

    def _let_go(self, file: TailedFile, *, forget: bool = False) -> None:
        self._close(file)
        del self._files[file.key]
        self._changed = True
        if not forget:
            self._absent[file.key] = file.entry()
            while len(self._absent) > MOST_ABSENT:
                del self._absent[next(iter(self._absent))]

    def _queue(self, found: dict[int, tuple[str, Look]]) -> None:
        """Who is read next: those that still have their turn, then files that moved, then the others in order.

        Each up to its present size only, so that one that grows quickly does not keep the others waiting.
        """
        order = list(found)
        if self._options.order == "mtime":
            order.sort(key=lambda key: found[key][1].changed)
        rank = {key: place for place, key in enumerate(order)}
        kept = [(file, limit) for file, limit in self._turn if self._files.get(file.key) is file and file.has_news]
        queued = {file.key for file, _ in kept}
        news = [file for file in self._files.values() if file.has_news and file.key not in queued]
        news.sort(key=lambda file: (not file.moved, rank.get(file.key, 0)))
        self._turn = kept + [(file, file.size) for file in news]

    # --- the position file

    def _save(self, now: float) -> None:
        if not self._urgent and not (self._changed and now >= self._last_save + SAVE_EVERY):
            return
        entries = self._absent | {key: file.entry() for key, file in self._files.items()}
        try:
            save(self._context.state_dir, entries)
        except OSError as error:
            if not self._unsaved:
                logger.warning("the position file in %s cannot be written: %s", self._context.state_dir, error.strerror)
            self._unsaved = self._changed = True
        else:
            self._unsaved = self._changed = False
        self._urgent, self._last_save = False, now
