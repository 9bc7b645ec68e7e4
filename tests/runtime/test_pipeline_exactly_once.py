"""Guarantees 2 and 3: a derived stream is the same however the input was cut and wherever work was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wendelin_stream import plugin
from wendelin_stream.batch import NS, Batch, Gap, Item, Signal
from wendelin_stream.config import PipelineSpec, load
from wendelin_stream.plugin import OperatorContext, Options
from wendelin_stream.runtime import step as step_module
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.pipeline import Pipeline
from wendelin_stream.store import Chunk, Flag, Part, StoreConfig, StreamReader

SIGNAL = Signal(np.dtype("<f4"), ("x", "y"), ("g", "g"), rate=Fraction(1_000_003, 7))
STORE = StoreConfig(keep_free=0, sync=Fraction(1, 1000), segment=1 << 16)
ROWS = np.random.default_rng(3).standard_normal((2000, 2)).astype("<f4")


class Total:
    """An operator without bound: the sum of all rows since the last gap, every seventh row."""

    class Config(Options):
        pass

    def __init__(self, config: Options, context: OperatorContext) -> None:
        self._sum, self._rows = np.zeros(2), 0

    def output(self, signal: Signal) -> Signal:
        return Signal(np.dtype("<f8"), signal.channels, signal.units, signal.rate)

    def on_batch(self, batch: Batch) -> Iterator[Item]:
        for k in range(len(batch)):
            self._sum = self._sum + batch.rows[k]
            self._rows += 1
            if self._rows % 7 == 0:
                signal = Signal(np.dtype("<f8"), batch.signal.channels, batch.signal.units, batch.signal.rate)
                yield Batch(signal, self._sum[np.newaxis], batch.time(k), 0, batch.position + k)

    def on_gap(self, gap: Gap) -> list[Item]:
        self._sum, self._rows = np.zeros(2), 0
        return [gap]

    def snapshot(self) -> dict[str, NDArray[Any]]:
        return {"sum": self._sum, "rows": np.array(self._rows)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._sum, self._rows = state["sum"], int(state["rows"])


@pytest.fixture(autouse=True, scope="module")
def total_is_a_plugin() -> Iterator[None]:
    load_plugin = plugin.load
    with (
        patch.object(plugin, "load", lambda group, name: Total if name == "total" else load_plugin(group, name)),
        patch.object(step_module, "SNAPSHOT_EVERY", 0.0),
    ):
        yield


PIPELINES = {
    "a sum without bound": "[{total: {}}]",
    "features of a sum": "[{total: {}}, {features: {window: 3}}]",
    "spectra": "[{welch: {nperseg: 32, overlap: 50 %, average: 3}}]",
    "features of spectra": "[{features: {window: 20}}, {welch: {nperseg: 8, overlap: 25 %, average: 2}}]",
}

Cut = tuple[int, int]
"""Rows of one record, and by how many ns its time is off what was expected."""

cuts = st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0, 0, 0, 3, 50_000_000_000])), min_size=1, max_size=12)


def spec(folder: Path, steps: str) -> PipelineSpec:
    file = folder / "config.yaml"
    file.write_text(f"""
store: {{path: {folder / "store"}}}
policies: {{raw: {{match: raw, codec: {{pcm: {{dtype: "<f4", channels: [x, y], rate: 1 kHz}}}}}}}}
pipelines: {{p: {{from: raw, do: {steps}, into: out}}}}
""")
    return load([file]).pipelines["p"]


def records(cut: Sequence[Cut]) -> list[Part]:
    """The rows as records; a time that is far off begins a gap."""
    parts, row, time = [], 0, 1_700_000_000 * NS
    for count, off in cut:
        rows = ROWS[row : row + count]
        if not len(rows):
            break
        flags = Flag.GAP if off > NS else Flag(0)
        time += off
        parts.append(Part([rows.tobytes()], len(rows), time, time, flags=flags))
        row += len(rows)
        time += len(rows) * NS * 7 // 1_000_003
    return parts


async def run_to_end(folder: Path, pipeline: PipelineSpec, log: Log) -> None:
    stop = asyncio.Event()
    stop.set()
    with ThreadPoolExecutor(1) as pool:
        await Pipeline(pipeline, "raw", "out", log, OperatorContext(), pool, stop).run()


def output(folder: Path) -> tuple[bytes, list[int], list[tuple[int, int]]]:
    """Bytes, times, and the rows that begin after a gap."""
    with StreamReader.open(folder / "store", "out") as reader:
        gaps = [(int(r["offset"]), int(r["t_first"])) for r in reader.index() if r["flags"] & Flag.GAP]
        return reader.array.tobytes(), reader.times(0, reader.rows).astype(np.int64).tolist(), gaps


async def uninterrupted(steps: str, parts: Sequence[Part]) -> tuple[bytes, list[int], list[tuple[int, int]]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        pipeline = spec(folder, steps)
        log = Log(folder / "store", STORE)
        raw = await log.writer("raw", "rows", SIGNAL)
        await log.append(raw, Chunk(parts))
        await run_to_end(folder, pipeline, log)
        await log.close()
        return output(folder)


async def interrupted(
    steps: str, parts: Sequence[Part], stops: Sequence[int]
) -> tuple[bytes, list[int], list[tuple[int, int]]]:
    """Append a part at a time; after each part in `stops` the process "dies": the store is closed and opened anew."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        pipeline = spec(folder, steps)
        log = Log(folder / "store", STORE)
        for number, part in enumerate(parts):
            raw = await log.writer("raw", "rows", SIGNAL)
            await log.append(raw, Chunk([part]))
            await run_to_end(folder, pipeline, log)
            if number in stops:
                await log.close()
                log = Log(folder / "store", STORE)
                await log.recover()
        await log.close()
        return output(folder)


@settings(max_examples=30)
@given(
    cut=cuts,
    steps=st.sampled_from(sorted(PIPELINES)),
    stops=st.sets(st.integers(0, 11)),
    step_rows=st.sampled_from([1, 7, 100, 100_000]),
    step_records=st.sampled_from([1, 2, 5000]),
)
def test_any_interruption_gives_the_same_stream(
    cut: list[Cut], steps: str, stops: set[int], step_rows: int, step_records: int
) -> None:
    """Rows, times and gaps of the derived stream are equal to those of one run over everything."""
    parts = records(cut)

    async def both() -> None:
        whole = await uninterrupted(PIPELINES[steps], parts)
        with (
            patch.object(step_module, "STEP_BYTES", step_rows * SIGNAL.row_bytes),
            patch.object(step_module, "STEP_RECORDS", step_records),
        ):
            assert await interrupted(PIPELINES[steps], parts, sorted(stops)) == whole

    asyncio.run(both())
