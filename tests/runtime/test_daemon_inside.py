"""The daemon in this process, with scripted sources: reload, stop, watchdog, and what may not bring it down."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.runtime_kit import Disk, rows
from wendelin_stream import plugin
from wendelin_stream.config import Config, load
from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import Options, SourceContext
from wendelin_stream.runtime import daemon as daemon_module
from wendelin_stream.runtime import log as log_module
from wendelin_stream.runtime import step as step_module
from wendelin_stream.runtime import supervisor
from wendelin_stream.runtime.daemon import Daemon
from wendelin_stream.runtime.systemd import Notifier
from wendelin_stream.store import StreamReader
from wendelin_stream.testing.sources import ScriptedSource

HEAD = """
store: {{path: {store}, keep_free: 0 B, sync: 1 ms}}
policies: {{acc: {{match: "acc.*", codec: {{pcm: {{dtype: "<i2", channels: [x], rate: 1 kHz}}}}}}}}
"""
PLAIN = HEAD + "sources: {{a: {{type: scripted}}, b: {{type: scripted}}}}\n"
CHAIN = """
pipelines:
  zero: {{from: "one.acc.*", do: [{{features: {{window: 3}}}}], into: "two.{{stream}}"}}
  first: {{from: "acc.*", do: [{{features: {{window: 10}}}}], into: "one.{{stream}}"}}
"""


class Sources:
    """Registers the source type `scripted` for a test; `made` are all that were made, by name, in order."""

    def __init__(self) -> None:
        self.made: dict[str, list[ScriptedSource]] = {}
        self.refuses: dict[str, Exception] = {}
        self.kind: type[ScriptedSource] = ScriptedSource
        registry = self

        class Scripted:
            class Config(Options):
                speed: int = 1

            def __new__(cls, options: Options, context: SourceContext) -> Any:
                return registry.make(context.name)

        self.plugin = Scripted

    def make(self, name: str) -> ScriptedSource:
        registry = self

        class Source(self.kind):
            async def open(self) -> None:
                if name in registry.refuses:
                    raise registry.refuses[name]
                await super().open()

        source = Source()
        self.made.setdefault(name, []).append(source)
        return source

    def __getitem__(self, name: str) -> ScriptedSource:
        return self.made[name][-1]


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    registry = Sources()
    load = plugin.load
    monkeypatch.setattr(
        plugin, "load", lambda group, name: registry.plugin if name == "scripted" else load(group, name)
    )
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.001)
    return registry


@dataclass
class Running:
    """A daemon, the file that it reads, and what it tells systemd."""

    daemon: Daemon
    task: asyncio.Task[None]
    file: Path
    far: socket.socket
    disk: Disk
    heard: list[str] = field(default_factory=list)

    def write(self, text: str) -> None:
        self.file.write_text(text.format(store=self.file.parent / "store"))

    async def hear(self, line: str) -> list[str]:
        """Wait until systemd was told that, and return all lines since the last call."""
        heard: list[str] = []
        while line not in heard:
            message = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.far, 4096), 10)
            heard += message.decode().split("\n")
        return heard

    def quiet(self) -> bool:
        try:
            self.far.recv(4096)
        except BlockingIOError:
            return True
        return False

    async def reload(self, text: str) -> None:
        """As on SIGHUP: until the daemon has told that it is over."""
        self.write(text)
        self.daemon._reload.set()
        await self.hear("READY=1")

    def rows(self, name: str) -> list[Any]:
        with StreamReader.open(self.file.parent / "store", name) as reader:
            return [row.reshape(-1)[0].item() for row in reader.array]


@pytest.fixture
def far() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
        far.bind("")
        far.setblocking(False)
        yield far


@asynccontextmanager
async def daemon(folder: Path, far: socket.socket, text: str = PLAIN, **environ: str) -> AsyncIterator[Running]:
    """A daemon that is READY; stopped at the end."""
    file, disk = folder / "config.yaml", Disk()
    file.write_text(text.format(store=folder / "store"))
    read: Callable[[], Config] = lambda: load([file])  # noqa: E731
    notifier = Notifier({"NOTIFY_SOCKET": "@" + far.getsockname()[1:].decode()} | environ)
    made = Daemon(read(), read, notifier, disk)
    running = Running(made, asyncio.create_task(made.run(), name="run"), file, far, disk)
    try:
        ready = asyncio.create_task(running.hear("READY=1"))
        await asyncio.wait({ready, running.task}, return_when=asyncio.FIRST_COMPLETED)
        if running.task.done():
            ready.cancel()
            await running.task
        await ready
        yield running
    finally:
        disk.syncing.set()
        made.stop()
        await asyncio.wait({running.task}, timeout=20)
        if not running.task.cancelled():
            await running.task


# --- start and stop


async def test_it_is_ready_when_sources_are_open_and_stops_with_everything_stored(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """READY comes after the last source is open; a stop answers what was sent, then STOPPING, then the end."""
    async with daemon(tmp_path, far) as running:
        assert [sources[name].opened for name in "ab"] == [1, 1]
        await sources["a"].send(*(rows("peer", n) for n in range(100)))
        await sources["a"].until(lambda s: s.taken > 3)
        running.daemon.stop()
        await running.task
        assert sources["a"].commits("peer")[-1] == 99
        assert sources["a"].closed == sources["b"].closed == 1
        assert running.rows("acc.a") == list(range(1000))
        assert "STOPPING=1" in await running.hear("STOPPING=1")


async def test_a_source_that_cannot_open_ends_the_start_and_closes_the_others(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """Fail fast at the start, with the source's own error."""
    sources.refuses["b"] = ConfigError("127.0.0.1:1 is in use")
    with pytest.raises(ConfigError, match="is in use"):
        async with daemon(tmp_path, far):
            pass
    assert sources["a"].closed == 1


