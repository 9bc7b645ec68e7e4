"""The daemon: recover, open, run, reload, stop.

Start: lock the store, recover it, open the sources' listeners, start pipelines, READY. Stop: sources take no more
and answer what is durable, pipelines use up their input or stop at the deadline, the store syncs and closes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvloop

from wendelin_stream import __version__
from wendelin_stream.config import Config, ConfigErrors, operator_context, stored_streams, verify
from wendelin_stream.errors import ConfigError, WendelinStreamError
from wendelin_stream.models import load_model
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.doors import DoorRunner
from wendelin_stream.runtime.ingest import Ingest
from wendelin_stream.runtime.instances import PipelineRunner
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.logs import set_up_logging
from wendelin_stream.runtime.reload import changes, pipeline_changes, refuse_fixed
from wendelin_stream.runtime.status import report, status_line
from wendelin_stream.runtime.systemd import Notifier
from wendelin_stream.store import FileSystem, take_lock

logger = logging.getLogger(__name__)

UNDER_WAY = 128 << 20
"""Bytes that may be received and not yet durable, all sources together."""

STATUS_EVERY = 5.0
"""Seconds between two lines for `systemctl status`."""

PIPELINE_DRAIN = 1.5
"""Seconds for pipelines to use up their input at a stop."""


def run(load: Callable[[], Config]) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP loads again. Returns the exit code.

    Raises ConfigError (and ConfigErrors), Locked or Corrupt if it cannot start.
    """
    set_up_logging()
    config = load()
    with one_daemon(config.store.path), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Daemon(config, load).run())
    return 0


@contextmanager
def one_daemon(store: Path) -> Iterator[None]:
    """Hold the store's daemon lock. Raises Locked if a daemon runs on it, ConfigError if the folder cannot be made."""
    files = FileSystem()
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = take_lock(files, store / "daemon.lock", f"the store {store}")
    except OSError as error:
        raise ConfigError(f"cannot use {store}: {error.strerror}", where="store.path") from error
    try:
        yield
    finally:
        files.close(lock)


def check(config: Config) -> None:
    """Everything that can be known before the start. Raises ConfigErrors."""
    problems = verify(config, stored_streams(config.store.path), load_model)
    if problems:
        raise ConfigErrors(problems)


