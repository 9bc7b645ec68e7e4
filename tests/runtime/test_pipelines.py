"""Instances of pipelines: where they appear, what parks them, how they go on after trouble, how they end."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.runtime_kit import QUICK, SIGNAL, Room, at, room, samples
from wendelin_stream import plugin
from wendelin_stream.batch import Batch, Gap, Item, Signal
from wendelin_stream.plugin import OperatorContext, Options
from wendelin_stream.runtime import step as step_module
from wendelin_stream.runtime import supervisor
from wendelin_stream.runtime.instances import PipelineRunner
from wendelin_stream.runtime.step import Step
from wendelin_stream.store import Chunk, Flag, Part, Store

TEXT = """
store: {{path: {store}, keep_free: 0 B}}
policies: {{all: {{match: "acc.*", codec: {{pcm: {{dtype: "<i2", channels: [x], rate: 1 kHz}}}}}}}}
pipelines:
  p: {{from: "acc.*", do: [{{features: {{window: 10}}}}], into: "out.{{stream}}"}}
  one: {{from: "log.a", do: [{{features: {{window: 10}}}}], into: "one.out"}}
  second: {{from: "out.acc.*", do: [{{features: {{window: 3}}}}], into: "second.{{stream}}"}}
  scripted: {{from: "acc.*", do: [{{scripted: {{}}}}], into: "scripted.{{stream}}"}}
"""


class Scripted:
    """An operator that hands rows on, as int16, and does what a test wants meanwhile."""

    class Config(Options):
        pass

    before = staticmethod(lambda batch: None)
    times = 1

    def __init__(self, config: Options, context: OperatorContext) -> None:
        pass

    def output(self, signal: Signal) -> Signal:
        return signal

    def on_batch(self, batch: Batch) -> Iterator[Item]:
        type(self).before(batch)
        for _ in range(type(self).times):
            yield batch

    def on_gap(self, gap: Gap) -> list[Item]:
        return [gap]

    def pending(self) -> int | None:
        return None

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        pass


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    """The operator `scripted`, made anew for each test; and failures are tried again soon."""

    class Mine(Scripted):
        pass

    load = plugin.load
    monkeypatch.setattr(plugin, "load", lambda group, name: Mine if name == "scripted" else load(group, name))
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.001)
    return Mine


@dataclass
class Line:
    """A room with pipelines."""

    room: Room
    pool: ThreadPoolExecutor
    runners: list[PipelineRunner] = field(default_factory=list)

    async def start(self, name: str) -> PipelineRunner:
        context = OperatorContext()
        runner = PipelineRunner(self.room.config.pipelines[name], self.room.log, context, self.pool)
        runner.start()
        self.runners.append(runner)
        await asyncio.sleep(0)  # its instances begin to run
        return runner

    async def append(self, first: int, count: int, stream: str = "acc.a", flags: int = 0) -> None:
        """Rows whose content is their number, in one record."""
        writer = await self.room.log.writer(stream, "rows", SIGNAL)
        part = Part([samples(first, count)], count, at(first), at(first + count - 1), flags=Flag(flags))
        await self.room.log.append(writer, Chunk([part]))

    def made(self, stream: str) -> list[Any]:
        """All rows of a stream, one number each."""
        if stream not in self.room.log.writers:
            return []
        with self.room.stream(stream) as kept:
            return [row.reshape(-1)[0].item() for row in kept.array]

    async def until_made(self, stream: str, count: int) -> list[Any]:
        while len(self.made(stream)) < count:
            await asyncio.sleep(0.002)
        return self.made(stream)


@asynccontextmanager
async def line(folder: Path, **more: Any):
    with ThreadPoolExecutor(2, thread_name_prefix="pipeline") as pool:
        async with room(folder, text=TEXT, **more) as inside:
            pipes = Line(inside, pool)
            try:
                yield pipes
            finally:
                await asyncio.gather(*(runner.close(0) for runner in pipes.runners))
            await inside.log.settled()
            assert [runner.budget.used for runner in pipes.runners] == [0] * len(pipes.runners)


@contextmanager
def held() -> Iterator[threading.Event]:
    """An event that is set at the latest when the test ends, so that no thread waits for ever."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


