"""The forward source behind a real door: what senders see of a disk that fails, hangs, or is well."""

from __future__ import annotations

import asyncio
import base64
import errno
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.runtime.runtime_kit import Room, room
from wendelin_stream.client.forward import ForwardClient
from wendelin_stream.plugin import SourceContext
from wendelin_stream.sources.forward import ForwardConfig, ForwardSource
from wendelin_stream.sources.forward.decode import decode
from wendelin_stream.testing.forward import Client, event, packed
from wendelin_stream.testing.sources import NOW


def chunk(number: int) -> str:
    return base64.b64encode(number.to_bytes(16, "big")).decode()


def frame(number: int, events: int = 1, tag: str = "log.a") -> bytes:
    return packed(tag, event({"n": number}) * events, {"chunk": chunk(number)})


def ack(number: int) -> bytes:
    return bytes(msgpack.packb({"ack": chunk(number)}))


@asynccontextmanager
async def listening(inside: Room, **options: Any) -> AsyncIterator[tuple[str, int]]:
    """A forward source served by the room's ingest; gives its address."""
    source = ForwardSource(ForwardConfig(listen="127.0.0.1:0", **options), SourceContext("door", inside.folder))
    await source.open()
    stop = asyncio.Event()
    serving = asyncio.create_task(inside.ingest.serve("door", source, stop, 5.0))
    try:
        yield source.addresses[0]
    finally:
        stop.set()
        await serving
        await source.aclose()


def numbers(inside: Room, stream: str = "log.a") -> list[int]:
    with inside.stream(stream) as kept:
        return [one.record["n"] for one in kept.events()]


async def test_F36_a_failed_store_gives_no_ack_and_a_close_and_nothing_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large frame is still being read in a thread when the one before it is refused: it must not be stored either."""
    may_decode = threading.Event()

    def slow(unit: Any, arrival: int, limits: Any) -> Any:
        if limits.events is None:
            may_decode.wait(10)
        return decode(unit, arrival, limits)

    monkeypatch.setattr("wendelin_stream.sources.forward.connection.decode", slow)
    large = frame(2, 50_000)
    async with room(tmp_path) as inside, listening(inside) as address:
        first = await Client.connect(address)
        await first.send(frame(0))
        assert await first.receive(len(ack(0))) == ack(0)
        inside.disk.full["log.a"] = errno.ENOSPC
        await first.send(frame(1) + large)
        while not inside.ingest.counters["door"].refused:
            await asyncio.sleep(0.001)
        inside.disk.full.clear()
        may_decode.set()
        assert await first.until_closed() == b""
        await first.close()
        assert numbers(inside) == [0]
        again = await Client.connect(address)
        await again.send(frame(1) + large + frame(3))
        assert await again.receive(len(ack(1) * 3)) == ack(1) + ack(2) + ack(3)
        await again.close()
        assert numbers(inside) == [0, 1, *[2] * 50_000, 3]


async def test_F36_a_slow_store_slows_the_reading_and_closes_nothing(tmp_path: Path) -> None:
    """The disk hangs: the sender's socket fills, its acknowledgements are late, and then all of them come."""
    async with room(tmp_path, budget=1 << 20) as inside, listening(inside, buffer="1 MiB") as address:
        async with ForwardClient(*address, window=64 << 20) as client:
            await client.send("log.a", [(NOW, {"n": 0})])
            await client.drain()
            inside.disk.syncing.clear()
            for number in range(1, 33):
                await client.send("log.a", [(NOW, {"n": number, "d": bytes(1 << 20)})])
            while inside.budget.used < 1 << 20:
                await asyncio.sleep(0.001)
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert client.counters.acked == 1
            assert inside.budget.used < 3 << 20
            assert inside.ingest.counters["door"].units < 5
            inside.disk.syncing.set()
            await client.drain()
            assert client.counters.connections == 1
        assert numbers(inside) == list(range(33))


async def test_F32_a_stop_acknowledges_what_was_taken(tmp_path: Path) -> None:
    """Frames that had come whole are stored and acknowledged before the connection closes."""
    async with room(tmp_path) as inside:
        async with listening(inside) as address:
            client = await Client.connect(address)
            await client.send(b"".join(frame(n) for n in range(300)))
            while not inside.ingest.counters["door"].units:
                await asyncio.sleep(0)
        acked = await client.until_closed()
        await client.close()
        stored = numbers(inside)
        assert stored == list(range(len(stored)))
        assert acked == b"".join(map(ack, stored))
