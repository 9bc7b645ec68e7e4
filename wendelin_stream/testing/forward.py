"""Peers of the forward protocol for tests: frames, a client, and an ingest that commits or does not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgpack

from wendelin_stream.plugin import Events, Received, Source


def event_time(seconds: int, nanoseconds: int = 0) -> bytes:
    """EventTime as fixext 8."""
    return b"\xd7\x00" + struct.pack(">II", seconds, nanoseconds)


def event(record: Any, seconds: int = 1_700_000_000, nanoseconds: int = 5) -> bytes:
    """``[EventTime, record]``."""
    return b"\x92" + event_time(seconds, nanoseconds) + bytes(msgpack.packb(record))


def _frame(tag: str, body: bytes, option: Any) -> bytes:
    head = b"\x92" if option is None else b"\x93"
    return head + bytes(msgpack.packb(tag)) + body + (b"" if option is None else bytes(msgpack.packb(option)))


def message(tag: str, record: Any, option: Any = None, seconds: int = 1_700_000_000) -> bytes:
    """A frame of Message mode."""
    body = event_time(seconds, 5) + bytes(msgpack.packb(record))
    frame = _frame(tag, body, option)
    return bytes([frame[0] + 1]) + frame[1:]


def packed(tag: str, payload: bytes, option: Any = None) -> bytes:
    """A frame of PackedForward mode."""
    return _frame(tag, bytes(msgpack.packb(payload)), option)


def forward(tag: str, entries: Iterable[bytes], option: Any = None) -> bytes:
    """A frame of Forward mode."""
    entries = list(entries)
    return _frame(tag, bytes(msgpack.Packer().pack_array_header(len(entries))) + b"".join(entries), option)


@dataclass
class Ingest:
    """Takes what a source yields; commits each unit at once, or as the test says.

    judge: returns an exception to refuse the unit with, or None.  takes: clear it, and nothing is taken any more.
    """

    source: Source
    commits: bool = True
    judge: Callable[[Received], Exception | None] = lambda received: None
    units: list[Received] = field(default_factory=list)
    takes: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        await self.source.open()
        self.takes.set()
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._run(), name="ingest")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.takes.set()
        await self.source.aclose()
        await self._task

    async def _run(self) -> None:
        units = self.source.read()
        while await self.takes.wait():
            received = await anext(units, None)
            if received is None:
                return
            why = self.judge(received)
            if why is None:
                self.units.append(received)
            if why is not None:
                await self.source.refuse(received.origin, received.seq, why)
            elif self.commits:
                await self.source.commit(received.origin, received.seq)
            async with self._changed:
                self._changed.notify_all()

    async def until(self, condition: Callable[[Ingest], bool]) -> None:
        """Wait until the units fulfil the condition."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def until_events(self, count: int) -> None:
        """Wait for that many events."""
        await self.until(lambda ingest: ingest.events >= count)

    async def commit_all(self) -> None:
        """Commit what has been taken so far, one commit per origin."""
        for origin, seq in {unit.origin: unit.seq for unit in self.units}.items():
            await self.source.commit(origin, seq)

    @property
    def events(self) -> int:
        """Events taken."""
        return sum(unit.body.count for unit in self.units if isinstance(unit.body, Events))

    def stored(self, tag: str) -> bytes:
        """The event stream of a tag."""
        return b"".join(bytes(unit.body.data) for unit in self.units if unit.tag == tag)

    @property
    def rejected(self) -> list[tuple[bytes, str]]:
        """What was set aside: data and reason."""
        return [(bytes(r.data), r.reason) for unit in self.units for r in unit.rejected]


class Client:
    """A raw connection to a source."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Client:
        """Connect to host and port."""
        return cls(*await asyncio.open_connection(*address))

    async def send(self, data: bytes) -> None:
        """Write, and wait until the socket has it."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, count: int) -> bytes:
        """Exactly that many bytes."""
        return await self._reader.readexactly(count)

    async def until_closed(self) -> bytes:
        """What comes until the other side closes; a reset counts as a close."""
        found = b""
        try:
            while piece := await self._reader.read(1 << 16):
                found += piece
        except ConnectionResetError:
            pass
        return found

    def end(self) -> None:
        """Send no more, but go on reading."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Break the connection off: the other side gets an error instead of an end."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close."""
        self._writer.close()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