def means(count: int) -> list[float]:
    """What `features` gives first for rows that are their numbers: the mean of each window of ten."""
    return [10 * k + 4.5 for k in range(count)]


# --- where instances appear


async def test_each_matching_stream_has_one_instance_whoever_made_it(tmp_path: Path) -> None:
    """Streams that are there, that a door makes, and that another process makes while we run."""
    async with line(tmp_path) as pipes:
        await pipes.append(0, 20, "acc.there")
        runner = await pipes.start("p")
        await pipes.append(0, 20, "acc.new")
        await pipes.append(20, 20, "acc.new")
        with Store(tmp_path / "store", QUICK) as other:
            writer = other.writer("acc.foreign", "rows", SIGNAL)
            writer.append(Chunk([Part([samples(0, 20)], 20, at(0), at(19))])).wait()
            other.writer("unrelated", "bytes")
            await pipes.room.log.rescan()
            await pipes.room.log.rescan()
            assert sorted(runner.instances) == ["acc.foreign", "acc.new", "acc.there"]
            assert await pipes.until_made("out.acc.there", 2) == means(2)
            assert await pipes.until_made("out.acc.new", 4) == means(4)
            assert await pipes.until_made("out.acc.foreign", 2) == means(2)
            writer.append(Chunk([Part([samples(20, 10)], 10, at(20), at(29))])).wait()
            assert await pipes.until_made("out.acc.foreign", 3) == means(3)
        await runner.close(5)


async def test_untyped_streams_are_passed_over_by_patterns_and_park_one_that_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A pattern takes what it can work on; a name that does not fit is a mistake, and says so."""
    async with line(tmp_path) as pipes:
        await pipes.room.log.writer("acc.text", "events")
        await pipes.room.log.writer("log.a", "bytes")
        pattern, name = await pipes.start("p"), await pipes.start("one")
        await asyncio.wait([pattern.instances["acc.text"].task, name.instances["log.a"].task])
        assert pattern.instances["acc.text"].health.state == "ended"
        assert name.instances["log.a"].health.state == "parked"
        assert "stream log.a holds bytes, and operators need typed rows" in name.instances["log.a"].health.error
        assert "give its policy a codec" in caplog.text
        await asyncio.gather(pattern.close(5), name.close(5))


async def test_an_output_that_holds_something_else_parks_the_instance_and_others_go_on(tmp_path: Path) -> None:
    """Its rows would be lost among others; the message names both."""
    async with line(tmp_path) as pipes:
        await pipes.room.log.writer("out.acc.a", "rows", SIGNAL)
        await pipes.append(0, 20)
        await pipes.append(0, 20, "acc.b")
        runner = await pipes.start("p")
        assert await pipes.until_made("out.acc.b", 2) == means(2)
        parked = runner.instances["acc.a"]
        await parked.task
        assert parked.health.state == "parked"
        assert "stream out.acc.a holds" in parked.health.error
        await runner.close(5)


async def test_an_output_whose_name_would_be_too_long_costs_its_sender_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The input is stored, the pipeline says why it does not run on it."""
    async with line(tmp_path) as pipes:
        runner = await pipes.start("p")
        await pipes.append(0, 20, "acc." + "x" * 195)
        await pipes.append(0, 20, "acc.b")
        assert await pipes.until_made("out.acc.b", 2) == means(2)
        assert list(runner.instances) == ["acc.b"]
        assert "longer than 200 characters" in caplog.text
        await runner.close(5)


async def test_an_input_that_is_not_the_one_it_was_parks_the_instance(tmp_path: Path) -> None:
    """Someone moved the input away and it began anew: the output would have a hole that nobody sees."""
    async with line(tmp_path) as pipes:
        await pipes.append(0, 100)
        runner = await pipes.start("p")
        await pipes.until_made("out.acc.a", 10)
        await runner.close(5)
    (tmp_path / "store" / "streams" / "acc.a").rename(tmp_path / "acc.a")
    async with line(tmp_path) as pipes:
        await pipes.append(0, 20)
        runner = await pipes.start("p")
        instance = runner.instances["acc.a"]
        await instance.task
        assert instance.health.state == "parked"
        assert "was made of 100 rows of acc.a, which has 20" in instance.health.error
        await runner.close(5)


