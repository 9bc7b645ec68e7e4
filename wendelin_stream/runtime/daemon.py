"""The daemon: recover, open, run, reload, stop.

Start: lock the store, recover it, open the sources' listeners, start pipelines, READY. Stop: sources take no more
and answer what is durable, pipelines use up their input or stop at the deadline, the store syncs and closes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from wendelin_stream import __version__
from wendelin_stream.config import Config, ConfigErrors, operator_context, stored_streams, verify
from wendelin_stream.errors import WendelinStreamError
from wendelin_stream.plugin import Model
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.doors import DoorRunner
from wendelin_stream.runtime.ingest import Ingest
from wendelin_stream.runtime.instances import PipelineRunner, in_order
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.pipeline import OUTPUT
from wendelin_stream.runtime.reload import Changes, changes, pipeline_changes, refuse_fixed, told
from wendelin_stream.runtime.status import report, status_line
from wendelin_stream.runtime.systemd import Notifier
from wendelin_stream.store import FileSystem

logger = logging.getLogger(__name__)

UNDER_WAY = 128 << 20
"""Bytes that may be received and not yet durable, all sources together."""

STATUS_EVERY = 5.0
"""Seconds between two lines for `systemctl status`."""

DOORS_END, PIPELINES_END, END = 2.5, 3.3, 4.5
"""Seconds from the beginning of a stop until sources, pipelines, and everything must have come to an end."""

PIPELINE_DRAIN = 1.5
"""Seconds for a pipeline that a reload replaces to use up its input."""


def load_model(name: str, path: Path, sha256: str) -> Model:
    """See `wendelin_stream.models.load_model`."""
    from wendelin_stream.models import load_model as load  # noqa: PLC0415 - scikit-learn: 1.3 s that few starts need

    return load(name, path, sha256)


def check(config: Config) -> None:
    """Everything that can be known before the start. Raises ConfigErrors."""
    problems = verify(config, stored_streams(config.store.path), load_model)
    if problems:
        raise ConfigErrors(problems)


def end_at_once(why: str) -> None:
    """End the process as kill -9 would, which loses nothing that was acknowledged."""
    logger.warning("%s; nothing that was acknowledged is lost", why)
    os._exit(1)


class Daemon:
    """One running configuration over one store."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        notifier: Notifier | None = None,
        files: FileSystem | None = None,
    ) -> None:
        self.config = config
        self._load = load
        self._notifier = notifier or Notifier()
        self._files = files
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self.doors: dict[str, DoorRunner] = {}
        self.pipelines: dict[str, PipelineRunner] = {}
        self.log: Log
        self.ingest: Ingest
        self._workers = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pipeline")
        self._output = Budget(OUTPUT)

    async def run(self) -> None:
        """Start, stay, stop. Raises ConfigError and others if it cannot start."""
        self._handle_signals()
        await asyncio.to_thread(check, self.config)
        self.log = Log(self.config.store.path, self.config.store.config, self._files)
        self.ingest = Ingest(self.log, self.config, Budget(UNDER_WAY))
        try:
            await self._until_stopped(self._start_and_stay())
        finally:
            await self._close()

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping.set()

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(work, name="daemon"), asyncio.create_task(self._stopping.wait(), name="stop")]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await cancelled(*tasks)

    async def _start_and_stay(self) -> None:
        await self.log.recover(self._recovering)
        await self._open_doors(frozenset(self.config.sources))
        self._start_pipelines(frozenset(self.config.pipelines))
        for door in self.doors.values():
            door.start()
        background = [
            asyncio.create_task(work(), name=work.__name__.strip("_"))
            for work in (self._watchdog, self._report_status, self._rescan, self._reloads)
        ]
        self._notifier.ready(f"{len(self.doors)} sources, {len(self.pipelines)} pipelines")
        logger.info("wendelin-stream %s runs on %s", __version__, self.config.store.path)
        try:
            await asyncio.gather(*background)  # they never end by themselves: raises why one did
        finally:
            await cancelled(*background)

    # --- parts

    async def _open_doors(self, names: frozenset[str]) -> None:
        """Open sources, all or none. Raises ConfigError, OSError."""
        opened: dict[str, DoorRunner] = {}
        try:
            for name in sorted(names):
                opened[name] = self._door(name)
                await opened[name].open()
        except BaseException:
            for door in opened.values():
                await door.close()
            raise
        self.doors.update(opened)

    def _door(self, name: str) -> DoorRunner:
        return DoorRunner(self.config.sources[name], self.ingest, self.log.path / "sources")

    def _start_pipelines(self, names: frozenset[str]) -> None:
        context = operator_context(self.config.models, load_model)
        for name in sorted(names):
            spec = self.config.pipelines[name]
            self.pipelines[name] = PipelineRunner(spec, self.log, context, self._workers, self._output)
            self.pipelines[name].start()

    async def _close(self) -> None:
        self._notifier.stopping()
        logger.info("stopping")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        ended = await asyncio.gather(*(door.close(DOORS_END) for door in self.doors.values()), return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                logger.error("a source did not close: %s", error, exc_info=error)
        for runner in in_order(self.config, self.pipelines):  # who reads what another writes ends behind it
            await runner.close(max(0.0, begun + PIPELINES_END - loop.time()))
        self._workers.shutdown(wait=False, cancel_futures=True)
        await self.log.close()
        logger.info("stopped; everything that was acknowledged is on disk")
        await asyncio.to_thread(self._workers.shutdown)

    # --- reload

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            try:
                await self.reload()
            except (WendelinStreamError, OSError) as error:
                logger.error("the new configuration is not taken, the old one runs on: %s", error)  # noqa: TRY400
            except Exception:
                logger.exception("the new configuration is not taken, the old one runs on")
            self._notifier.ready("reloaded")

    async def reload(self) -> None:
        """Load and check the configuration again, and touch what changed and what is parked.

        Raises ConfigError (or OSError, from a source that cannot be opened), and the old configuration runs on.
        """
        old, new = self.config, await asyncio.to_thread(self._load)
        refuse_fixed(old, new)
        await asyncio.to_thread(check, new)
        parked = frozenset(name for name, door in self.doors.items() if door.health.state == "parked")
        doors, pipelines = changes(old.sources, new.sources).with_again(parked), pipeline_changes(old, new)
        await self._exchange_doors(doors, old, new)
        await asyncio.gather(*(self.pipelines[name].close(PIPELINE_DRAIN) for name in pipelines.stop))
        for name in pipelines.stop:
            del self.pipelines[name]
        for runner in self.pipelines.values():
            runner.revive()
        self._start_pipelines(pipelines.start)
        logger.info("reloaded: %s", told(doors, pipelines))

    async def _exchange_doors(self, doors: Changes, old: Config, new: Config) -> None:
        """Close some sources and open others, or open the closed ones again and raise why."""
        await asyncio.gather(*(self.doors[name].close() for name in doors.stop))
        for name in doors.stop:
            del self.doors[name]
        self._take(new)
        try:
            await self._open_doors(doors.start)
        except Exception:
            self._take(old)
            for name in doors.stop:
                await self._reopen(name)
            raise
        for name in doors.start:
            self.doors[name].start()

    async def _reopen(self, name: str) -> None:
        door = self.doors[name] = self._door(name)
        try:
            await door.open()
        except Exception as error:  # noqa: BLE001 - the others must come back too
            logger.warning("source %s could not be opened again: %s", name, error)
        door.start()  # which opens it if it is not open

    def _take(self, config: Config) -> None:
        self.config = config
        self.ingest.use(config)

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
            rate = (total - before) / STATUS_EVERY
            before = total
            self._notifier.status(status_line(self.ingest.counters, self.pipelines, rate))

    async def _rescan(self) -> None:
        trouble = ""
        while True:
            await asyncio.sleep(2)
            try:
                await self.log.rescan()
            except (WendelinStreamError, OSError) as error:
                if str(error) != trouble:
                    logger.error("new streams of other processes cannot be seen: %s", error)  # noqa: TRY400
                trouble = str(error)
            else:
                trouble = ""

    # --- signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self._log_report)

    def _on_stop_signal(self) -> None:
        if self._stopping.is_set():
            end_at_once("stopped at once")
        last = threading.Timer(END, end_at_once, ["not everything came to an end in time"])
        last.daemon = True
        last.start()
        self.stop()

    def _log_report(self) -> None:
        for line in report(self.doors, self.ingest.counters, self.pipelines):
            logger.info("%s", line)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are done."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
