"""The writing side of a store: one per process, many streams."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.errors import ConfigError, Corrupt, Retry
from wendelin_stream.store.commit import Committer, Notify
from wendelin_stream.store.config import StoreConfig
from wendelin_stream.store.fs import FileSystem, make_folder, remove_tree
from wendelin_stream.store.log import check_same, create_stream, new_info, open_log, write_attrs
from wendelin_stream.store.names import stream_folder
from wendelin_stream.store.writer import StreamWriter

_DEFAULT = StoreConfig()
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class Store:
    """Opens streams for writing; owns the threads that write and sync. Use as a context manager or `close` it.

    notify: how callers hear of decided appends, one call for each group: ``loop.call_soon_threadsafe``; None: in the
    sync thread. Raises ConfigError if the folder cannot be used.
    """

    def __init__(
        self,
        path: Path,
        config: StoreConfig = _DEFAULT,
        notify: Notify | None = None,
        *,
        fs: FileSystem | None = None,
    ) -> None:
        self.path, self.config = path, config
        self._fs = fs or FileSystem()
        self._lock = threading.Lock()  # guards the next two
        self._closed = False
        self._opening: dict[str, threading.Lock] = {}  # held while that stream is opened; it guards its entry below
        self._writers: dict[str, StreamWriter] = {}
        self._named: set[str] = set()  # streams whose names are durable
        with _foreign_errors(path):
            self._prepare()
        self._committer = Committer(self._fs, path, config, notify)

    def writer(
        self,
        name: str,
        kind: Kind | None = None,
        signal: Signal | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> StreamWriter:
        """Open a stream, or create it (then `kind` is needed). The same object while it is open.

        A stream that has stopped is opened anew. Blocks: call it in a thread. Raises Locked if another process writes
        it, ConfigError if it holds something else or the disk forbids it, Corrupt if it is damaged below the durable
        watermark, BadData if `name` is no stream name, Retry if the disk fails for the moment.
        """
        folder = stream_folder(self.path, name)
        with self._alone(name), _foreign_errors(folder):
            writer = self._writers.get(name)
            if writer is not None and writer.error is not None:
                self._committer.release(self._writers.pop(name))
                writer = None
            if writer is None:
                writer = self._open(folder, kind, signal, attrs)
            else:
                check_same(writer.log, kind, signal)
            if attrs is not None and dict(attrs) != dict(writer.attrs):
                write_attrs(writer.log, attrs)
            return writer

    def ping(self, done: Callable[[], None]) -> None:
        """Call `done`, through `notify`, once the writing and the syncing thread have come round to it: they live."""
        self._committer.ping(done)

    def close(self) -> None:
        """Write, sync and publish everything that is queued, end the threads, give the locks back. Blocks."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for opening in self._opening.values():
                with opening:  # what has begun may end
                    pass
            self._committer.stop()
            for writer in self._writers.values():
                writer.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _prepare(self) -> None:
        make_folder(self._fs, self.path.absolute() / "streams")
        with self._creating():
            for name in self._fs.names(self.path / "streams"):
                if name.startswith(".new-"):
                    remove_tree(self._fs, self.path / "streams" / name)
                else:
                    self._named.add(name)
            self._fs.sync_folder(self.path / "streams")  # who made a stream may have ended before doing so

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One thread at a time opens a stream; a long recovery does not hold up the other streams."""
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            if self._closed:
                raise Retry(f"stream {name}: the store is closed")
            yield

    @contextmanager
    def _creating(self) -> Iterator[None]:
        """Only one process at a time makes streams, so leftovers can be told from work in progress."""
        fd = self._fs.open(self.path / "lock", create=True)
        try:
            self._fs.lock(fd, wait=True)
            yield
        finally:
            self._fs.close(fd)

    def _open(
        self, folder: Path, kind: Kind | None, signal: Signal | None, attrs: Mapping[str, Any] | None
    ) -> StreamWriter:
        with self._creating():
            if not self._fs.exists(folder / "stream.json"):
                if kind is None:
                    raise ConfigError(f"there is no stream {folder.name}", hint="say what kind it is, to create it")
                if self._fs.exists(folder) and self._fs.names(folder):
                    raise Corrupt(f"{folder} is no stream: it has no stream.json; move it away", stream=folder.name)
                self._named.discard(folder.name)
                create_stream(self._fs, folder, new_info(kind, signal, self.config.segment), attrs or {})
        if folder.name not in self._named:
            self._fs.sync_folder(folder.parent)
            self._named.add(folder.name)
        log = open_log(self._fs, folder, self.config.dedupe)
        try:
            check_same(log, kind, signal)
        except ConfigError:
            log.close()
            raise
        writer = StreamWriter(log, self.path, self._committer, self._committer.decided)
        self._writers[folder.name] = writer
        return writer


@contextmanager
def _foreign_errors(path: Path) -> Iterator[None]:
    """What the disk refuses for good is the user's to change; anything else may pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _DENIED:
            raise ConfigError(f"cannot write in {path}: {error.strerror}", hint="check owner and mount") from error
        raise Retry(f"cannot open {path}: {error}") from error