class Daemon:
    """One running configuration over one store."""

    def __init__(self, config: Config, load: Callable[[], Config], notifier: Notifier | None = None) -> None:
        self.config = config
        self._load = load
        self._notifier = notifier or Notifier()
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self.doors: dict[str, DoorRunner] = {}
        self.pipelines: dict[str, PipelineRunner] = {}
        self.log: Log
        self.ingest: Ingest
        self._workers = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pipeline")

    async def run(self) -> None:
        """Start, stay, stop."""
        self._handle_signals()
        await asyncio.to_thread(check, self.config)
        self.log = Log(self.config.store.path, self.config.store.config)
        self.ingest = Ingest(self.log, self.config, Budget(UNDER_WAY))
        try:
            await self.log.recover(self._recovering)
            await self._open_doors(frozenset(self.config.sources))
            self._start_pipelines(frozenset(self.config.pipelines))
            for door in self.doors.values():
                door.start()
            await self._stay()
        finally:
            await self._close()

    async def _stay(self) -> None:
        background = [
            asyncio.create_task(work(), name=work.__name__.strip("_"))
            for work in (self._watchdog, self._report_status, self._rescan, self._reloads)
        ]
        self._notifier.ready(f"{len(self.doors)} sources, {len(self.pipelines)} pipelines")
        logger.info("wendelin-stream %s runs on %s", __version__, self.config.store.path)
        stop = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([*background, stop], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()  # a background task never ends by itself: raise why it did
        finally:
            for task in (*background, stop):
                task.cancel()
            await asyncio.gather(*background, stop, return_exceptions=True)

    # --- parts

    async def _open_doors(self, names: frozenset[str]) -> None:
        """Open sources, all or none. Raises ConfigError."""
        opened: dict[str, DoorRunner] = {}
        try:
            for name in sorted(names):
                opened[name] = DoorRunner(self.config.sources[name], self.ingest, self.log.path / "sources")
                await opened[name].open()
        except BaseException:
            for door in opened.values():
                await door.close()
            raise
        self.doors.update(opened)

    def _start_pipelines(self, names: frozenset[str]) -> None:
        context = operator_context(self.config.models, load_model)
        for name in sorted(names):
            runner = PipelineRunner(self.config.pipelines[name], self.log, context, self._workers)
            self.pipelines[name] = runner
            runner.start()

    async def _close(self) -> None:
        self._notifier.stopping()
        logger.info("stopping")
        await asyncio.gather(*(door.close() for door in self.doors.values()))
        await asyncio.gather(*(runner.close(PIPELINE_DRAIN) for runner in self.pipelines.values()))
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)
        await self.log.close()
        logger.info("stopped; everything that was acknowledged is on disk")

    # --- reload

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            try:
                await self.reload()
            except WendelinStreamError as error:
                logger.error("the new configuration is not taken, the old one runs on: %s", error)  # noqa: TRY400
            self._notifier.ready("reloaded")

    async def reload(self) -> None:
        """Load and check the configuration again, and touch what changed. Raises ConfigError and changes nothing."""
        old, new = self.config, await asyncio.to_thread(self._load)
        refuse_fixed(old, new)
        await asyncio.to_thread(check, new)
        doors, pipelines = changes(old.sources, new.sources), pipeline_changes(old, new)
        await self._close_doors(doors.stop)
        self._take(new)
        try:
            await self._open_doors(doors.start)
        except (ConfigError, OSError):
            self._take(old)
            await self._open_doors(doors.stop)
            raise
        finally:
            for name in doors.start | doors.stop:
                if name in self.doors:
                    self.doors[name].start()
        await asyncio.gather(*(self.pipelines.pop(name).close(PIPELINE_DRAIN) for name in pipelines.stop))
        self._start_pipelines(pipelines.start)
        logger.info("reloaded: %s", report_changes(doors.stop, doors.start, pipelines.stop, pipelines.start))

    def _take(self, config: Config) -> None:
        self.config = config
        self.ingest.use(config)

    async def _close_doors(self, names: frozenset[str]) -> None:
        await asyncio.gather(*(self.doors.pop(name).close() for name in names))

    # --- background

    def _recovering(self, done: int, total: int) -> None:
        self._notifier.status(f"recovering stream {done} of {total}")
        self._notifier.extend_timeout(30_000_000)

    async def _watchdog(self) -> None:
        """Feed systemd's watchdog only after the loop, the writer and the sync thread all moved."""
        interval = self._notifier.watchdog_interval()
        if interval is None:
            await asyncio.Event().wait()
            return
        while True:
            await self.log.settled()
            self._notifier.watchdog()
            await asyncio.sleep(interval / 3)

    async def _report_status(self) -> None:
        before = 0
        while True:
            await asyncio.sleep(STATUS_EVERY)
            total = sum(one.bytes for one in self.ingest.counters.values())
            rate = max(0, total - before) / STATUS_EVERY
            before = total
            self._notifier.status(status_line(self.ingest.counters, self.pipelines, rate))

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(2)
            await self.log.rescan()

    # --- signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self._log_report)

    def _stop(self) -> None:
        if self._stopping.is_set():
            logger.warning("stopped at once; nothing that was acknowledged is lost")
            os._exit(1)
        self._stopping.set()

    def _log_report(self) -> None:
        for line in report(self.doors, self.ingest.counters, self.pipelines):
            logger.info("%s", line)


def report_changes(*names: frozenset[str]) -> str:
    """One line about what a reload stopped and started."""
    words = ("sources stopped", "sources started", "pipelines stopped", "pipelines started")
    told = [f"{word}: {', '.join(sorted(group))}" for word, group in zip(words, names, strict=True) if group]
    return "; ".join(told) or "nothing changed"
