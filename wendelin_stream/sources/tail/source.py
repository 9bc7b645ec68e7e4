"""The asynchronous shell of `tail`: one thread hop per piece, sleep while there is none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import ClassVar

from wendelin_stream.plugin import Origin, Received, SourceContext
from wendelin_stream.sources.tail.options import TailOptions
from wendelin_stream.sources.tail.tailer import Tailer


class TailSource:
    """Follows files that grow, also those that a recorder is still writing.

    Every piece says where in its file it begins, and `producer` names the file's contents, so that the store keeps the
    position with the rows and nothing is lost or repeated by a restart. A file that is not stored for now is read
    again from its last commit as a new origin.
    """

    Config: ClassVar[type[TailOptions]] = TailOptions

    def __init__(self, config: TailOptions, context: SourceContext) -> None:
        self._poll = float(config.poll)
        self._tailer = Tailer(config, context)
        self._alone = threading.Lock()
        self._news = asyncio.Event()
        self._refused: set[Origin] = set()
        self._quiet = False
        self._closed = False

    async def open(self) -> None:
        """Read the position file and see which files there are. Raises OSError if `state_dir` cannot be used."""
        await asyncio.to_thread(self._tailer.start)

    async def read(self) -> AsyncIterator[Received]:
        """Pieces of at most `block` bytes (`max_line` for lines), the files of one tag in order."""
        while not self._quiet:
            self._news.clear()
            received = await asyncio.to_thread(self._step)
            if received is None:
                if self._tailer.waiting and self._tailer.has_answers:
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._news.wait()
            elif received.origin not in self._refused and not self._quiet:
                yield received
            self._refused.clear()

    def _step(self) -> Received | None:
        with self._alone:
            return None if self._closed else self._tailer.step()

    async def commit(self, origin: Origin, seq: int) -> None:
        """The file is durable up to the offset `seq`."""
        self._tailer.commit(origin, seq)
        if self._tailer.waiting:
            self._news.set()

    async def refuse(self, origin: Origin, seq: int, why: Exception) -> None:
        """Retry: the file is read again from its last commit, after the delay. Otherwise it is left alone."""
        self._refused.add(origin)
        self._tailer.refuse(origin, seq, why)

    async def quiesce(self) -> None:
        """Read no more."""
        self._quiet = True
        self._news.set()

    async def aclose(self) -> None:
        """Write down what is durable and close all files."""
        self._quiet = True
        self._news.set()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._alone:
            if not self._closed:
                self._closed = True
                self._tailer.close()
