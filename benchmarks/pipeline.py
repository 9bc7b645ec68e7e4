"""`welch` in a running pipeline against bare `scipy.fft.rfft` over the same windows in one thread.

Ours: rows read from the store, cut into windows, detrended, weighted, transformed, averaged, appended and durable. The
limit: the transform alone, over the same windows of the same rows in memory.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import scipy.fft

from wendelin_stream.batch import Signal, ticks
from wendelin_stream.config import load
from wendelin_stream.plugin import OperatorContext
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.pipeline import Pipeline
from wendelin_stream.store import Chunk, Part, StoreConfig, StreamReader

CHANNELS, ROWS, BLOCK = 6, 1 << 22, 8192
RATE = Fraction(25_600)
ROUNDS = 3

CONFIG = """
store: {{path: {store}}}
policies: {{all: {{match: "bench", codec: {{pcm: {{dtype: "<f8", channels: 6, rate: 25.6 kHz}}}}}}}}
pipelines:
  bench:
    from: bench
    do: [{{welch: {{nperseg: {nperseg}, overlap: 50 %, average: 8}}}}]
    into: "bench.spectrum"
"""


def bare(rows: np.ndarray, nperseg: int) -> float:
    """Seconds for the transforms alone, of the same windows where they lie: rows by channels, 64 windows a call."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, nperseg, axis=0)[:: nperseg // 2]
    begun = time.perf_counter()
    for first in range(0, len(windows), 64):
        scipy.fft.rfft(windows[first : first + 64], axis=-1, workers=1)
    return time.perf_counter() - begun


async def ours(folder: Path, rows: np.ndarray, nperseg: int) -> float:
    """Seconds from the start of the pipeline until the last spectrum is durable."""
    config_file = folder / "bench.yaml"
    config_file.write_text(CONFIG.format(store=folder / "store", nperseg=nperseg))
    config = load([config_file])
    log = Log(folder / "store", StoreConfig(keep_free="0 B"))
    signal = Signal(rows.dtype, tuple(f"ch{n}" for n in range(CHANNELS)), rate=RATE)
    writer = await log.writer("bench", "rows", signal)
    parts = [
        Part([record.view(np.uint8).reshape(-1).data], BLOCK, ticks(first, RATE), ticks(first + BLOCK - 1, RATE), first)
        for first, record in zip(range(0, ROWS, BLOCK), np.split(rows, ROWS // BLOCK), strict=True)
    ]
    await log.append(writer, Chunk(parts))
    stop = asyncio.Event()
    stop.set()  # use up the input, then end
    with ThreadPoolExecutor(1) as pool:
        pipeline = Pipeline(config.pipelines["bench"], "bench", "bench.spectrum", log, OperatorContext(), pool, stop)
        begun = time.perf_counter()
        await pipeline.run()
        seconds = time.perf_counter() - begun
    await log.close()
    with StreamReader.open(folder / "store", "bench.spectrum") as reader:
        assert reader.rows == ((ROWS - nperseg) // (nperseg // 2) + 1) // 8
    return seconds


def ratios() -> dict[str, float]:
    """Throughput relative to the bare transform: medians of interleaved rounds."""
    rows = np.random.default_rng(1).standard_normal((ROWS, CHANNELS))
    figures: dict[str, float] = {}
    for nperseg in (1024, 8192):
        pairs = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
                pairs.append((bare(rows, nperseg), asyncio.run(ours(Path(name), rows, nperseg))))
        figures[f"welch {nperseg} in a pipeline: ratio to bare rfft"] = statistics.median(b / o for b, o in pairs)
        figures[f"welch {nperseg} in a pipeline: Msamples/s"] = (
            ROWS * CHANNELS / statistics.median(o for _, o in pairs) / 1e6
        )
    return figures


if __name__ == "__main__":
    for figure, value in ratios().items():
        print(f"{figure:50} {value:12.3f}")
