"""Sum over the contiguous view of a stream against `np.memmap` of one big file with the same bytes, both warm."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from wendelin_stream.batch import Signal
from wendelin_stream.store import Chunk, Part, Store, StoreConfig, StreamReader

ROWS, CHANNELS = 1 << 24, 8
ROUNDS = 9
SIGNAL = Signal(np.dtype("<f4"), tuple(f"ch{n}" for n in range(CHANNELS)), rate=Fraction(25_600))


def build(folder: Path) -> Path:
    """512 MiB as a stream and as one file. Returns the file."""
    rows = np.random.default_rng(1).standard_normal((1 << 16, CHANNELS), dtype=np.float32)
    store = Store(folder / "store", StoreConfig(keep_free="0 B"))
    writer = store.writer("bench", "rows", SIGNAL)
    with (folder / "file").open("wb") as file:
        for _ in range(ROWS // len(rows)):
            file.write(rows.tobytes())
            ticket = writer.append(Chunk([Part([rows.tobytes()], len(rows))]))
        ticket.wait()
    store.close()
    return folder / "file"


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def ratios() -> dict[str, float]:
    """Throughput of the view relative to the memmap: medians of interleaved rounds."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        file = build(Path(name))
        one = np.memmap(file, "<f4", "r", shape=(ROWS, CHANNELS))
        with StreamReader.open(Path(name) / "store", "bench") as reader:
            view = reader.array
            assert float(view.sum(dtype=np.float64)) == float(one.sum(dtype=np.float64))
            pairs = [(seconds(one.sum), seconds(view.sum)) for _ in range(ROUNDS)]
            figures = {"view: sum, ratio to np.memmap": statistics.median(m / v for m, v in pairs)}
            figures["view: sum, GB/s"] = ROWS * CHANNELS * 4 / statistics.median(v for _, v in pairs) / 1e9
            del view
    return figures


if __name__ == "__main__":
    for figure, value in ratios().items():
        print(f"{figure:50} {value:12.3f}")
