"""A sender of Fluentd's forward protocol that loses nothing: PackedForward frames, acknowledged, sent again.

Each frame carries a chunk id, base64 of 16 bytes, that stays the same however often the frame is sent: the receiver
stores it once. What is not acknowledged is kept, up to a bound in bytes, and goes out again on a new connection.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgpack

from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Buffer
from wendelin_stream.runtime.events import pack_event
from wendelin_stream.runtime.waits import race

logger = logging.getLogger(__name__)


def packed_forward(tag: str, events: Iterable[tuple[int, Mapping[str, Any]]], chunk_id: bytes) -> tuple[str, bytes]:
    """One frame ``[tag, bin, {size, chunk}]`` and its chunk as the receiver will acknowledge it.

    events: (time in ns UTC, record) pairs. chunk_id: 16 bytes. Forward protocol v1.5, PackedForward mode.
    """
    packed = [pack_event(time, dict(record)) for time, record in events]
    chunk = base64.b64encode(chunk_id).decode()
    frame: bytes = msgpack.packb([tag, b"".join(packed), {"size": len(packed), "chunk": chunk}])
    return chunk, frame


class Unacked:
    """Frames that were handed over and not acknowledged yet, oldest first."""

    def __init__(self) -> None:
        self._frames: dict[str, bytes] = {}
        self.size = 0

    def add(self, chunk: str, frame: bytes) -> None:
        """Keep a frame until its acknowledgement. Raises BadData if one of that chunk is waiting already."""
        if chunk in self._frames:
            raise BadData(f"chunk {chunk} is on its way already")
        self._frames[chunk] = frame
        self.size += len(frame)

    def ack(self, chunk: object) -> int:
        """Forget a frame; its bytes. Raises BadData for an acknowledgement that nobody waits for."""
        frame = self._frames.pop(chunk, None) if isinstance(chunk, str) else None
        if frame is None:
            raise BadData(f"the receiver acknowledged {chunk!r}, which was not sent")
        self.size -= len(frame)
        return len(frame)

    def oldest(self) -> str | None:
        """Chunk of the frame that waits longest."""
        return next(iter(self._frames), None)

    def __getitem__(self, chunk: str) -> bytes:
        return self._frames[chunk]

    def __contains__(self, chunk: object) -> bool:
        return chunk in self._frames

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


@dataclass(slots=True)
class Counters:
    """What a client did: frames and bytes handed over and acknowledged, connections made, frames sent again."""

    sent: int = 0
    acked: int = 0
    sent_bytes: int = 0
    acked_bytes: int = 0
    connections: int = 0
    resent: int = 0


class ForwardClient:
    """Sends to one forward receiver; used as ``async with ForwardClient(host, port) as client``.

    window: bytes that may wait for their acknowledgement; `send` waits while they are full.
    timeout: seconds to connect, and to wait for an acknowledgement before the connection is given up.
    backoff: first and longest wait in seconds before connecting again; it doubles, with 12.5 % jitter.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        window: int = 8 << 20,
        timeout: float = 60.0,
        backoff: tuple[float, float] = (0.1, 10.0),
    ) -> None:
        self._host, self._port = host, port
        self._limit, self._timeout, self._backoff = window, timeout, backoff
        self._unacked = Unacked()
        self._todo: deque[str] = deque()
        self._work, self._room, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.counters = Counters()
        self.trouble: str = ""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"forward client {self._host}:{self._port}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def unacked(self) -> int:
        """Frames that wait for their acknowledgement."""
        return len(self._unacked)

    async def send(
        self, tag: str, events: Iterable[tuple[int, Mapping[str, Any]]], chunk_id: bytes | None = None
    ) -> None:
        """Hand one frame over; returns when it is in the window, not when it is acknowledged (see `drain`).

        events: (time in ns UTC, record) pairs. chunk_id: 16 bytes, random if None. At most one caller at a time.
        """
        await self._room.wait()
        chunk, frame = packed_forward(tag, events, os.urandom(16) if chunk_id is None else chunk_id)
        self._unacked.add(chunk, frame)
        self._todo.append(chunk)
        self.counters.sent += 1
        self.counters.sent_bytes += len(frame)
        self._changed()
        self._work.set()

    async def drain(self) -> None:
        """Wait until everything is acknowledged; `trouble` says what keeps it, if anything does."""
        await self._idle.wait()

    def _changed(self) -> None:
        """Tell those that wait for room or for the end."""
        for event, true in ((self._room, self._unacked.size < self._limit), (self._idle, not self._unacked)):
            if true:
                event.set()
            else:
                event.clear()

    async def _run(self) -> None:
        failures = 0
        while True:
            acked = self.counters.acked
            try:
                async with asyncio.timeout(self._timeout):
                    reader, writer = await asyncio.open_connection(self._host, self._port)
                await self._talk(reader, writer)
            except (OSError, TimeoutError, BadData) as error:
                self.trouble = str(error) or type(error).__name__
            failures = 0 if self.counters.acked > acked else failures + 1
            first, longest = self._backoff
            delay = min(longest, first * 2 ** min(failures, 16)) * random.uniform(0.875, 1.125)  # noqa: S311
            logger.debug("%s:%d: %s; again in %.1f s", self._host, self._port, self.trouble, delay)
            await asyncio.sleep(delay)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it breaks: everything unacknowledged first, then what comes."""
        self.counters.connections += 1
        self.counters.resent += len(self._unacked) - len(self._todo)
        self._todo = deque(self._unacked)
        self._work.set()
        try:
            await race(self._write(writer), self._read(reader))
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while True:
            while self._todo:
                writer.write(self._unacked[self._todo.popleft()])
                await writer.drain()
            self._work.clear()
            await self._work.wait()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 20)
        while True:
            oldest = self._unacked.oldest()
            try:
                async with asyncio.timeout(self._timeout):
                    data = await reader.read(1 << 16)
            except TimeoutError:
                if oldest is not None and oldest in self._unacked:
                    raise ConnectionError(f"no acknowledgement for {self._timeout:.0f} s") from None
                continue
            if not data:
                raise ConnectionError("the receiver closed the connection")
            self.trouble = ""
            self._acknowledge(unpacker, data)

    def _acknowledge(self, unpacker: Any, data: Buffer) -> None:
        unpacker.feed(data)
        try:
            answers = list(unpacker)
        except (ValueError, msgpack.UnpackException) as error:
            raise BadData(f"the receiver's answer is no msgpack: {error}") from error
        for answer in answers:
            if not isinstance(answer, dict):
                raise BadData(f"the receiver answered {answer!r} where an acknowledgement was due")
            self.counters.acked_bytes += self._unacked.ack(answer.get("ack"))
            self.counters.acked += 1
        self._changed()
