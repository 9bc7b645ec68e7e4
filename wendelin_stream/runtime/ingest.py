"""Door to disk (guarantee 1): one `Ingest` for all sources knows the policies and where each tag goes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from weakref import WeakValueDictionary

from wendelin_stream.config import Config, route
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Source
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.deadletter import DEAD_LETTER
from wendelin_stream.runtime.door import Counters, Door
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.targets import Flow, Target
from wendelin_stream.store import MAX_NAME

MOST_TAGS = 10_000
"""Tags whose target is remembered: a sender of ever new ones must not grow memory."""


class Ingest:
    """All sources' common way to disk. One per daemon; the configuration may be exchanged while it runs."""

    def __init__(self, log: Log, config: Config, budget: Budget) -> None:
        self._log = log
        self._budget = budget
        self._config = config
        self._targets: dict[str, tuple[Target | None, str]] = {}
        self._flows: WeakValueDictionary[str, Flow] = WeakValueDictionary()  # as long as a target or a unit needs it
        self.counters: dict[str, Counters] = {}

    def use(self, config: Config) -> None:
        """From now on its policies decide."""
        self._config = config
        self._targets.clear()

    def position(self, tag: str, producer: int) -> int | None:
        """How far a file is durable in the stream of its tag: what a source asks when it starts again. Any thread."""
        with suppress(BadData):
            found = route(self._config.policies.values(), tag)
            writer = self._log.writers.get(found.stream) if found else None
            return writer.position(producer) if writer else None
        return None

    async def serve(self, name: str, source: Source, stop: asyncio.Event, drain: float = 1.5) -> None:
        """Take what an opened source yields until `stop`; then answer what is on its way, within `drain` seconds.

        Returns when nothing of it is on its way to the disk any more: who opens the source anew asks for positions.
        """
        counters = self.counters.setdefault(name, Counters())
        door = Door(name, source, self.target, self._log, self._budget, counters=counters)
        try:
            async with asyncio.TaskGroup() as tasks:
                answering = tasks.create_task(door.answer(), name=f"{name}: answers")
                reading = tasks.create_task(door.read(), name=f"{name}: reads")
                await stop.wait()
                await door.finish(reading, drain)
                reading.cancel()
                answering.cancel()
        finally:
            await door.landed()

    def target(self, tag: str) -> tuple[Target | None, str]:
        """Where a tag's data goes; without a target, the reason."""
        if len(tag) > MAX_NAME:  # to look at a tag of megabytes would take seconds, to remember it as much memory
            return None, f"a tag of {len(tag)} characters is too long: a stream name has {MAX_NAME}"
        if tag not in self._targets:
            if len(self._targets) >= MOST_TAGS:
                self._targets.clear()
            self._targets[tag] = self._route(tag)
        return self._targets[tag]

    def _route(self, tag: str) -> tuple[Target | None, str]:
        try:
            found = route(self._config.policies.values(), tag)
        except BadData as why:
            return None, str(why)
        if found is None:
            return None, "no policy takes this tag"
        if found.stream.startswith(DEAD_LETTER):
            return None, f"streams named {DEAD_LETTER}* are the dead letter's own"
        if (pipeline := self._config.writer_of(found.stream)) is not None:
            return None, f"stream {found.stream} is written by pipeline {pipeline}"
        flow = self._flows.get(found.stream) or Flow(found.stream)
        self._flows[found.stream] = flow
        return Target(found.policy, found.policy.make_codec(), flow), ""
