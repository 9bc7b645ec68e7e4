"""Door to disk (guarantee 1): one `Ingest` for all sources knows the policies and where each tag goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wendelin_stream.config import Policy, route
from wendelin_stream.plugin import Source
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.door import Counters, Door, Flow, Target
from wendelin_stream.runtime.log import Log

MOST_TAGS = 10_000
"""Tags whose target is remembered: a sender of ever new ones must not grow memory."""


class Ingest:
    """All sources' common way to disk. One per daemon; `policies` may be exchanged while it runs."""

    def __init__(self, log: Log, policies: Sequence[Policy], budget: Budget) -> None:
        self._log = log
        self._budget = budget
        self.policies = policies
        self._targets: dict[str, Target | None] = {}
        self._flows: dict[str, Flow] = {}
        self.counters: dict[str, Counters] = {}

    def use(self, policies: Sequence[Policy]) -> None:
        """From now on these policies decide."""
        self.policies = policies
        self._targets.clear()

    def position(self, tag: str, producer: int) -> int | None:
        """How far a file is durable in the stream of its tag: what a source asks when it starts again."""
        target = self.target(tag)
        writer = self._log.writers.get(target.flow.name) if target else None
        return writer.position(producer) if writer else None

    async def serve(self, name: str, source: Source, stop: asyncio.Event, drain: float = 2.0) -> None:
        """Take what an opened source yields until `stop`; then answer what is on its way, within `drain` seconds."""
        door = Door(name, source, self.target, self._log, self._budget)
        self.counters[name] = door.counters
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(door.answer(), name=f"{name}: answers")
            reading = tasks.create_task(door.read(), name=f"{name}: reads")
            await stop.wait()
            await door.finish(drain)
            reading.cancel()
            answering.cancel()

    def target(self, tag: str) -> Target | None:
        """Where a tag's data goes; None if no policy takes it."""
        if tag not in self._targets:
            if len(self._targets) >= MOST_TAGS:
                self._targets.clear()
            self._targets[tag] = self._route(tag)
        return self._targets[tag]

    def _route(self, tag: str) -> Target | None:
        found = route(self.policies, tag)
        if found is None:
            return None
        flow = self._flows.setdefault(found.stream, Flow(found.stream))
        return Target(found.policy, found.policy.make_codec(), flow)
