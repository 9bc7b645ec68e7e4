"""The dead letter: what could not be stored where it was meant to go, kept durably with the reason.

One `events` stream per source, ``dead-letter.<source>``, each event ``[time, {tag, peer, reason, payload}]``. It is
bounded: when it is full such units are refused instead, never dropped behind an acknowledgement.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from wendelin_stream.errors import Retry
from wendelin_stream.plugin import Received, Rejected
from wendelin_stream.runtime.events import pack_event
from wendelin_stream.runtime.log import Log
from wendelin_stream.store import Chunk, Part, StreamWriter

logger = logging.getLogger(__name__)

DEAD_LETTER = "dead-letter."

LIMIT = 256 * 1024 * 1024
"""Bytes that one source's dead letter may hold."""

IN_THREAD = 1 << 19
"""Events are packed in a thread if they hold so many bytes."""

NAMES = 100
"""Characters of a tag that a log line shows."""


class DeadLetter:
    """The dead letter of one source."""

    def __init__(self, source: str, log: Log, limit: int | None = None) -> None:
        self._name = f"{DEAD_LETTER}{source}"
        self._log = log
        self._limit = LIMIT if limit is None else limit
        self._writer: StreamWriter | None = None
        self._next_warning: dict[str, float] = {}

    async def prepare(self, received: Received, rejected: Sequence[Rejected]) -> tuple[StreamWriter, Chunk]:
        """Where to append what was set aside, and the chunk, under the unit's own chunk id.

        Raises Retry when the dead letter is full. What is under way may go past the limit by the byte budget.
        """
        if self._writer is None or self._writer.error is not None:
            self._writer = await self._log.writer(self._name, "events")
        pack = partial(_pack, received, rejected)
        heavy = sum(len(one.data) for one in rejected) >= IN_THREAD
        events = await asyncio.to_thread(pack) if heavy else pack()
        shown = received.tag if len(received.tag) <= NAMES else f"{received.tag[:NAMES]}..."
        if self._writer.end + sum(map(len, events)) > self._limit:
            self._warn("", f"{self._name} is full ({self._limit} bytes): {received.peer} is refused from now on")
            raise Retry(f"{self._name} is full", delay=60)
        self._warn(
            f"tag {shown}",
            f"{len(rejected)} from {received.peer or 'a sender'} with tag {shown!r} set aside in {self._name}: "
            f"{rejected[0].reason}",
        )
        now = received.t_arrival
        return self._writer, Chunk([Part(events, len(events), now, now)], received.chunk_id, t_ingest=now)

    def _warn(self, subject: str, text: str) -> None:
        """Log, at most once a minute about the same subject."""
        now = time.monotonic()
        if now >= self._next_warning.get(subject, 0.0):
            if len(self._next_warning) > 1000:
                self._next_warning.clear()
            self._next_warning[subject] = now + 60
            logger.warning("%s", text)


def _pack(received: Received, rejected: Sequence[Rejected]) -> list[bytes]:
    tag, peer = _packable(received.tag), _packable(received.peer)
    return [
        pack_event(
            received.t_arrival,
            {"tag": tag, "peer": peer, "reason": _packable(one.reason), "payload": bytes(one.data)},
        )
        for one in rejected
    ]


def _packable(text: str) -> str:
    """The text as it is if its surrogates are bytes that are not UTF-8, else with its surrogates written out."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text
