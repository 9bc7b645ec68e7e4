"""The demo park: simulated turbines that send to a forward port as fast as their time goes by."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wendelin_stream.batch import NS
from wendelin_stream.sources.simulator import BLOCK, RATE, Fault, Turbine

if TYPE_CHECKING:
    from wendelin_stream.client.forward import ForwardClient

BLOCK_NS = BLOCK * NS // RATE
"""A block is 320 ms exactly."""
MARGIN = 10.0
"""Seconds of simulated time from the end of the healthy time to the fault's onset."""


@dataclass(slots=True)
class Park:
    """Turbines and their clock. The last turbine's high-speed bearing fails after the healthy time.

    begin: time of the first sample, ns UTC. speed: simulated seconds per second. blocks: made so far, per turbine.
    """

    count: int
    seed: int
    healthy: float
    begin: int
    speed: float
    blocks: int = 0

    @property
    def fault(self) -> Fault:
        """What befalls the last turbine."""
        return Fault(onset=self.healthy + MARGIN)

    @property
    def elapsed(self) -> float:
        """Simulated seconds so far."""
        return self.blocks * BLOCK / RATE

    @property
    def end(self) -> int:
        """Time behind the last sample so far, ns UTC."""
        return self.begin + self.blocks * BLOCK_NS

    @property
    def names(self) -> list[str]:
        """``t01``, ``t02``, ...: the last one is the one with the fault."""
        return [f"t{number:02d}" for number in range(1, self.count + 1)]

    def streams(self, suffix: str = "") -> list[str]:
        """Names of the turbines' streams."""
        return [f"park.{name}.drivetrain.acc{suffix}" for name in self.names]

    async def feed(self, client: ForwardClient, until: float | None) -> None:
        """Send up to `until` simulated seconds, or for good. Waits while the receiver is behind."""
        turbines = [
            Turbine(number, seed=self.seed, fault=self.fault if number == self.count else None)
            for number in range(1, self.count + 1)
        ]
        started, tags = time.monotonic(), self.streams()
        while until is None or self.elapsed < until:
            blocks = await asyncio.gather(*(asyncio.to_thread(turbine.block, self.blocks) for turbine in turbines))
            stamp = self.end
            early = started + (self.elapsed + BLOCK / RATE) / self.speed - time.monotonic()
            if early > 0:  # a block can leave when its last sample was taken
                await asyncio.sleep(early)
            for tag, block in zip(tags, blocks, strict=True):
                await client.send(tag, [(stamp, {"data": block.tobytes()})])
            self.blocks += 1
