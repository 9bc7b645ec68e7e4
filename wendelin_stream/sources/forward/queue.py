"""What the source holds for the runtime, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from wendelin_stream.plugin import Received

_OVERHEAD = 512
"""Bytes that an item costs besides its data."""


class ByteQueue:
    """First in, first out. `put` never waits: who puts looks at `full` and stops reading until it is called back."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[Received, int]] = deque()
        self._held = 0
        self._filled = asyncio.Event()
        self._on_room: list[Callable[[], None]] = []
        self._closed = False

    @property
    def full(self) -> bool:
        """As much as allowed is held."""
        return self._held >= self._limit

    @property
    def held(self) -> int:
        """Bytes held."""
        return self._held

    def put(self, item: Received, size: int) -> None:
        """Add an item of `size` bytes."""
        self._items.append((item, size + _OVERHEAD))
        self._held += size + _OVERHEAD
        self._filled.set()

    def when_room(self, call: Callable[[], None]) -> None:
        """Have `call` called once, when half of the room is free again."""
        self._on_room.append(call)

    async def room(self) -> None:
        """Wait until the queue is not full."""
        while self.full:
            free = asyncio.Event()
            self.when_room(free.set)
            await free.wait()

    async def take(self) -> Received | None:
        """The next item; None if there is none and there will be none."""
        while not self._items:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        item, size = self._items.popleft()
        self._held -= size
        if self._on_room and self._held <= self._limit // 2:
            calls, self._on_room = self._on_room, []
            for call in calls:
                call()
        return item

    def close(self) -> None:
        """Nothing more will be put."""
        self._closed = True
        self._filled.set()

    def clear(self) -> None:
        """Throw away what is held."""
        self._items.clear()
        self._held = 0
