"""kill -9 of the daemon at random times under load: nothing acknowledged is lost, nothing is there twice.

The same blocks are sent to a daemon that nobody kills; the derived streams must be equal byte for byte, times included.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wendelin_stream import connect
from wendelin_stream.batch import NS
from wendelin_stream.client.forward import ForwardClient
from wendelin_stream.testing.daemon import DaemonProcess

KILLS = 30
BLOCK, CHANNELS, RATE = 512, 3, 25_600
START = 1_700_000_000 * NS
STREAMS = ("park.t01.acc", "park.t02.acc")

CONFIG = """
store: {{path: {store}, keep_free: 0 B, segment: 1 MiB}}
sources: {{fluent: {{type: forward, listen: "127.0.0.1:{port}"}}}}
policies:
  acc: {{match: park.*.acc, codec: {{pcm: {{dtype: "<f4", channels: [x, y, z], rate: 25.6 kHz, unit: m/s2}}}}}}
pipelines:
  spectrum:
    from: park.*.acc
    do: [{{welch: {{nperseg: 1024, overlap: 50 %, average: 4}}}}]
    into: "{{stream}}.spectrum"
  features:
    from: park.*.acc
    do: [{{features: {{window: 0.1 s}}}}]
    into: "{{stream}}.features"
"""


def block(stream: str, number: int) -> tuple[int, bytes]:
    """Time and samples of a block; the samples name stream and block, so that a repeat or a swap shows."""
    rng = np.random.default_rng([STREAMS.index(stream), number])
    rows = rng.standard_normal((BLOCK, CHANNELS), dtype=np.float32)
    return START + number * BLOCK * NS // RATE, rows.tobytes()


def chunk_id(stream: str, number: int) -> bytes:
    return STREAMS.index(stream).to_bytes(8, "big") + number.to_bytes(8, "big")


class Feeder:
    """Sends blocks of one stream in order, as fast as they are acknowledged, through restarts, until told to stop."""

    def __init__(self, port: int, stream: str) -> None:
        self._client = ForwardClient("127.0.0.1", port, window=1 << 18, backoff=(0.02, 0.1))
        self._stream = stream
        self.enough = asyncio.Event()
        self.sent = 0

    async def run(self, most: int | None = None) -> None:
        """Send until `enough` is set (or `most` blocks are sent), then wait for the last acknowledgement."""
        async with self._client as client:
            while not self.enough.is_set() and self.sent != most:
                time, data = block(self._stream, self.sent)
                await client.send(self._stream, [(time, {"data": data})], chunk_id(self._stream, self.sent))
                self.sent += 1
                await asyncio.sleep(0.0005)
            await client.drain()

    @property
    def acked(self) -> int:
        return self._client.counters.acked


def configure(folder: Path, port: int) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(store=folder / "store", port=port))
    return folder / "config.yaml"


async def killed_again_and_again(folder: Path, port: int) -> list[int]:
    """Feed through `KILLS` kills; returns how many blocks of each stream were sent, all acknowledged in the end."""
    rng = random.Random(1)
    daemon = DaemonProcess(configure(folder, port), log=folder / "log")
    await asyncio.to_thread(daemon.start)
    feeders = [Feeder(port, stream) for stream in STREAMS]
    feeding = [asyncio.create_task(feeder.run()) for feeder in feeders]
    for _ in range(KILLS):
        acked = sum(feeder.acked for feeder in feeders)
        while sum(feeder.acked for feeder in feeders) == acked:
            await asyncio.sleep(0.005)  # a kill must hit a daemon that is at work
        await asyncio.sleep(rng.uniform(0, 0.15))
        await asyncio.to_thread(daemon.kill)
        await asyncio.to_thread(daemon.start)
    for feeder in feeders:
        feeder.enough.set()
    await asyncio.gather(*feeding)
    assert await asyncio.to_thread(daemon.stop) == 0
    return [feeder.sent for feeder in feeders]


async def never_killed(folder: Path, port: int, counts: list[int]) -> None:
    daemon = DaemonProcess(configure(folder, port), log=folder / "log")
    await asyncio.to_thread(daemon.start)
    feeders = [Feeder(port, stream) for stream in STREAMS]
    await asyncio.gather(*(feeder.run(count) for feeder, count in zip(feeders, counts, strict=True)))
    assert await asyncio.to_thread(daemon.stop) == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_F37_S24_nothing_lost_nothing_twice_and_derived_streams_equal(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Raw streams hold every block once and in order, derived ones are those of an undisturbed run."""
    counts = await killed_again_and_again(tmp_path / "killed", free_port())
    await never_killed(tmp_path / "calm", free_port(), counts)
    killed, calm = connect(tmp_path / "killed" / "store"), connect(tmp_path / "calm" / "store")
    for stream, count in zip(STREAMS, counts, strict=True):
        expected = b"".join(block(stream, number)[1] for number in range(count))
        assert killed[stream].array.tobytes() == expected, f"{stream} after {KILLS} kills"
        for derived in (f"{stream}.spectrum", f"{stream}.features"):
            one, other = killed[derived], calm[derived]
            assert len(one) > 0
            assert one.array.tobytes() == other.array.tobytes(), derived
            assert np.array_equal(one.times(), other.times()), derived
    assert set(killed) == set(calm)
