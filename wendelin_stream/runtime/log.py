"""The store as coroutines see it: append and await, follow, hear of new streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.errors import Corrupt, Locked, Retry, WendelinStreamError
from wendelin_stream.store import (
    Chunk,
    FileSystem,
    Store,
    StoreConfig,
    StreamReader,
    StreamWriter,
    Ticket,
    stream_names,
)

logger = logging.getLogger(__name__)


class Log:
    """One store, opened for writing by this process. Made, used and closed on one event loop."""

    def __init__(self, path: Path, config: StoreConfig, fs: FileSystem | None = None) -> None:
        self.path = path
        self._store = Store(path, config, notify=asyncio.get_running_loop().call_soon_threadsafe, fs=fs)
        self._opening: dict[str, asyncio.Lock] = {}
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._watchers: set[Callable[[str], None]] = set()
        self._names: set[str] = set()
        self.writers: dict[str, StreamWriter] = {}
        self.broken: dict[str, str] = {}

    async def recover(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open every stream that is there. A damaged one is reported and left alone, the others go on."""
        names = await asyncio.to_thread(stream_names, self.path)
        pool = ThreadPoolExecutor(8, thread_name_prefix="recover")
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in names:
                    task = tasks.create_task(self._recover(name, pool), name=f"recover {name}")
                    task.add_done_callback(lambda _: progress(len(self.writers) + len(self.broken), len(names)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who stops meanwhile does not wait for thousands
        self._names.update(names)

    async def _recover(self, name: str, pool: ThreadPoolExecutor) -> None:
        try:
            self.writers[name] = await asyncio.get_running_loop().run_in_executor(pool, self._store.writer, name)
        except (Locked, Retry) as error:
            logger.warning("stream %s cannot be written for now: %s", name, error)
        except WendelinStreamError as error:
            self.broken[name] = str(error)
            logger.error("stream %s is left out: %s", name, error)  # noqa: TRY400 - the text says all

    async def writer(
        self, name: str, kind: Kind, signal: Signal | None = None, attrs: Mapping[str, Any] | None = None
    ) -> StreamWriter:
        """The stream, opened or created.

        Raises ConfigError if it exists as something else, Corrupt, Locked, or Retry (no space to create it).
        """
        async with self._opening.setdefault(name, asyncio.Lock()):
            if name in self.broken:
                raise Corrupt(f"it was found damaged at start ({self.broken[name]})", stream=name)
            writer = await asyncio.to_thread(self._store.writer, name, kind, signal, attrs)
            self.writers[name] = writer
        self._announce(name)
        return writer

    async def reader(self, name: str) -> StreamReader:
        """A reader over a stream of this store; ConfigError if there is none."""
        return await asyncio.to_thread(StreamReader.open, self.path, name)

    def append(self, writer: StreamWriter, chunk: Chunk) -> asyncio.Future[Ticket]:
        """Durable when it resolves. Raises Retry (nothing was stored) or Corrupt (the stream stopped)."""
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()

        def done(ticket: Ticket) -> None:
            if not future.done():
                if ticket.error is None:
                    future.set_result(ticket)
                else:
                    future.set_exception(ticket.error)

        self.submit(writer, chunk, done)
        return future

    def submit(self, writer: StreamWriter, chunk: Chunk, done: Callable[[Ticket], None]) -> Ticket:
        """Like `append` with a callback on the loop, once per chunk and never before this returns.

        Raises BadData for a chunk that cannot be stored in that stream; then there is no callback.
        """

        def settle(ticket: Ticket) -> None:
            for event in self._followers.get(writer.name, ()):
                event.set()
            done(ticket)

        return writer.append(chunk, settle)

    def follow(self, name: str) -> asyncio.Event:
        """An event that is set at each commit to the stream; give it back with `unfollow`."""
        event = asyncio.Event()
        self._followers.setdefault(name, set()).add(event)
        return event

    def unfollow(self, name: str, event: asyncio.Event) -> None:
        """Forget an event of `follow`."""
        followers = self._followers.get(name, set())
        followers.discard(event)
        if not followers:
            self._followers.pop(name, None)

    def watch(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back with the name of every stream, those that are there and those to come. Returns the way to stop."""
        self._watchers.add(callback)
        for name in sorted(self._names):
            callback(name)
        return lambda: self._watchers.discard(callback)

    async def rescan(self) -> None:
        """Find streams that another process has made."""
        self._announce(*await asyncio.to_thread(stream_names, self.path))

    def _announce(self, *names: str) -> None:
        for name in names:
            if name not in self._names:
                self._names.add(name)
                for callback in tuple(self._watchers):
                    callback(name)

    async def settled(self) -> None:
        """Return once the writer and the sync thread have both come round to it.

        So they live, and everything that was appended before is decided and told.
        """
        answered = asyncio.Event()
        self._store.ping(answered.set)
        await answered.wait()

    def names(self) -> Iterable[str]:
        """Streams known so far."""
        return sorted(self._names)

    async def close(self) -> None:
        """Write, sync and publish all that is queued; release the locks."""
        await asyncio.to_thread(self._store.close)
