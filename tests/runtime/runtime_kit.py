"""What the tests of the runtime share: a store with a disk that fails on demand, and doors served in this process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from wendelin_stream.batch import NS, Signal
from wendelin_stream.client import Stream
from wendelin_stream.config import Config, load
from wendelin_stream.plugin import Blob, Events, Origin, Received
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.ingest import Ingest
from wendelin_stream.runtime.log import Log
from wendelin_stream.store import FileSystem, StoreConfig, StreamReader
from wendelin_stream.store.fs import Piece
from wendelin_stream.testing.sources import NOW, ScriptedSource, events, unit

RATE = 1000
SIGNAL = Signal(np.dtype("<i2"), ("x",), rate=Fraction(RATE))
QUICK = StoreConfig(keep_free=0, sync="1 ms", segment=1 << 16)

CONFIG = """
store: {{path: {store}, keep_free: 0 B}}
policies:
  acc: {{match: "acc.*", codec: {{pcm: {{dtype: "<i2", channels: [x], rate: 1 kHz}}}}}}
  again: {{match: "again.*", dedupe: false, codec: {{pcm: {{dtype: "<i2", channels: [x], rate: 1 kHz}}}}}}
  wide: {{match: "wide", stream: "acc.a", codec: {{pcm: {{dtype: "<i2", channels: [x, y], rate: 1 kHz}}}}}}
  logs: {{match: "log.**"}}
  dead: {{match: "dead-letter.**"}}
  out: {{match: "out.**"}}
pipelines:
  features: {{from: "acc.*", do: [{{features: {{window: 10}}}}], into: "out.{{stream}}"}}
"""


def config(folder: Path, text: str = CONFIG) -> Config:
    """The configuration above, or another one, over ``folder/store``."""
    file = folder / "config.yaml"
    file.write_text(text.format(store=folder / "store"))
    return load([file])


class Disk(FileSystem):
    """A disk on which streams fail, or hang.

    full: payload and index records of these streams (``*``: of all) cannot be written, with that errno.  sick: their
    files cannot be synced.  Clear `syncing` and all syncs hang until it is set again.
    """

    def __init__(self) -> None:
        self.full: dict[str, int] = {}
        self.sick: dict[str, int] = {}
        self.syncing = threading.Event()
        self.syncing.set()

    @staticmethod
    def _check(faults: dict[str, int], fd: int) -> None:
        stream, _, file = str(Path(f"/proc/self/fd/{fd}").readlink()).rpartition("/streams/")[2].partition("/")
        if faults and file.startswith(("data/", "index/")) and (code := faults.get(stream, faults.get("*"))):
            raise OSError(code, os.strerror(code))

    def pwritev(self, fd: int, pieces: Sequence[Piece], offset: int) -> int:
        self._check(self.full, fd)
        return super().pwritev(fd, pieces, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._check(self.full, fd)
        super().truncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        self.syncing.wait(30)
        self._check(self.sick, fd)


@dataclass
class Room:
    """A daemon's inside without the daemon: log, ingest, and sources that are served."""

    folder: Path
    config: Config
    log: Log
    ingest: Ingest
    budget: Budget
    disk: Disk
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    served: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, source: ScriptedSource, name: str = "door", drain: float = 5.0) -> asyncio.Task[None]:
        """Open a source and serve it until the room closes."""
        await source.open()

        async def work() -> None:
            try:
                await self.ingest.serve(name, source, self.stop, drain)
            finally:
                await source.aclose()

        task = asyncio.create_task(work(), name=name)
        self.served.append(task)
        return task

    async def end(self) -> None:
        """Stop the sources, in order, and close the store."""
        self.stop.set()
        ended = await asyncio.gather(*self.served, return_exceptions=True)
        self.served.clear()
        self.disk.syncing.set()
        await self.log.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def stream(self, name: str) -> Stream:
        """A stream as readers see it now."""
        return Stream(self.folder / "store", name)

    def rows(self, name: str) -> list[int]:
        """All samples of a one-channel stream."""
        with StreamReader.open(self.folder / "store", name) as reader:
            return reader.array.reshape(-1).tolist()

    def flags(self, name: str) -> list[int]:
        """Flags of all records."""
        with StreamReader.open(self.folder / "store", name) as reader:
            return reader.index()["flags"].tolist()

    def dead(self, source: str = "door") -> list[dict[str, Any]]:
        """All records of a source's dead letter."""
        with self.stream(f"dead-letter.{source}") as stream:
            return [event.record for event in stream.events()]


@asynccontextmanager
async def room(
    folder: Path, *, text: str = CONFIG, store: StoreConfig = QUICK, budget: int = 1 << 26
) -> AsyncIterator[Room]:
    """A room over ``folder/store``, recovered, and ended in order; then nothing is under way in its budget."""
    conf = config(folder, text)
    disk = Disk()
    log = Log(folder / "store", store, disk)
    await log.recover()
    limit = Budget(budget)
    made = Room(folder, conf, log, Ingest(log, conf, limit), limit, disk)
    try:
        yield made
    finally:
        await made.end()
    assert limit.used == 0


def samples(first: int, count: int) -> bytes:
    """Rows whose content is their number."""
    return np.arange(first, first + count, dtype="<i2").tobytes()


def at(row: int, late: int = 0) -> int:
    """Time of a row, ns UTC, if nothing is missing before it; `late` ns behind."""
    return NOW + row * NS // RATE + late


def rows(origin: Origin, number: int, count: int = 10, tag: str = "acc.a", **more: Any) -> Received:
    """The unit `number` of an origin, with rows number * count and following in one event, at their time."""
    first = number * count
    body = events([(more.pop("time", at(first)), {"d": samples(first, count)})])
    chunk_id = str(origin).encode().ljust(8)[:8] + number.to_bytes(8, "big")
    return unit(origin, number, tag, body, **({"chunk_id": chunk_id} | more))


def repeat(first: Received, origin: Origin = "again") -> Received:
    """The same chunk, sent again over another connection."""
    return replace(first, origin=origin, peer=str(origin))


def raw(data: bytes) -> Events:
    """One event as a sender wrote it: ``[1_700_000_000, record]`` around those bytes of a record."""
    event = b"\x92" + msgpack.packb(NOW // NS) + data
    return Events(event, 1, NOW, NOW)


def piece(data: bytes, offset: int, *, file: str = "file", size: int | None = None, **more: Any) -> Received:
    """A piece of a file that grows; the file began at `NOW`."""
    body = Blob(data[offset : None if size is None else offset + size], time=NOW, offset=offset, head=data[:65536])
    end = offset + len(body.data)
    return unit(file, end, **({"tag": "acc.a", "body": body, "producer": 7} | more))