async def test_models_and_operators_are_made_in_a_thread(tmp_path: Path, plugins: type[Scripted]) -> None:
    """A model takes seconds to load: not on the event loop."""
    where: list[str] = []

    def output(self: Scripted, signal: Signal) -> Signal:
        where.append(threading.current_thread().name)
        return signal

    plugins.output = output
    async with line(tmp_path) as pipes:
        await pipes.append(0, 10)
        runner = await pipes.start("scripted")
        await pipes.until_made("scripted.acc.a", 10)
        await runner.close(5)
    assert [name[:8] for name in where] == ["pipeline"]


# --- pacing


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that each step took."""
    taken: list[int] = []
    run = Step.run

    def counted(self: Step, producer: int) -> Chunk | None:
        before = self.rows_in
        chunk = run(self, producer)
        taken.append(self.rows_in - before)
        return chunk

    monkeypatch.setattr(Step, "run", counted)
    return taken


async def test_a_paced_operator_lets_rows_gather(tmp_path: Path, plugins: type[Scripted], steps: list[int]) -> None:
    """Rows that come within `max_wait` make one step."""
    plugins.max_wait, plugins.max_rows = Fraction(1), 1000
    async with line(tmp_path) as pipes:
        runner = await pipes.start("scripted")
        for number in range(5):
            await pipes.append(10 * number, 10)
        assert await pipes.until_made("scripted.acc.a", 50) == list(range(50))
        assert steps == [50]
        await runner.close(5)


async def test_enough_rows_end_the_waiting_and_so_does_a_stop(
    tmp_path: Path, plugins: type[Scripted], steps: list[int]
) -> None:
    """`max_rows` rows are worth a step at once; at a stop the rest is done without waiting an hour."""
    plugins.max_wait, plugins.max_rows = Fraction(3600), 20
    async with line(tmp_path) as pipes:
        runner = await pipes.start("scripted")
        await pipes.append(0, 30)
        assert await pipes.until_made("scripted.acc.a", 30) == list(range(30))
        await pipes.append(30, 5)
        await runner.close(5)
        assert pipes.made("scripted.acc.a") == list(range(35))
        assert steps == [30, 5]


# --- trouble


async def test_a_full_disk_leaves_no_hole_and_no_repeat_in_the_output(tmp_path: Path) -> None:
    """The step is done again from the last checkpoint, until the disk has room."""
    async with line(tmp_path) as pipes:
        runner = await pipes.start("p")
        await pipes.append(0, 25)
        await pipes.until_made("out.acc.a", 2)
        pipes.room.disk.full["out.acc.a"] = errno.ENOSPC
        await pipes.append(25, 25)
        instance = runner.instances["acc.a"]
        while instance.health.failures < 3:
            await asyncio.sleep(0.001)
        assert instance.health.state in {"waiting", "running"}
        pipes.room.disk.full.clear()
        await pipes.append(50, 50)
        assert await pipes.until_made("out.acc.a", 10) == means(10)
        await runner.close(5)


async def test_S24_nothing_is_appended_behind_a_step_that_failed_while_an_earlier_one_waits_for_its_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 1 waits for the disk, step 2 finds it full and says so first; step 3 would fit, and must not be stored."""
    monkeypatch.setattr(step_module, "STEP_RECORDS", 1)
    async with line(tmp_path) as pipes:
        await pipes.append(0, 10)
        first = await pipes.start("scripted")
        await pipes.until_made("scripted.acc.a", 10)
        await first.close(5)
        for number in (1, 2, 3):
            await pipes.append(10 * number, 10)
        disk, writes, write = pipes.room.disk, [], pipes.room.disk.pwritev

        def full_once(fd: int, pieces: Any, offset: int) -> int:
            if "/scripted.acc.a/data/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                writes.append(offset)
                if len(writes) == 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return write(fd, pieces, offset)

        monkeypatch.setattr(disk, "pwritev", full_once)
        disk.syncing.clear()
        runner = await pipes.start("scripted")
        while len(writes) < 2:
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0.001)
        disk.syncing.set()
        assert await pipes.until_made("scripted.acc.a", 40) == list(range(40))
        assert runner.instances["acc.a"].health.failures == 1
        await runner.close(5)