async def test_a_stop_during_recovery_does_not_wait_for_it(
    tmp_path: Path, sources: Sources, far: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of streams may take minutes."""
    begun = asyncio.Event()

    async def endless(self: Any, progress: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(log_module.Log, "recover", endless)
    file = tmp_path / "config.yaml"
    file.write_text(PLAIN.format(store=tmp_path / "store"))
    starting = Daemon(load([file]), lambda: load([file]))
    task = asyncio.create_task(starting.run())
    await begun.wait()
    starting.stop()
    await asyncio.wait_for(task, 5)


async def test_sources_that_hang_do_not_hold_up_the_stop(
    tmp_path: Path,
    sources: Sources,
    far: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that does not come to rest, one that does not close: cut off, named, and the store closes in order."""

    class Hangs(ScriptedSource):
        async def quiesce(self) -> None:
            await asyncio.Event().wait()

        async def aclose(self) -> None:
            await super().aclose()
            await at_last.wait()

    at_last = asyncio.Event()
    monkeypatch.setattr(daemon_module, "DOORS_END", 0.2)
    sources.kind = Hangs
    async with daemon(tmp_path, far) as running:
        await sources["a"].send(rows("peer", 0))
        await sources["a"].committed("peer", 0)
        running.daemon.stop()
        await asyncio.wait_for(running.task, 5)
        assert running.rows("acc.a") == list(range(10))
        doors = [door._task for door in running.daemon.doors.values()]
    at_last.set()
    await asyncio.wait(doors)
    assert "source a did not end in 0.2 s and is cut off" in caplog.text


async def test_pipelines_end_in_the_order_of_flow(
    tmp_path: Path, sources: Sources, far: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads what another writes stops behind it: what was sent is in the last stream when the daemon has ended."""
    monkeypatch.setattr(step_module, "STEP_RECORDS", 1)
    async with daemon(tmp_path, far, PLAIN + CHAIN) as running:
        await sources["a"].send(*(rows("peer", n, 10) for n in range(150)))
        await sources["a"].committed("peer", 149)
        running.daemon.stop()
        await running.task
        assert running.rows("one.acc.a") == [10 * k + 4.5 for k in range(150)]
        assert running.rows("two.one.acc.a") == [30 * k + 14.5 for k in range(50)]


async def test_what_was_cut_short_by_the_deadline_is_made_after_the_next_start(
    tmp_path: Path, sources: Sources, far: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time at all for pipelines: the derived streams are a beginning, and whole and the same in the end."""
    monkeypatch.setattr(step_module, "STEP_RECORDS", 1)
    with monkeypatch.context() as hurry:
        hurry.setattr(daemon_module, "PIPELINES_END", 0.0)
        async with daemon(tmp_path, far, PLAIN + CHAIN) as running:
            await sources["a"].send(*(rows("peer", n, 10) for n in range(150)))
            await sources["a"].committed("peer", 149)
    async with daemon(tmp_path, far, PLAIN + CHAIN) as running:
        running.daemon.stop()
        await running.task
        assert running.rows("one.acc.a") == [10 * k + 4.5 for k in range(150)]
        assert running.rows("two.one.acc.a") == [30 * k + 14.5 for k in range(50)]


# --- reload


async def test_a_reload_touches_only_what_changed(tmp_path: Path, sources: Sources, far: socket.socket) -> None:
    """b changes, c is new, a is left alone; so are its rows; a new pipeline takes up what is there."""
    changed = PLAIN.replace("b: {{type: scripted}}", "b: {{type: scripted, speed: 2}}, c: {{type: scripted}}")
    async with daemon(tmp_path, far) as running:
        await sources["a"].send(rows("peer", 0))
        await sources["a"].committed("peer", 0)
        running.write(changed + CHAIN)
        running.daemon._reload.set()
        heard = await running.hear("READY=1")
        assert heard[0] == "RELOADING=1"
        assert heard[1].startswith("MONOTONIC_USEC=")
        assert {name: len(made) for name, made in sources.made.items()} == {"a": 1, "b": 2, "c": 1}
        assert sources["a"].closed == 0
        assert sources.made["b"][0].closed == 1
        await sources["a"].send(rows("peer", 1))
        await sources["a"].committed("peer", 1)
        await sources["c"].send(rows("other", 2))
        await sources["c"].committed("other", 2)
        running.daemon.stop()
        await running.task
        assert running.rows("acc.a") == list(range(30))
        assert running.rows("one.acc.a") == [4.5, 14.5, 24.5]


async def test_a_pipeline_that_a_reload_replaces_goes_on_where_it_was(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """Its section changed (another pattern, the same streams): no row is missing, none is there twice."""
    async with daemon(tmp_path, far, PLAIN + CHAIN) as running:
        for number in range(100):
            await sources["a"].send(rows("peer", number))
            if number % 20 == 19:
                runner = running.daemon.pipelines["first"]
                pattern = "acc.a" if number % 40 == 19 else "acc.*"
                await running.reload(PLAIN + CHAIN.replace('from: "acc.*"', f'from: "{pattern}"'))
                assert running.daemon.pipelines["first"] is not runner
        await sources["a"].committed("peer", 99)
        running.daemon.stop()
        await running.task
        assert running.rows("one.acc.a") == [10 * k + 4.5 for k in range(100)]


@pytest.mark.parametrize(
    "text",
    [
        "store: [",
        PLAIN + "sinks: {{}}\nunknown: 1\n",
        PLAIN.replace("type: scripted", "type: nonsense"),
        PLAIN.replace("1 kHz", "1 Hertz"),
        PLAIN.replace("{store}", "/elsewhere"),
        PLAIN + 'pipelines: {{p: {{from: "acc.*", do: [{{predict: {{model: none}}}}], into: "{{stream}}.p"}}}}',
    ],
)
async def test_a_bad_configuration_changes_nothing(
    tmp_path: Path, sources: Sources, far: socket.socket, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The old one runs on, connections stay, and the log says where and why."""
    async with daemon(tmp_path, far) as running:
        before = running.daemon.config
        await running.reload(text)
        assert "is not taken, the old one runs on" in caplog.text
        assert running.daemon.config is before
        assert [sources[name].closed for name in "ab"] == [0, 0]
        await sources["a"].send(rows("peer", 0))
        await sources["a"].committed("peer", 0)


@pytest.mark.parametrize("error", [ConfigError("in use"), OSError("no such device"), KeyError("surprise")])
async def test_a_source_that_cannot_open_at_a_reload_brings_the_old_ones_back(
    tmp_path: Path, sources: Sources, far: socket.socket, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """b was closed to be replaced and c does not open: b is there again with its old options, a never left."""
    changed = PLAIN.replace("b: {{type: scripted}}", "b: {{type: scripted, speed: 2}}, c: {{type: scripted}}")
    async with daemon(tmp_path, far) as running:
        sources.refuses["c"] = error
        await running.reload(changed)
        assert "is not taken, the old one runs on" in caplog.text
        assert running.daemon.config.sources["b"].options.speed == 1
        assert sorted(running.daemon.doors) == ["a", "b"]
        for name in "ab":
            await sources[name].send(rows(name, 0, tag=f"acc.{name}"))
            await sources[name].committed(name, 0)
        assert len(sources.made["a"]) == 1
        del sources.refuses["c"]
        await running.reload(changed)
        assert sorted(running.daemon.doors) == ["a", "b", "c"]


async def test_a_source_that_does_not_come_back_is_parked_and_the_next_reload_tries_it_again(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """Its address was taken meanwhile: the others run, and a reload of the same file is how a user says: try again."""
    changed = PLAIN.replace("b: {{type: scripted}}", "b: {{type: scripted, speed: 2}}")
    async with daemon(tmp_path, far) as running:
        sources.refuses["b"] = ConfigError("127.0.0.1:1 is in use")
        await running.reload(changed)
        while running.daemon.doors["b"].health.state != "parked":
            await asyncio.sleep(0.001)
        await sources["a"].send(rows("peer", 0))
        await sources["a"].committed("peer", 0)
        del sources.refuses["b"]
        await running.reload(PLAIN)
        await sources["b"].send(rows("other", 0, tag="acc.b"))
        await sources["b"].committed("other", 0)


async def test_a_parked_pipeline_runs_after_a_reload(tmp_path: Path, sources: Sources, far: socket.socket) -> None:
    """Its output held something else; the user moves it away and reloads the file, which has not changed."""
    async with daemon(tmp_path, far, PLAIN + CHAIN) as running:
        await running.daemon.log.writer("one.acc.a", "events")
        await sources["a"].send(rows("peer", 0, 30))
        await sources["a"].committed("peer", 0)
        runner = running.daemon.pipelines["first"]
        while runner.instances["acc.a"].health.state != "parked":
            await asyncio.sleep(0.001)
        release = running.daemon.log._store._writers.pop("one.acc.a")
        await asyncio.to_thread(running.daemon.log._store._committer.release, release)
        (tmp_path / "store" / "streams" / "one.acc.a").rename(tmp_path / "old")
        await running.reload(PLAIN + CHAIN)
        while runner.instances["acc.a"].progress.rows_out < 3:
            await asyncio.sleep(0.001)
        running.daemon.stop()
        await running.task
        assert running.rows("one.acc.a") == [4.5, 14.5, 24.5]


async def test_a_stop_in_the_middle_of_a_reload_leaves_nothing_open(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """The reload waits for a source that is slow to close when the stop comes."""
    closing, may_close = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedSource):
        async def aclose(self) -> None:
            closing.set()
            await may_close.wait()
            await super().aclose()

    sources.kind = Slow
    async with daemon(tmp_path, far) as running:
        await sources["a"].send(rows("peer", 0))
        await sources["a"].committed("peer", 0)
        running.write(HEAD)
        running.daemon._reload.set()
        await closing.wait()
        running.daemon.stop()
        asyncio.get_running_loop().call_later(0.05, may_close.set)
        await running.task
        assert [sources[name].closed for name in "ab"] == [1, 1]


# --- what may not bring it down


async def test_the_watchdog_is_fed_only_while_the_store_s_threads_move(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """A disk that hangs: no WATCHDOG=1 any more, so that systemd ends us; well again, it comes."""
    async with daemon(tmp_path, far, WATCHDOG_USEC="60000") as running:
        await running.hear("WATCHDOG=1")
        await sources["a"].send(rows("peer", 0))
        await sources["a"].committed("peer", 0)
        running.disk.syncing.clear()
        await sources["a"].send(rows("peer", 1))
        await sources["a"].until(lambda s: s.taken == 2)
        while running.daemon.log.writers["acc.a"].log.tail.seq < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        while not running.quiet():
            pass
        await asyncio.sleep(0.1)
        assert running.quiet()
        running.disk.syncing.set()
        await running.hear("WATCHDOG=1")


async def test_without_a_watchdog_systemd_hears_nothing_of_it(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """WATCHDOG_USEC is not set, or meant for another process."""
    async with daemon(tmp_path, far, WATCHDOG_USEC="1000", WATCHDOG_PID="1") as running:
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert running.quiet()


async def test_a_store_that_cannot_be_looked_through_stops_nothing(
    tmp_path: Path,
    sources: Sources,
    far: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The search for streams of other processes fails: it is told once, and everything else goes on."""
    looked = []

    def fails(path: Path) -> list[str]:
        looked.append(path)
        raise OSError("Input/output error")

    async with daemon(tmp_path, far) as running:
        sleep = asyncio.sleep
        monkeypatch.setattr(log_module, "stream_names", fails)
        monkeypatch.setattr(daemon_module.asyncio, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
        while len(looked) < 3:
            await sleep(0.001)
        monkeypatch.undo()
        assert not running.task.done()
    assert caplog.text.count("new streams of other processes cannot be seen: Input/output error") == 1


async def test_a_source_that_fails_is_opened_again_and_its_sender_goes_on(
    tmp_path: Path, sources: Sources, far: socket.socket
) -> None:
    """The error may be anything: after a pause there is a new source, and the counters go on."""
    async with daemon(tmp_path, far) as running:
        await sources["a"].send(rows("peer", 0), RuntimeError("the cable is cut"))
        while len(sources.made["a"]) < 2 or not sources["a"].opened:
            await asyncio.sleep(0.001)
        await sources["a"].send(rows("peer", 0), rows("peer", 1))
        await sources["a"].committed("peer", 1)
        assert running.rows("acc.a") == list(range(20))
        counters = running.daemon.ingest.counters["a"]
        assert (counters.units, counters.duplicates) == (3, 1)
        assert running.daemon.doors["a"].health.failures == 1


async def test_a_source_that_hangs_while_it_is_opened_again_does_not_hold_up_the_stop(
    tmp_path: Path, sources: Sources, far: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed, and its address does not answer: the stop comes in the middle of `open`."""
    opening = asyncio.Event()

    class Hangs(ScriptedSource):
        async def open(self) -> None:
            if len(sources.made["a"]) > 1:
                opening.set()
                await asyncio.Event().wait()
            await super().open()

    monkeypatch.setattr(daemon_module, "DOORS_END", 0.1)
    sources.kind = Hangs
    async with daemon(tmp_path, far) as running:
        await sources["a"].send(OSError("the cable is cut"))
        await opening.wait()
        running.daemon.stop()
        await asyncio.wait_for(running.task, 5)
        assert sources["a"].closed == 1


async def test_a_source_in_its_pause_is_stopped_at_once(
    tmp_path: Path, sources: Sources, far: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed, and waits before it is opened again: a stop, or a reload without it, does not wait for that."""
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 1000.0)
    monkeypatch.setattr(supervisor, "LONGEST_DELAY", 1000.0)
    async with daemon(tmp_path, far) as running:
        await sources["a"].send(OSError("the cable is cut"))
        await sources["b"].send(OSError("the cable is cut"))
        while {running.daemon.doors[name].health.state for name in "ab"} != {"waiting"}:
            await asyncio.sleep(0.001)
        await running.reload(PLAIN.replace("a: {{type: scripted}}, ", ""))
        assert list(running.daemon.doors) == ["b"]
        running.daemon.stop()
        await asyncio.wait_for(running.task, 5)
