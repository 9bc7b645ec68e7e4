"""Group commit: one thread writes what is queued, another syncs it, publishes it and tells the callers.

The order is the design: write payload, write index, fdatasync both and the folders of new files, publish the stream's
state slot, acknowledge (S12 to S15). While one group is synced the next is being written.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from wendelin_stream.errors import BadData, Corrupt, Retry
from wendelin_stream.store.config import StoreConfig
from wendelin_stream.store.files import Dirty
from wendelin_stream.store.format import Tail
from wendelin_stream.store.fs import FileSystem
from wendelin_stream.store.layout import lay_out
from wendelin_stream.store.writer import StreamWriter, Ticket
from wendelin_stream.units import format_size

STATE_SYNC = 5.0  # seconds between syncs of the state files
FREE_CHECK = 1.0  # seconds between looks at the free space
POOL = 8

Notify = Callable[[Callable[[], None]], object]
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Unsynced:
    """What one stream has written since its last commit."""

    tickets: list[Ticket] = field(default_factory=list)
    records: int = 0
    last: np.void | None = None
    dirty: Dirty = field(default_factory=Dirty)
    error: OSError | None = None


class Committer:
    """The two threads of a store."""

    def __init__(self, fs: FileSystem, path: Path, config: StoreConfig, notify: Notify | None) -> None:
        self._fs, self._path, self._config, self._notify = fs, path, config, notify
        self.decided = threading.Condition()
        self._queue: SimpleQueue[Ticket | Callable[[], None]] = SimpleQueue()
        self._pool = ThreadPoolExecutor(POOL, thread_name_prefix="store-sync")
        self._writing = self._syncing = True
        self._low: Retry | None = None
        self._low_until = 0.0
        self._wake = threading.Condition()  # guards the next four
        self._unsynced: dict[StreamWriter, _Unsynced] = {}
        self._commands: list[Callable[[], None]] = []
        self._size = 0
        self._deadline = 0.0
        self._stale: dict[StreamWriter, Dirty] = {}  # published, but the state file (policy os: all) is not synced
        self._next_state_sync = 0.0
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._syncer = threading.Thread(target=self._sync_loop, name="store-commit", daemon=True)
        self._writer.start()
        self._syncer.start()

    # --- called from any thread ---

    def append(self, ticket: Ticket) -> None:
        """Queue a ticket."""
        self._queue.put(ticket)
        if not self._writing:
            self._refuse_rest()

    def finish(self, tickets: list[Ticket]) -> None:
        """Mark tickets as decided and tell their callers, with one call of `notify`."""
        with self.decided:
            for ticket in tickets:
                ticket.done = True
            self.decided.notify_all()
        self._call(partial(_tell, tickets))

    def release(self, writer: StreamWriter) -> None:
        """Close a stream's files once neither thread is at work on it. Blocks."""
        closed = threading.Event()

        def close() -> None:
            try:
                self._sync_states({writer: self._stale.pop(writer, Dirty())})
                writer.log.close()
            finally:
                closed.set()

        self._queue.put(partial(self._command, close))
        closed.wait()

    def ping(self, done: Callable[[], None]) -> None:
        """Call `done` through `notify` once both threads have come round to it."""
        self._queue.put(partial(self._command, partial(self._call, done)))

    def stop(self) -> None:
        """Write, sync, publish and tell everything that is queued, then end both threads. Blocks."""
        self._queue.put(self._stop_writing)
        self._writer.join()
        self._syncer.join()
        self._pool.shutdown()
        self._refuse_rest()

    def _call(self, what: Callable[[], None]) -> None:
        """Call it in the caller's thread, if `notify` leads there."""
        try:
            if self._notify is None:
                what()
            else:
                self._notify(what)
        except Exception as error:  # noqa: BLE001  (the event loop is closed, say: nobody listens any more)
            _log.warning("nobody was told of what the store did: %r", error)

    # --- writer thread ---

    def _write_loop(self) -> None:
        while self._writing:
            items = [self._queue.get()]
            items += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            batches: dict[StreamWriter, list[Ticket]] = {}
            commands = []
            for item in items:
                if isinstance(item, Ticket):
                    batches.setdefault(item.writer, []).append(item)
                else:
                    commands.append(item)
            for writer, tickets in batches.items():
                self._write(writer, tickets)
            for command in commands:
                command()

    def _write(self, writer: StreamWriter, tickets: list[Ticket]) -> None:
        """Write one stream's tickets, or fail them."""
        if writer.failed >= 0:
            late = [ticket for ticket in tickets if ticket.attempt <= writer.failed]
            self._fail(writer, late, writer.error or Retry(f"stream {writer.name}: an append before this one failed"))
            tickets = [ticket for ticket in tickets if ticket.attempt > writer.failed]
        if not tickets:
            return
        try:
            error = writer.error or self._disk_is_low()
            if error is None:
                self._write_out(writer, tickets)
        except OSError as failure:
            error = Retry(f"stream {writer.name}: cannot write in {self._path}: {failure}")
        except (struct.error, TypeError):
            self._write_one_by_one(writer, tickets)
            return
        except Exception as failure:  # noqa: BLE001  (a thread that dies would leave every caller waiting)
            error = _stop_by_fault(writer, failure)
        if error is not None:
            writer.failed = max(ticket.attempt for ticket in tickets)
            self._fail(writer, tickets, error)

    def _write_out(self, writer: StreamWriter, tickets: list[Ticket]) -> None:
        written = writer.log.write([ticket.chunk for ticket in tickets])
        for ticket, end in zip(tickets, written.ends, strict=True):
            ticket.end = end
        with self._wake:
            group = self._unsynced.setdefault(writer, _Unsynced())
            group.tickets += tickets
            group.records, group.last = written.tail.seq, written.last
            group.dirty.merge(written.dirty)
            first = self._size == 0
            self._size += written.size
            if first:
                patience = self._config.sync if self._config.policy == "group" else 0
                self._deadline = time.monotonic() + float(patience)
            if first or self._size >= self._config.group:
                self._wake.notify()

    def _write_one_by_one(self, writer: StreamWriter, tickets: list[Ticket]) -> None:
        """Something does not fit its field: store the chunks that fit, refuse the others."""
        for ticket in tickets:
            try:
                lay_out(Tail(), [ticket.chunk], 0)
            except (struct.error, TypeError) as failure:
                self._fail(writer, [ticket], BadData(f"stream {writer.name}: chunk cannot be stored: {failure}"))
            else:
                self._write(writer, [ticket])

    def _fail(self, writer: StreamWriter, tickets: list[Ticket], error: Exception) -> None:
        if tickets:
            self.finish(writer.settle(tickets, error))

    def _disk_is_low(self) -> Retry | None:
        now = time.monotonic()
        if self._config.keep_free and now >= self._low_until:
            self._low_until = now + FREE_CHECK
            free = self._fs.free(self._path)
            self._low = None
            if free < self._config.keep_free:
                floor = format_size(self._config.keep_free)
                what = f"{self._path} has {format_size(free)} free, less than keep_free ({floor})"
                self._low = Retry(f"{what}: free space on that disk, shorten retention or lower keep_free")
        return self._low

    def _stop_writing(self) -> None:
        self._writing = False
        self._refuse_rest()
        self._command(self._stop_syncing)

    def _stop_syncing(self) -> None:
        self._syncing = False

    def _command(self, command: Callable[[], None]) -> None:
        """Have the sync thread do something after what is written now is committed."""
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _refuse_rest(self) -> None:
        """Fail what was queued too late."""
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            if isinstance(item, Ticket):
                self._fail(item.writer, [item], Retry(f"stream {item.stream}: the store is closed"))

    # --- sync thread ---

    def _sync_loop(self) -> None:
        stopping = False
        while not stopping:
            groups, commands = self._next_group()
            if groups:
                self._commit(groups)
            for command in commands:
                _guarded(command, ())
            stopping = not self._syncing
            if self._stale and (stopping or time.monotonic() >= self._next_state_sync):
                stale, self._stale = self._stale, {}
                _guarded(partial(self._sync_states, stale), stale)

    def _next_group(self) -> tuple[dict[StreamWriter, _Unsynced], list[Callable[[], None]]]:
        """Wait until a group is due, there is a command, or the state files are to be synced."""
        with self._wake:
            while not self._commands and self._size < self._config.group:
                now = time.monotonic()
                due = self._deadline if self._size else inf
                if self._stale:
                    due = min(due, self._next_state_sync)
                if due <= now:
                    break
                self._wake.wait(None if due == inf else due - now)
            groups, self._unsynced = self._unsynced, {}
            commands, self._commands = self._commands, []
            self._size = 0
            return groups, commands

    def _commit(self, groups: dict[StreamWriter, _Unsynced]) -> None:
        synced = self._config.policy != "os"
        if synced:
            _guarded(partial(self._sync_files, {writer: group.dirty for writer, group in groups.items()}), groups)
        if not self._stale:
            self._next_state_sync = time.monotonic() + STATE_SYNC
        decided: list[Ticket] = []
        for writer, group in groups.items():
            if writer.error is None:
                _guarded(partial(self._publish, writer, group, synced=synced), [writer])
            decided += writer.settle(group.tickets, writer.error)
            dirty = self._stale.setdefault(writer, Dirty())
            if not synced:
                dirty.merge(group.dirty)
        self.finish(decided)

    def _publish(self, writer: StreamWriter, group: _Unsynced, *, synced: bool) -> None:
        try:
            writer.log.publish(group.records, group.last, synced=synced)
        except OSError as error:
            self._stop_stream(writer, error)
        else:
            writer.show()

    def _sync_files(self, dirty: dict[StreamWriter, Dirty]) -> None:
        """Sync files and folders of all streams at once; a stream where that fails stops."""
        jobs: list[tuple[StreamWriter, Callable[[], None]]] = []
        for writer, what in dirty.items():
            jobs += [(writer, partial(self._fs.fdatasync, fd)) for fd in what.files]
            jobs += [(writer, partial(self._fs.sync_folder, folder)) for folder in what.folders]
        for writer, error in zip((w for w, _ in jobs), self._run([job for _, job in jobs]), strict=True):
            if error is not None:
                self._stop_stream(writer, error)
        for what in dirty.values():
            what.close_retired(self._fs)

    def _run(self, jobs: list[Callable[[], None]]) -> Iterable[OSError | None]:
        if len(jobs) == 1:
            return [_outcome(jobs[0])]
        return self._pool.map(_outcome, jobs)

    def _stop_stream(self, writer: StreamWriter, error: OSError) -> None:
        """The kernel marks pages clean that it could not write: a later sync that succeeds would prove nothing."""
        if writer.error is None:
            what = f"the disk failed to keep what was written ({error}); the stream has stopped until it is opened anew"
            writer.error = Corrupt(what, stream=writer.name, position=writer.end)
            _log.error("%s", writer.error)

    def _sync_states(self, stale: dict[StreamWriter, Dirty]) -> None:
        """Make the watermarks durable; under the policy ``os`` first what they stand for."""
        self._sync_files(stale)
        healthy = [writer for writer in stale if writer.error is None]
        for writer in healthy:
            if writer.log.slot.synced < writer.log.slot.committed:
                self._publish(writer, _Unsynced([], writer.records, writer.log.last), synced=True)
        outcomes = self._run([writer.log.sync_state for writer in healthy])
        for writer, error in zip(healthy, outcomes, strict=True):
            if error is not None:
                self._stop_stream(writer, error)


def _guarded(work: Callable[[], None], writers: Iterable[StreamWriter]) -> None:
    """Do it; a fault in it stops the streams that it was for, not the thread for which every caller waits."""
    try:
        work()
    except Exception as failure:  # noqa: BLE001
        for writer in writers:
            _stop_by_fault(writer, failure)
        if not writers:
            _log.exception("the store met an unexpected error")


def _stop_by_fault(writer: StreamWriter, failure: Exception) -> Exception:
    _log.error("stream %s stopped", writer.name, exc_info=failure)
    writer.error = writer.error or Corrupt(f"stopped by an unexpected error: {failure!r}", stream=writer.name)
    return writer.error


def _outcome(job: Callable[[], None]) -> OSError | None:
    try:
        job()
    except OSError as error:
        return error
    return None


def _tell(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        try:
            ticket.tell()
        except Exception:  # noqa: BLE001  (one caller's fault is not the others')
            _log.exception("stream %s: the caller of an append failed on being told", ticket.stream)