async def test_an_operator_that_fails_is_made_anew_and_the_output_is_the_same(
    tmp_path: Path, plugins: type[Scripted]
) -> None:
    """A surprise in the middle of a step: again, from the checkpoint."""
    failures = iter([False, True, False, True, True])

    def before(batch: Batch) -> None:
        if next(failures, False):
            raise ZeroDivisionError

    plugins.before = before
    async with line(tmp_path) as pipes:
        for number in range(5):
            await pipes.append(10 * number, 10)
        runner = await pipes.start("scripted")
        assert await pipes.until_made("scripted.acc.a", 50) == list(range(50))
        assert runner.instances["acc.a"].health.failures == 3
        await runner.close(5)


async def test_a_failing_sync_of_the_output_stops_nothing_for_good(tmp_path: Path) -> None:
    """The stream is opened anew, which repairs it; what was written and not synced may be there, and once."""
    async with line(tmp_path) as pipes:
        runner = await pipes.start("p")
        await pipes.append(0, 20)
        await pipes.until_made("out.acc.a", 2)
        pipes.room.disk.sick["out.acc.a"] = errno.EIO
        await pipes.append(20, 20)
        while not runner.instances["acc.a"].health.failures:
            await asyncio.sleep(0.001)
        pipes.room.disk.sick.clear()
        await pipes.append(40, 20)
        assert await pipes.until_made("out.acc.a", 6) == means(6)
        await runner.close(5)


async def test_S24_one_that_is_cancelled_with_rows_on_their_way_and_started_again_repeats_nothing(
    tmp_path: Path,
) -> None:
    """A reload replaces a pipeline while the disk hangs: the new one asks only when the old one's rows are decided."""
    async with line(tmp_path) as pipes:
        first = await pipes.start("p")
        await pipes.append(0, 20)
        await pipes.until_made("out.acc.a", 2)
        await first.close(5)
        await pipes.append(20, 30)
        pipes.room.disk.syncing.clear()
        second = await pipes.start("p")
        while pipes.room.log.writers["out.acc.a"].log.tail.seq < 2:
            await asyncio.sleep(0.001)
        await second.close(0.0)
        third = await pipes.start("p")
        for _ in range(30):
            await asyncio.sleep(0.001)
        pipes.room.disk.syncing.set()
        await pipes.append(50, 50)
        assert await pipes.until_made("out.acc.a", 10) == means(10)
        await third.close(5)


# --- ends


async def test_a_stop_uses_up_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the input when the stop comes is worked on to the last whole window, step by step."""
    monkeypatch.setattr(step_module, "STEP_RECORDS", 1)
    async with line(tmp_path) as pipes:
        for number in range(100):
            await pipes.append(10 * number, 10)
        runner = await pipes.start("p")
        await runner.close(10)
        assert pipes.made("out.acc.a") == means(100)


async def test_an_operator_that_hangs_does_not_hold_up_the_end(tmp_path: Path, plugins: type[Scripted]) -> None:
    """The instance is cancelled at the deadline, its step ends with the next item, and its reader closes behind it."""
    working = threading.Event()
    batches: list[Batch] = []
    with held() as may_go:

        def before(batch: Batch) -> None:
            batches.append(batch)
            working.set()
            may_go.wait(10)

        plugins.before = before
        async with line(tmp_path) as pipes:
            for number in range(50):
                await pipes.append(10 * number, 10)
            runner = await pipes.start("scripted")
            while not working.is_set():
                await asyncio.sleep(0.001)
            await asyncio.wait_for(runner.close(0.01), 1)
            assert runner.instances["acc.a"].task.cancelled()
            may_go.set()
            await asyncio.to_thread(pipes.pool.shutdown)
            assert len(batches) == 1
            assert pipes.made("scripted.acc.a") == []


async def test_a_derived_stream_of_a_derived_stream_stopped_short_catches_up(tmp_path: Path) -> None:
    """Stopped together, the second may miss the first one's last rows: it makes them after the next start, once."""
    async with line(tmp_path) as pipes:
        await pipes.append(0, 300)
        first, second = await pipes.start("p"), await pipes.start("second")
        await asyncio.gather(second.close(5), first.close(5))
        short = pipes.made("second.out.acc.a")
    async with line(tmp_path) as pipes:
        runner = await pipes.start("second")
        made = await pipes.until_made("second.out.acc.a", 10)
        assert made == [30 * k + 14.5 for k in range(10)]
        assert made[: len(short)] == short
        await runner.close(5)


