"""The sources of a configuration, opened and supervised."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from wendelin_stream.config import SourceSpec
from wendelin_stream.plugin import Source, SourceContext
from wendelin_stream.runtime.ingest import Ingest
from wendelin_stream.runtime.supervisor import Health, supervise

logger = logging.getLogger(__name__)

CUT_OFF = 0.3
"""Seconds for the clean-up of a source that is cut off."""


@dataclass(slots=True)
class DoorRunner:
    """One configured source from `open` to `close`; after a failure it is made and opened anew."""

    spec: SourceSpec
    ingest: Ingest
    state_dir: Path
    health: Health = field(default_factory=Health)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _source: Source | None = None
    _task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Bind or connect, so that what the user must change is known before anything runs. Raises ConfigError."""
        context = SourceContext(self.spec.name, self.state_dir / self.spec.name, self.ingest.position)
        source = self.spec.make(context)
        try:
            await source.open()
        except BaseException:
            await source.aclose()
            raise
        self._source = source

    def start(self) -> None:
        """Begin to take data."""
        name = f"source {self.spec.name}"
        self._task = asyncio.create_task(supervise(name, self._work, self.health, self._stop), name=name)

    async def _work(self) -> None:
        if self._source is None:
            await self.open()
        source, self._source = self._source, None
        assert source is not None
        try:
            await self.ingest.serve(self.spec.name, source, self._stop)
        finally:
            await source.aclose()

    async def close(self, limit: float | None = None) -> None:
        """Stop taking, answer what is under way, release the address; cut it short after `limit` seconds.

        May be called again, also while an earlier call was cancelled.
        """
        self._stop.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=limit)
            if late:
                logger.warning("source %s did not end in %g s and is cut off", self.spec.name, limit)
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=CUT_OFF)
        if self._source is not None:
            source, self._source = self._source, None
            await source.aclose()
