"""What the end-to-end tests share: configurations, senders, and a look into the store."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from wendelin_stream import connect
from wendelin_stream.batch import NS
from wendelin_stream.client.forward import ForwardClient
from wendelin_stream.testing.daemon import DaemonProcess

START = 1_700_000_000 * NS
RATE, BLOCK = 25_600, 256

CONFIG = """
store: {{path: {folder}/store, keep_free: {keep_free}}}
sources:
  fluent: {{type: forward, listen: "127.0.0.1:{port}"}}
policies:
  acc: {{match: park.*.acc, codec: {{pcm: {{dtype: "<f4", channels: [x, y], rate: 25.6 kHz, unit: m/s2}}}}}}
  logs: {{match: log.**}}
pipelines:
  spectrum:
    from: park.*.acc
    do: [{{welch: {{nperseg: 512, overlap: 50 %, average: 2}}}}]
    into: "{{stream}}.spectrum"
"""


class Daemon(DaemonProcess):
    """A daemon over ``folder/store`` that listens at `port`."""

    def __init__(self, folder: Path, port: int, text: str = CONFIG, keep_free: str = "0 B") -> None:
        self.folder, self.port, self.keep_free = folder, port, keep_free
        self.config = folder / "config.yaml"
        self.write(text)
        super().__init__(self.config, log=folder / "log")

    def write(self, text: str) -> None:
        """Put another configuration into its file; it reads it at a start or a reload."""
        self.config.write_text(text.format(folder=self.folder, port=self.port, keep_free=self.keep_free))

    def array(self, stream: str) -> Any:
        """All rows, or bytes, of a stream."""
        with connect(self.folder / "store")[stream] as kept:
            return kept.array.copy()

    def logged(self, text: str, timeout: float = 10.0) -> str:
        """Wait until the log has that text; returns the log."""
        until(lambda: text in self.log(), f"{text!r} in the log")
        return self.log()


def until(true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Look again and again: the daemon is another process."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def block(stream: str, number: int) -> tuple[int, bytes]:
    """Time and samples of a block of a stream; no two are equal."""
    rng = np.random.default_rng([len(stream), ord(stream[6]), number])
    return START + number * BLOCK * NS // RATE, rng.standard_normal((BLOCK, 2), np.float32).tobytes()


def chunk_id(stream: str, number: int) -> bytes:
    """The same for the same block, however often it is sent."""
    return stream.encode()[:8].ljust(8) + number.to_bytes(8, "big")


class Feeder:
    """Sends blocks of one stream in order through restarts; `acked` are acknowledged."""

    def __init__(self, port: int, stream: str) -> None:
        self.stream = stream
        self.client = ForwardClient("127.0.0.1", port, window=1 << 18, backoff=(0.05, 0.2))
        self.enough = asyncio.Event()
        self.sent = 0

    @property
    def acked(self) -> int:
        """Blocks that were acknowledged."""
        return self.client.counters.acked

    async def run(self, most: int | None = None, drain: bool = True) -> None:
        """Send until `enough` is set or `most` are sent; wait for the last acknowledgement if `drain`."""
        async with self.client as client:
            while not self.enough.is_set() and self.sent != most:
                when, data = block(self.stream, self.sent)
                await client.send(self.stream, [(when, {"d": data})], chunk_id(self.stream, self.sent))
                self.sent += 1
                await asyncio.sleep(0)
            if drain:
                await client.drain()


def whole(stream: str, count: int) -> bytes:
    """The first blocks of a stream."""
    return b"".join(block(stream, number)[1] for number in range(count))


def chunk(number: int) -> str:
    """A chunk option, as Fluentd makes one."""
    return base64.b64encode(number.to_bytes(16, "big")).decode()


def ack(text: str) -> bytes:
    """The answer that a chunk is due."""
    return bytes(msgpack.packb({"ack": text}))