# --- bounds and gaps


async def test_output_ends_a_step_when_there_is_much_of_it(
    tmp_path: Path, plugins: type[Scripted], monkeypatch: pytest.MonkeyPatch, steps: list[int]
) -> None:
    """An operator that gives a hundred times what it takes: a step is bounded by what comes out, too."""
    monkeypatch.setattr(step_module, "STEP_BYTES", 2000)
    plugins.times = 100
    async with line(tmp_path) as pipes:
        for number in range(20):
            await pipes.append(10 * number, 10)
        runner = await pipes.start("scripted")
        await runner.close(10)
        assert max(steps) == 10
        assert len(pipes.made("scripted.acc.a")) == 20 * 10 * 100


async def test_a_gap_before_rows_that_give_nothing_is_not_lost_by_a_restart(
    tmp_path: Path, plugins: type[Scripted]
) -> None:
    """Rows, a hole, rows that an operator swallows, a restart, rows: the hole stands before the last ones."""

    def on_batch(self: Scripted, batch: Batch) -> Iterator[Item]:
        if not 10 <= int(batch.rows[0, 0]) < 20:
            yield batch

    plugins.on_batch = on_batch
    async with line(tmp_path) as pipes:
        await pipes.append(0, 10)
        await pipes.append(10, 10, flags=Flag.GAP)
        runner = await pipes.start("scripted")
        await runner.close(5)
        assert pipes.made("scripted.acc.a") == list(range(10))
    async with line(tmp_path) as pipes:
        await pipes.append(20, 10)
        runner = await pipes.start("scripted")
        await runner.close(5)
        assert pipes.made("scripted.acc.a") == [*range(10), *range(20, 30)]
        assert pipes.room.flags("scripted.acc.a") == [0, Flag.GAP]


async def test_snapshots_of_an_output_that_is_made_again_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output was moved away to be made anew: old snapshots, of higher rows, do not push out the new ones."""

    class Count:
        """Rows so far: a memory without bound."""

        class Config(Options):
            pass

        def __init__(self, config: Options, context: OperatorContext) -> None:
            self.count = 0

        def output(self, signal: Signal) -> Signal:
            return replace(signal, dtype=np.dtype("<i8"))

        def on_batch(self, batch: Batch) -> Iterator[Item]:
            self.count += len(batch)
            signal = replace(SIGNAL, dtype=np.dtype("<i8"))
            yield Batch(signal, np.array([[self.count]]), batch.anchor, batch.index, batch.position)

        def on_gap(self, gap: Gap) -> list[Item]:
            return [gap]

        def snapshot(self) -> dict[str, NDArray[Any]]:
            return {"count": np.array(self.count)}

        def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
            self.count = int(state["count"])

    def use(operator: type) -> None:
        load = plugin.load
        monkeypatch.setattr(plugin, "load", lambda group, name: operator if name == "scripted" else load(group, name))
        monkeypatch.setattr(step_module, "SNAPSHOT_EVERY", 0.0)

    use(Count)
    monkeypatch.setattr(step_module, "STEP_RECORDS", 1)
    async with line(tmp_path) as pipes:
        for number in range(30):
            await pipes.append(10 * number, 10)
        runner = await pipes.start("scripted")
        await runner.close(5)
        assert pipes.made("scripted.acc.a") == [10 * k for k in range(1, 31)]
    (tmp_path / "store" / "streams" / "scripted.acc.a").rename(tmp_path / "old")
    monkeypatch.setattr(Step, "_take", lambda self, take=Step._take: take(self) if self.row < 50 else iter(()))
    async with line(tmp_path) as pipes:
        runner = await pipes.start("scripted")
        await pipes.until_made("scripted.acc.a", 5)
        await runner.close(0.0)
    monkeypatch.undo()
    use(Count)
    async with line(tmp_path) as pipes:
        runner = await pipes.start("scripted")
        await runner.close(5)
        assert pipes.made("scripted.acc.a") == [10 * k for k in range(1, 31)]
