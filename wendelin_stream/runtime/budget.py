"""Memory bounded in bytes: what came in and is not durable yet (guarantee 5)."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """Bytes that may be under way at once; `take` waits, first come first served.

    One unit larger than the whole budget is let through alone, so that nothing waits for ever.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def _fits(self, size: int) -> bool:
        return self.used == 0 or self.used + size <= self.limit

    async def take(self, size: int) -> None:
        """Reserve `size` bytes, waiting until they fit."""
        if not self._waiting and self._fits(size):
            self.used += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)  # our turn had come just before
            else:
                self._waiting.remove(entry)
                self._wake()
            raise

    def add(self, size: int) -> None:
        """Reserve `size` bytes more for something that is under way already; others wait until they are given."""
        self.used += size

    def give(self, size: int) -> None:
        """Return `size` bytes."""
        self.used -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self.used += size
            turn.set_result(None)
