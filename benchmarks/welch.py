"""Speed of `welch` against bare `scipy.fft.rfft` over the same windows, in one thread.

Prints, for each setting, how many samples of windows a second go through, and the ratio. The operator is fed with
read-only blocks of 64 KiB and 1 MiB as they lie in a stream (channels interleaved); the bare transform gets the same
windows as a view of contiguous lines in the same precision, in the number of windows a call that suits it best.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from time import perf_counter

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from wendelin_stream.batch import Batch, Gap, Signal
from wendelin_stream.operators.welch import Welch

SAMPLES = 2**21
RATE = Fraction(25_600)
REPEATS = 7
BLOCKS = (64 * 2**10, 2**20)
SETTINGS = [
    # stored, arithmetic, channels, nperseg
    ("<f8", "double", 1, 8192),
    ("<f4", "double", 1, 8192),
    ("<f4", "single", 1, 8192),
    ("<f4", "double", 1, 4096),
    ("<f4", "double", 1, 2048),
    ("<f4", "double", 1, 1024),
    ("<f4", "single", 1, 1024),
    ("<f4", "double", 3, 4096),
    ("<f4", "double", 6, 8192),
    ("<f4", "double", 6, 1024),
    ("<f4", "single", 6, 8192),
    ("<i2", "double", 6, 4096),
]


def measure(stored: str, precision: str, channels: int, nperseg: int) -> dict[str, float]:
    """Samples of windows a second: ``bare``, and the operator's for each block size in bytes."""
    signal = Signal(np.dtype(stored), tuple(f"c{i}" for i in range(channels)), rate=RATE)
    noise = np.random.default_rng(0).normal(0, 1000, (SAMPLES // channels, channels))
    rows = noise.astype(stored)
    rows.setflags(write=False)
    lines = np.ascontiguousarray(rows.T, dtype=np.float64 if precision == "double" else np.float32)
    windows = sliding_window_view(lines, nperseg, axis=-1)[:, :: nperseg // 2]
    runs = {f"bare{n}": _bare(windows, n) for n in (4, 8, 16, 32)}
    for size in BLOCKS:
        per_block = size // signal.row_bytes
        batches = [
            Batch(signal, rows[start : start + per_block], 0, start, start) for start in range(0, len(rows), per_block)
        ]
        runs[str(size)] = _operator(Welch.Config(nperseg=nperseg, precision=precision), signal, batches)
    seconds = _fastest(runs)
    speed = {name: windows.size / time for name, time in seconds.items()}
    best = {"bare": max(speed[name] for name in speed if name.startswith("bare"))}
    return best | {str(size): speed[str(size)] for size in BLOCKS}


def _bare(windows, per_call):
    def run():
        for line in windows:
            for start in range(0, len(line), per_call):
                scipy.fft.rfft(line[start : start + per_call])

    return run


def _operator(config, signal, batches):
    operator = Welch(config)
    operator.output(signal)

    def run():
        operator.on_gap(Gap(0, 0))
        for batch in batches:
            operator.on_batch(batch)

    return run


def _fastest(runs):
    """Seconds of the fastest of several rounds; the runs take turns, so that a slow moment hits all alike."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(REPEATS):
        for name, run in runs.items():
            start = perf_counter()
            run()
            best[name] = min(best[name], perf_counter() - start)
    return best


def ratios() -> dict[str, float]:
    """Operator over bare transform for each setting and block size."""
    found = {}
    for setting in SETTINGS:
        speed = measure(*setting)
        stored, precision, channels, nperseg = setting
        for size in BLOCKS:
            name = f"welch {stored} {precision} {channels}x{nperseg} in {size // 2**10} KiB"
            found[name] = speed[str(size)] / speed["bare"]
    return found


def main() -> None:
    """One line a setting."""
    print(f"{'setting':34}{'bare':>10}{'64 KiB':>16}{'1 MiB':>16}   (Msamples/s of windows, ratio)")
    for setting in SETTINGS:
        speed = measure(*setting)
        cells = "".join(f"{speed[str(size)] / 1e6:9.0f} {speed[str(size)] / speed['bare']:6.2f}" for size in BLOCKS)
        stored, precision, channels, nperseg = setting
        print(f"{stored} {precision}, {channels} x {nperseg:<16}{speed['bare'] / 1e6:10.0f}{cells}")


if __name__ == "__main__":
    sys.exit(main())
