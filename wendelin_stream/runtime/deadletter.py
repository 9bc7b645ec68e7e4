"""The dead letter: what could not be stored where it was meant to go, kept durably with the reason.

One `events` stream per source, ``dead-letter.<source>``, each event ``[time, {tag, peer, reason, payload}]``. It is
bounded: when it is full such units are refused instead, never dropped behind an acknowledgement.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from wendelin_stream.errors import Retry
from wendelin_stream.plugin import Received, Rejected
from wendelin_stream.runtime.events import pack_event
from wendelin_stream.runtime.log import Log
from wendelin_stream.store import Chunk, Part, StreamWriter

logger = logging.getLogger(__name__)

DEAD_LETTER = "dead-letter."

LIMIT = 256 * 1024 * 1024
"""Bytes that one source's dead letter may hold."""

Submit = Callable[[StreamWriter, Chunk], None]


class DeadLetter:
    """The dead letter of one source."""

    def __init__(self, source: str, log: Log, limit: int = LIMIT) -> None:
        self._name = f"{DEAD_LETTER}{source}"
        self._log = log
        self._limit = limit
        self._writer: StreamWriter | None = None
        self._next_warning: dict[str, float] = {}

    async def keep(self, received: Received, rejected: Sequence[Rejected], submit: Submit) -> None:
        """Append what was set aside, under the unit's own chunk id. Raises Retry when the dead letter is full."""
        if self._writer is None:
            self._writer = await self._log.writer(self._name, "events")
        events = [self._event(received, one) for one in rejected]
        if self._writer.end + sum(map(len, events)) > self._limit:
            self._warn("full", f"{self._name} is full ({self._limit} bytes): {received.peer} is refused from now on")
            raise Retry(f"{self._name} is full", delay=60)
        self._warn(
            received.tag,
            f"{len(rejected)} from {received.peer or 'a sender'} with tag {received.tag!r} set aside in {self._name}: "
            f"{rejected[0].reason}",
        )
        now = received.t_arrival
        submit(self._writer, Chunk([Part(events, len(events), now, now)], received.chunk_id, t_ingest=now))

    @staticmethod
    def _event(received: Received, one: Rejected) -> bytes:
        record = {
            "tag": received.tag,
            "peer": received.peer,
            "reason": one.reason,
            "payload": bytes(one.data),
        }
        return pack_event(received.t_arrival, record)

    def _warn(self, subject: str, text: str) -> None:
        """Log, at most once a minute about the same tag."""
        now = time.monotonic()
        if now >= self._next_warning.get(subject, 0.0):
            if len(self._next_warning) > 1000:
                self._next_warning.clear()
            self._next_warning[subject] = now + 60
            logger.warning("%s", text)
