"""How the demo runs: daemon, park, learning and status side by side, and all of it ended within five seconds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from wendelin_stream.batch import NS
from wendelin_stream.cli import learning
from wendelin_stream.cli.child import Daemon
from wendelin_stream.cli.park import Park
from wendelin_stream.cli.status import Status
from wendelin_stream.client.forward import ForwardClient
from wendelin_stream.config import load
from wendelin_stream.errors import ConfigError
from wendelin_stream.runtime.waits import race
from wendelin_stream.sources.forward.source import ForwardConfig, parse_address
from wendelin_stream.units import format_size

LAST_ACKS = 0.7
"""Seconds at the end in which open acknowledgements may come."""
STOPPING = 3.8
"""Seconds that the daemon has to end in order."""
CATCHING_UP = 20.0
"""Seconds that the scores may take to reach the end of a demo that ends by itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for; times in simulated seconds. With `to` there is no daemon of ours."""

    turbines: int
    speed: float
    healthy: float
    until: float | None
    seed: int
    store: Path
    config: tuple[Path, ...]
    to: tuple[str, int] | None


async def run_demo(plan: Plan) -> int:
    """Run until Ctrl-C, SIGTERM or the end of the plan. Returns the exit code. Raises ChildDied, ConfigError."""
    console = Console()
    with _interrupts() as interrupts:
        if plan.to is None:
            await _with_daemon(plan, console, interrupts)
        else:
            await _without_daemon(plan, plan.to, console, interrupts)
    return 0


async def _without_daemon(plan: Plan, to: tuple[str, int], console: Console, interrupts: Interrupts) -> None:
    park = _park(plan, time.time_ns())
    console.print(
        f"[bold]A park of {plan.turbines}[/] sends to {to[0]}:{to[1]}, {plan.speed:g} x real time; Ctrl-C ends it."
    )
    async with ForwardClient(*to) as client:

        async def send() -> None:
            await park.feed(client, plan.until)
            await client.drain()

        await race(send(), interrupts.wait(), Status(console, park, client).show())
        await _last_acks(client, console)


async def _with_daemon(plan: Plan, console: Console, interrupts: Interrupts) -> None:
    plan.store.mkdir(parents=True, exist_ok=True)
    health = plan.store / "health.yaml"
    if not ((plan.store / "health.skops").exists() and health.exists()):
        learning.write_config(plan.store, "{}\n")
    files = [*plan.config, health]
    host, port = _door(files, plan.store)
    before = await asyncio.to_thread(learning.newest_time, plan.store)
    park = _park(plan, max(time.time_ns(), 0 if before is None else before + NS))
    arguments = [part for file in files for part in ("--config", str(file))] + ["--store", str(plan.store)]
    daemon = Daemon(arguments, plan.store / "daemon.log")
    interrupts.again = daemon.kill
    try:
        await race(daemon.start(host, port), interrupts.wait())
        if not interrupts.came:
            _greet(console, plan, goes_on=before is not None)
            async with ForwardClient(host, port) as client:
                status = Status(console, park, client)
                learned = asyncio.Event()
                work = (status.show(), daemon.died(), _learn(plan, park, daemon, status, learned))
                await race(_play(plan, park, client, learned), interrupts.wait(), *work)
                await _last_acks(client, console)
    finally:
        await daemon.stop(STOPPING)
    console.print(f"Ended. The data is in {plan.store}; the daemon's log is {plan.store / 'daemon.log'}.")


def _park(plan: Plan, begin: int) -> Park:
    return Park(plan.turbines, plan.seed, plan.healthy, begin, plan.speed)


def _door(files: list[Path], store: Path) -> tuple[str, int]:
    """Where the daemon's first forward source listens."""
    for source in load(files, store=store).sources.values():
        if isinstance(source.options, ForwardConfig):
            return parse_address(source.options.listen[0])
    raise ConfigError("the demo sends to a forward source, and there is none", source=str(files[0]))


class Interrupts:
    """Ctrl-C, SIGTERM and the terminal's end: the first one ends the demo in order, the next one calls `again`."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self.again: Callable[[], None] = lambda: None

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return self._came.is_set()

    async def wait(self) -> None:
        """Return when there was one."""
        await self._came.wait()

    def __call__(self) -> None:
        """A signal came."""
        if self.came:
            self.again()
        self._came.set()


@contextlib.contextmanager
def _interrupts() -> Iterator[Interrupts]:
    loop, interrupts = asyncio.get_running_loop(), Interrupts()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, interrupts)
    try:
        yield interrupts
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _last_acks(client: ForwardClient, console: Console) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_ACKS):
            await client.drain()
    counters = client.counters
    console.print(
        f"{counters.acked:,} of {counters.sent:,} blocks were acknowledged, {format_size(counters.acked_bytes)}."
    )


async def _play(plan: Plan, park: Park, client: ForwardClient, learned: asyncio.Event) -> None:
    """Feed the daemon; a demo that ends by itself ends with the scores of all that was sent."""
    await park.feed(client, plan.until)
    if park.elapsed < plan.healthy + 1:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CATCHING_UP):
            await client.drain()
            await learned.wait()
            while True:
                if await asyncio.to_thread(learning.all_scored, plan.store, park.streams(".features"), park.end):
                    return
                await asyncio.sleep(0.1)


async def _learn(plan: Plan, park: Park, daemon: Daemon, status: Status, learned: asyncio.Event) -> None:
    """When the healthy time of all turbines is in the features: fit, save, have the daemon score by it."""
    streams = park.streams(".features")
    if (plan.store / "health.skops").exists():
        status.stage = "of an earlier run"
    else:
        stop = park.begin + round(plan.healthy * NS)
        rows: list[Any] = []
        while min((len(part) for part in rows), default=0) < int(plan.healthy) - 1:
            status.stage = f"learns what is normal: {min(park.elapsed, plan.healthy):.0f} of {plan.healthy:.0f} s"
            await asyncio.sleep(min(1.0, max(0.1, 1 / plan.speed)))
            rows = await asyncio.to_thread(learning.features_between, plan.store, streams, park.begin, stop)
        estimator = await asyncio.to_thread(learning.fit, np.concatenate(rows))
        await asyncio.to_thread(learning.write_health, plan.store, estimator)
        daemon.reload()
        status.stage = f"fitted to {sum(map(len, rows)):,} healthy rows"
    learned.set()
    while True:
        await asyncio.sleep(0.5)
        status.scores = await asyncio.to_thread(learning.latest, plan.store, park.streams(".features.health"))


def _greet(console: Console, plan: Plan, *, goes_on: bool) -> None:
    store = plan.store.absolute()
    where = store.relative_to(Path.cwd()) if store.is_relative_to(Path.cwd()) else store
    console.print(f"[bold]A park of {plan.turbines} is running[/], {plan.speed:g} x real time; Ctrl-C ends it.")
    if goes_on:
        console.print("The store has data of an earlier run: it stays, and new times go on behind it.")
    console.print("In another terminal:")
    for command in (
        f"wendelin-stream streams --store {where}",
        f"wendelin-stream cat park.t01.drivetrain.acc --last 5 --store {where}",
        f"wendelin-stream plot park.t01.drivetrain.acc.spectrum -o spectrum.png --store {where}",
        f"""python -c 'from wendelin_stream import connect; print(connect("{where}")["park.t01.drivetrain.acc"])'""",
    ):
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
