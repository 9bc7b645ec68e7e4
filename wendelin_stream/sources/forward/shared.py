"""What the connections of one source have in common."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from wendelin_stream.sources.forward.decode import Limits
from wendelin_stream.sources.forward.modes import Unit
from wendelin_stream.sources.forward.queue import ByteQueue
from wendelin_stream.sources.forward.throttle import Throttle

if TYPE_CHECKING:
    from wendelin_stream.sources.forward.connection import Connection

TURN = 0.004


class Peer:
    """The origin of what a connection brings; its text is the sender's address.

    refused: nothing more of it is to be stored, also what still waits to be taken.
    """

    __slots__ = ("name", "refused")

    def __init__(self, address: object) -> None:
        """address: as the socket names it: host, port and more, or something else."""
        self.refused = False
        self.name = str(address or "?")
        if isinstance(address, tuple) and len(address) >= 2:
            self.name = f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"

    def __str__(self) -> str:
        return self.name


class Turn:
    """The time that all connections together may take from one pass of the event loop.

    uvloop reads a socket up to 32 times in one pass; without a limit the rest of the daemon would wait.
    """

    def __init__(self, seconds: float = TURN) -> None:
        self._seconds = seconds
        self._until = 0.0

    def over(self) -> bool:
        """Whether the rest has to wait for the next pass."""
        now = time.perf_counter()
        if not self._until:
            self._until = now + self._seconds
            asyncio.get_running_loop().call_soon(self._end)
        return now > self._until

    def _end(self) -> None:
        self._until = 0.0


class Shared(Protocol):
    """The source, as its connections see it."""

    queue: ByteQueue
    log: Throttle
    turn: Turn
    heavy: asyncio.Semaphore
    inline: Limits
    full: Limits
    max_frame: int
    max_acks: int

    def opened(self, connection: Connection) -> bool:
        """A sender has connected; false: there are too many."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""

    def working(self, connection: Connection, busy: bool) -> None:
        """It has work left for later, or none any more."""

    def spawn(self, connection: Connection, frame: Unit, arrival: int) -> None:
        """Run `Connection.decode_heavy` as a task."""
