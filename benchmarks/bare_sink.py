"""The limit that durable ingest is measured against: an asyncio sink that reads nothing of what it is sent.

    python -m benchmarks.bare_sink FILE

Appends the raw bytes to FILE with one fdatasync per 20 ms, prints its port, answers "done" at a connection's end when
everything of it is on disk.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import uvloop

TICK = 0.02
BOUND = 64 << 20


class Sink(asyncio.Protocol):
    """One connection; `gathered` is shared by all."""

    def __init__(self, gathered: list[bytes], ended: list[asyncio.Transport], open_: set[Sink]) -> None:
        self._gathered, self._ended, self._open = gathered, ended, open_

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._gathered.append(data)

    def eof_received(self) -> bool:
        self._ended.append(self.transport)
        self._open.discard(self)
        return True


def write(fd: int, pieces: list[bytes]) -> None:
    for first in range(0, len(pieces), 1024):
        group = pieces[first : first + 1024]
        if os.writev(fd, group) != sum(map(len, group)):
            raise OSError("short write")
    os.fdatasync(fd)


async def main(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    gathered: list[bytes] = []
    ended: list[asyncio.Transport] = []
    open_: set[Sink] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(gathered, ended, open_), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    pool = ThreadPoolExecutor(1)
    while True:
        due = loop.time() + TICK
        pieces, done = gathered[:], ended[:]
        gathered.clear()
        ended.clear()
        if pieces:
            await loop.run_in_executor(pool, write, fd, pieces)
        for transport in done:
            transport.write(b"done")
            transport.close()
        slow = sum(map(len, gathered)) > BOUND
        for sink in open_:
            (sink.transport.pause_reading if slow else sink.transport.resume_reading)()
        await asyncio.sleep(0 if slow else max(0.0, due - loop.time()))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
