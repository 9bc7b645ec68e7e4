"""The pipelines of a configuration: one supervised instance for each stream that matches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from wendelin_stream.config import Config, PipelineSpec
from wendelin_stream.config.flows import in_order_of_flow
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import OperatorContext
from wendelin_stream.runtime.budget import Budget
from wendelin_stream.runtime.log import Log
from wendelin_stream.runtime.pipeline import OUTPUT, Pipeline, Progress
from wendelin_stream.runtime.supervisor import Health, supervise

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Instance:
    """One pipeline on one stream."""

    source: str
    target: str
    progress: Progress
    health: Health
    task: asyncio.Task[None]


@dataclass(slots=True)
class PipelineRunner:
    """All instances of one configured pipeline."""

    spec: PipelineSpec
    log: Log
    context: OperatorContext
    executor: Executor
    budget: Budget = field(default_factory=lambda: Budget(OUTPUT))
    instances: dict[str, Instance] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _unwatch: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Take up every stream that matches, now and as they appear."""
        self._unwatch = self.log.watch(self._see)

    def _see(self, stream: str) -> None:
        if stream in self.instances or not self.spec.from_.matches(stream):
            return
        name = f"pipeline {self.spec.name} on {stream}"
        try:
            target = self.spec.output(stream)
        except BadData as why:
            logger.error("%s cannot run: %s", name, why)  # noqa: TRY400 - the text says all
            return
        pipeline = Pipeline(self.spec, stream, target, self.log, self.context, self.executor, self._stop, self.budget)
        health = Health()
        task = asyncio.create_task(supervise(name, pipeline.run, health, self._stop), name=name)
        self.instances[stream] = Instance(stream, target, pipeline.progress, health, task)

    def revive(self) -> None:
        """Try again with what was parked: somebody may have mended it."""
        for stream in [name for name, one in self.instances.items() if one.health.state == "parked"]:
            del self.instances[stream]
            self._see(stream)

    async def close(self, limit: float) -> None:
        """Let the instances use up their input, `limit` seconds at most; what is left is done after the next start."""
        self._unwatch()
        self._stop.set()
        tasks = [instance.task for instance in self.instances.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=limit)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_order(config: Config, runners: Mapping[str, PipelineRunner]) -> list[PipelineRunner]:
    """The runners so that each comes behind those whose output it reads."""
    names, _ = in_order_of_flow(config)
    return [runners[name] for name in dict.fromkeys([*names, *runners]) if name in runners]
