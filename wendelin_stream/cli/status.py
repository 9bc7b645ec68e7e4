"""The demo's status: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wendelin_stream.cli.park import Park
from wendelin_stream.client.forward import ForwardClient
from wendelin_stream.units import format_duration

LIVE_EVERY = 0.25
LINE_EVERY = 5.0


class Status:
    """What the demo is doing. `stage` and `scores` are set by those who know."""

    def __init__(self, console: Console, park: Park, client: ForwardClient) -> None:
        self._console, self._park, self._client = console, park, client
        self._seen = (time.monotonic(), 0.0, 0)
        self._rate = (0.0, 0.0)
        self.stage = ""
        self.scores: dict[str, float] = {}

    async def show(self) -> None:
        """Show it for good."""
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                while True:
                    live.update(self._table(), refresh=True)
                    await asyncio.sleep(LIVE_EVERY)
        while True:
            await asyncio.sleep(LINE_EVERY)
            text = "; ".join(f"{label} {value}" for label, value in self.facts())
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def facts(self) -> list[tuple[str, str]]:
        """Label and value of each line. Rates are over at least the last second."""
        counters, park = self._client.counters, self._park
        now = time.monotonic()
        then, elapsed, acked = self._seen
        if now - then >= 1.0:
            self._rate = (
                (park.elapsed - elapsed) / (now - then),
                (counters.acked_bytes - acked) / (now - then) / 1e6,
            )
            self._seen = (now, park.elapsed, counters.acked_bytes)
        factor, megabytes = self._rate
        facts = [
            (
                "simulated",
                f"{format_duration(round(park.elapsed, 1))} of {park.count} turbines, {factor:.1f} x real time",
            ),
            ("sent", f"{counters.sent:,} blocks, {counters.acked:,} acknowledged, {megabytes:.1f} MB/s"),
            ("fault", self._fault()),
        ]
        if self._client.trouble:
            facts.append(("trouble", self._client.trouble))
        if self.stage:
            facts.append(("model", self.stage))
        if self.scores:
            scores = (f"{name.split('.')[1]} {score:.1f}" for name, score in self.scores.items())
            facts.append(("health score", ", ".join(scores)))
        return facts

    def _fault(self) -> str:
        park = self._park
        if park.elapsed < park.fault.onset:
            return f"none yet; {park.names[-1]}'s high-speed bearing fails in {park.fault.onset - park.elapsed:.0f} s"
        strength = float(park.fault.amplitude(np.array([park.elapsed]))[0])
        return f"{park.names[-1]}'s high-speed bearing: impacts of {strength:.2f} m/s2"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for label, value in self.facts():
            table.add_row(Text(label, style="dim"), Text(value))
        return table
