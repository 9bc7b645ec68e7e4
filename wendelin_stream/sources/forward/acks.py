"""Which acks are due: one window per connection (F31, F33)."""

from __future__ import annotations

from collections import deque


class AckWindow:
    """Acks in the order of their frames, each withheld until all that its frame and the earlier ones brought is stored.

    Pure. `waiting` are the bytes of acks withheld.
    """

    def __init__(self) -> None:
        self._acks: deque[tuple[int, bytes]] = deque()
        self._issued = 0
        self._committed = 0
        self._refused = False
        self.waiting = 0

    @property
    def idle(self) -> bool:
        """Nothing is on its way to the disk."""
        return self._refused or self._issued == self._committed

    def issue(self, ack: bytes) -> int:
        """The sequence number for the next unit to be stored; `ack` (b"": none was asked) is due when it is."""
        self._issued += 1
        self._add(ack)
        return self._issued

    def settle(self, ack: bytes) -> bytes:
        """For a frame that brought nothing to store (F15): its ack follows the earlier frames'. Returns what is due."""
        if self.idle and not self._refused:
            return ack
        self._add(ack)
        return b""

    def _add(self, ack: bytes) -> None:
        if ack and not self._refused:
            self._acks.append((self._issued, ack))
            self.waiting += len(ack)

    def commit(self, seq: int) -> bytes:
        """Everything up to `seq` is stored: the acks now due, oldest first, for one write. Numbers may be left out."""
        if self._refused or seq <= self._committed:
            return b""
        self._committed = min(seq, self._issued)
        due = []
        while self._acks and self._acks[0][0] <= seq:
            due.append(self._acks.popleft()[1])
        self.waiting -= sum(map(len, due))
        return b"".join(due)

    def refuse(self) -> None:
        """A unit will not be stored: from here on there are no acks on this connection (F29)."""
        self._refused = True
        self._acks.clear()
        self.waiting = 0
