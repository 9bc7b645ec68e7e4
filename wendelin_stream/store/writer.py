"""`StreamWriter` and `Ticket`: what a caller appends with, and how it hears about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.store.chunk import Chunk, check_chunk
from wendelin_stream.store.log import Log
from wendelin_stream.store.reader import StreamReader


class Submit(Protocol):
    """Where a writer hands its tickets to."""

    def append(self, ticket: Ticket) -> None:
        """Have the ticket's chunk written and synced."""

    def finish(self, tickets: list[Ticket]) -> None:
        """Tell the callers of decided tickets."""


class Ticket:
    """What `StreamWriter.append` returns.

    done: it is decided.  error: None if the chunk is durable, Retry if nothing of it is visible and it may be tried
    again, Corrupt if the stream has stopped, BadData if it never will work.  duplicate: the chunk was stored before,
    or by a ticket that was pending.  end: the stream's byte end after the chunk (of a duplicate: some later one).
    """

    __slots__ = ("_done", "attempt", "chunk", "done", "duplicate", "end", "error", "joined", "writer")

    def __init__(self, writer: StreamWriter, chunk: Chunk, done: Callable[[Ticket], None] | None) -> None:
        self.writer = writer
        self.chunk = chunk
        self.done = False
        self.duplicate = False
        self.error: Exception | None = None
        self.end = 0
        self.attempt = writer.attempt
        self.joined: list[Ticket] | None = None
        self._done = done

    @property
    def stream(self) -> str:
        """Name of the stream."""
        return self.writer.name

    def wait(self, timeout: float | None = None) -> Ticket:
        """Block until it is decided. Raises its error, or TimeoutError after `timeout` seconds."""
        with self.writer.decided:
            if not self.writer.decided.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"stream {self.stream}: nothing was committed in {timeout} s")
        if self.error is not None:
            self.writer.heard(self)
            raise self.error
        return self

    def tell(self) -> None:
        """Tell the caller that it is decided. Called once, in the caller's thread if `notify` leads there."""
        if self.error is not None:
            self.writer.heard(self)
        if self._done is not None:
            self._done(self)


class StreamWriter:
    """Appends to one stream. Made by `Store.writer`.

    Order is kept: when an append fails with Retry, those behind it fail too until the caller has been told (by
    `done` or `wait`). So whoever then appends again, from the failed chunk on, leaves no hole and no disorder.
    """

    def __init__(self, log: Log, store: Path, submit: Submit, decided: threading.Condition) -> None:
        self.name = log.name
        self.log = log
        self.error: Exception | None = None
        self.decided = decided
        self.attempt = 0
        self.failed = -1
        self._store = store
        self._submit = submit
        self._row_bytes = None if log.info.signal is None else log.info.row_bytes
        self._lock = threading.Lock()  # guards _pending, and Ticket.joined of those in it
        self._pending: dict[bytes, Ticket] = {}
        self.records = self.end = 0
        self.show()

    @property
    def kind(self) -> Kind:
        """What the stream holds."""
        return self.log.info.kind

    @property
    def signal(self) -> Signal | None:
        """What a row is; None in an untyped stream."""
        return self.log.info.signal

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The user's attributes."""
        return self.log.attrs

    def append(self, chunk: Chunk, done: Callable[[Ticket], None] | None = None) -> Ticket:
        """Queue a chunk; thread-safe, never waits. `done` is called through the store's `notify`.

        Raises BadData for a chunk that cannot be stored in this stream; everything else is told by the ticket.
        """
        check_chunk(chunk, self._row_bytes)
        ticket = Ticket(self, chunk, done)
        if chunk.chunk_id and self._seen(ticket):
            return ticket
        self._submit.append(ticket)
        return ticket

    def known(self, chunk_id: bytes) -> bool:
        """Whether a chunk of that id is durable, as far as the window of remembered ids goes."""
        return chunk_id in self.log.known

    def position(self, producer: int) -> int | None:
        """The producer's position in its last durable chunk; None if it has none."""
        return self.log.positions.get(producer)

    def last(self) -> np.void | None:
        """The last durable index record, a scalar of `IDX`; None in an empty stream."""
        return self.log.last

    def reader(self) -> StreamReader:
        """A reader over the same files."""
        return StreamReader.open(self._store, self.name)

    # --- for Ticket and the committer ---

    def heard(self, ticket: Ticket) -> None:
        """The caller knows that `ticket` failed: what it appends from now on counts again."""
        if ticket.attempt >= self.attempt:
            self.attempt = ticket.attempt + 1

    def show(self) -> None:
        """Take over from the log what is durable."""
        last = self.log.last
        self.records = self.log.slot.committed
        self.end = 0 if last is None else int(last["offset"]) + int(last["length"])

    def settle(self, tickets: Iterable[Ticket], error: Exception | None) -> list[Ticket]:
        """The tickets are decided, durable or not; returns them together with those that joined them."""
        named = [ticket for ticket in tickets if ticket.chunk.chunk_id]
        if error is None:
            self.log.known.add(ticket.chunk.chunk_id for ticket in named)  # before they stop being pending
            for ticket in tickets:
                if ticket.chunk.producer:
                    self.log.positions[ticket.chunk.producer] = ticket.chunk.position
        everyone = list(tickets)
        with self._lock:
            for ticket in named:
                self._pending.pop(ticket.chunk.chunk_id, None)
                everyone += ticket.joined or ()
        for ticket in everyone:
            ticket.error = error
        for ticket in named:
            for other in ticket.joined or ():
                other.end = ticket.end
        return everyone

    def _seen(self, ticket: Ticket) -> bool:
        """Whether the chunk is stored or on its way; then the ticket needs nothing more."""
        chunk_id = ticket.chunk.chunk_id
        with self._lock:
            first = self._pending.get(chunk_id)
            if first is None and chunk_id not in self.log.known:
                self._pending[chunk_id] = ticket
                return False
            ticket.duplicate = True
            if first is not None:
                first.joined = [*(first.joined or ()), ticket]
                return True
        ticket.end = self.end
        self._submit.finish([ticket])
        return True
