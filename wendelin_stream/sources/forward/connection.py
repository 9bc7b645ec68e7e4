"""One sender's connection: bytes in, units to the source, acks out, in order."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from itertools import chain
from typing import cast

from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Received
from wendelin_stream.sources.forward.acks import AckWindow
from wendelin_stream.sources.forward.decode import Decoded, decode
from wendelin_stream.sources.forward.events import Heavy
from wendelin_stream.sources.forward.frames import Block, FrameReader
from wendelin_stream.sources.forward.jsontext import TextReader
from wendelin_stream.sources.forward.modes import Frame, Junk, Unit, texts, units
from wendelin_stream.sources.forward.shared import Peer, Shared
from wendelin_stream.sources.forward.wire import binary_ack, text_ack

LINGER = 2.0
"""Seconds in which a peer may read the last acks before a refused connection is cut."""
_QUIET = 1.0
_QUIET_CHECKS = 60
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
_SCRATCH = 1 << 16


class Connection(asyncio.BufferedProtocol):
    """A sender that has connected.

    Reading stops while work is left over, the source holds too much, or too many acks wait for the disk; so one
    connection holds one read or one frame besides what the source counts.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: FrameReader | TextReader = FrameReader(shared.max_frame)
        self._fresh = True  # no byte has come
        self._window = AckWindow()
        self._work: Iterator[tuple[Unit, int]] | None = None
        self._busy = False  # a thread or a later turn goes on with the work
        self._at_work = False
        self._broken = False  # no more frames are taken from this sender
        self._finished = False  # the sender sends no more
        self._quiesced = False
        self._lingering = False
        self._muted = False  # the sender reads no acks
        self._reading = True
        self._stalled = False
        self._progress = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.origin = Peer(None)

    # --- what asyncio calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A sender has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self.origin = Peer(transport.get_extra_info("peername"))
        self._keep_alive(transport.get_extra_info("socket"))
        if not self._shared.opened(self):
            self._shared.log.warning(f"{self.origin}: refused, there are too many connections")
            self._transport.abort()

    @staticmethod
    def _keep_alive(sock: socket.socket) -> None:
        """Notice within two minutes that a sender has vanished without a word."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go."""
        return memoryview(bytearray(_SCRATCH)) if self._broken else self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self._progress = self._loop.time()
        if self._broken:
            return  # lingering: nobody wants them
        reader = self._reader
        if self._fresh and isinstance(reader, FrameReader):
            self._fresh = False
            if reader.peek(1) in {b"[", b"{"}:
                self._reader = TextReader(self._shared.max_frame)
                self._take(self._reader.take(reader.peek(nbytes)))
                return
        self._take(reader.received(nbytes))

    def eof_received(self) -> bool:
        """The sender sends no more; what it sent is stored and acknowledged before we close too."""
        if self._lingering:
            return False
        self._finished = True
        self._settle()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The sender is gone; what came whole is stored all the same."""
        if self._reader.partial and not self._broken:
            self._shared.log.info(f"{self.origin}: gone with {self._reader.partial} bytes of a frame")
        self._finished = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._shared.closed(self)

    # --- frames to units ----------------------------------------------------------------------------

    def _take(self, block: Block | None) -> None:
        if block is None:
            return
        split = texts if isinstance(self._reader, TextReader) else units
        arrival = time.time_ns()
        fresh = ((unit, arrival) for unit in split(block))
        self._work = chain(self._work, fresh) if self._work else fresh
        if block.broken:
            self._work = chain(self._work, self._break(block))
        self._run()

    def _break(self, block: Block) -> Iterator[tuple[Unit, int]]:
        """The end of the work: what follows cannot be read (F6)."""
        end = block.offset + (block.ends[-1] if block.ends else 0)
        self._refuse(f"at byte {end}: {block.broken}")
        yield from ()

    def _run(self) -> None:
        """Go on with the work until it is done, or too much for now."""
        while self._work is not None and not self._busy:
            if self._shared.turn.over():
                self._busy = True
                self._loop.call_soon(self._go_on)
                break
            unit, arrival = next(self._work, _NO_WORK)
            if unit is None:
                self._work = None
            elif not self._decode(unit, arrival):
                self._busy = True
                self._shared.spawn(self, unit, arrival)
        self._settle()

    def _go_on(self) -> None:
        self._busy = False
        self._run()

    def _decode(self, unit: Unit, arrival: int) -> bool:
        """Deal with the unit; false if it is too much for the event loop."""
        try:
            self._deliver(decode(unit, arrival, self._shared.inline), arrival)
        except Heavy:
            return False
        except BadData as error:
            self._refuse_unit(unit, error)
        return True

    async def decode_heavy(self, unit: Unit, arrival: int) -> None:
        """Deal with the unit in a thread, when there is room for what it brings."""
        async with self._shared.heavy:
            await self._shared.queue.room()
            try:
                decoded = await asyncio.to_thread(decode, unit, arrival, self._shared.full)
            except BadData as error:
                self._refuse_unit(unit, error)
            else:
                self._deliver(decoded, arrival)
        self._go_on()

    def failed(self, error: BaseException) -> None:
        """A fault of ours while a unit was dealt with: it is refused, others go on."""
        self._refuse(f"a fault of ours: {error!r}")
        self._go_on()

    def _deliver(self, decoded: Decoded | Junk, arrival: int) -> None:
        if isinstance(decoded, Junk):
            self._shared.log.warning(f"{self.origin}: skipped at byte {decoded.offset}: {decoded.what}")
            return
        answer = text_ack if isinstance(self._reader, TextReader) else binary_ack
        ack = answer(decoded.chunk) if decoded.chunk else b""
        if decoded.empty:
            self._write(self._window.settle(ack))
            return
        received = Received(
            origin=self.origin,
            seq=self._window.issue(ack),
            tag=decoded.tag,
            body=decoded.events,
            t_arrival=arrival,
            chunk_id=decoded.chunk_id,
            peer=self.origin.name,
            rejected=decoded.rejected,
        )
        self._shared.queue.put(received, decoded.size)

    def _refuse_unit(self, unit: Unit, error: BadData) -> None:
        tag = unit.tag.decode("utf-8", "backslashreplace") if isinstance(unit, Frame) else ""
        self._refuse(f"tag {tag!r} at byte {unit.offset}: {error}")

    def _refuse(self, why: str) -> None:
        """Take nothing more; close when the acks of what came before are out (F29)."""
        self._shared.log.warning(f"{self.origin}: frame refused, connection closes: {why}")
        self._broken = True
        self._work = None

    # --- what the source calls ----------------------------------------------------------------------

    def commit(self, seq: int) -> None:
        """Everything up to `seq` is stored."""
        self._write(self._window.commit(seq))
        self._settle()

    def refuse(self, why: Exception) -> None:
        """A unit was not stored; everything before it has been dealt with."""
        self._window.refuse()
        if not self._broken:
            self._refuse(f"not stored: {why}")
        self._settle()

    def quiesce(self) -> None:
        """Read no more."""
        self._quiesced = True
        self._steer()

    def check_progress(self, deadline: float) -> None:
        """Close if the sender has begun a frame and sent nothing since `deadline` (loop time) though we read."""
        if self._reading and self._reader.partial and not self._broken and self._progress < deadline:
            self._refuse(f"no progress in a frame of which {self._reader.partial} bytes came")
            self._settle()

    def close(self) -> None:
        """Close when what has been written is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    # --- reading, writing, closing ------------------------------------------------------------------

    def _settle(self) -> None:
        """Close if nothing is left to do, else read or do not read."""
        at_work = self._work is not None or self._busy
        if at_work != self._at_work:
            self._at_work = at_work
            self._shared.working(self, at_work)
        if not at_work and self._window.idle and (self._broken or self._finished) and not self._lingering:
            self._close()
        self._steer()

    def _close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._lingering = True
        self._timer = self._loop.call_later(LINGER, transport.abort)
        if self._finished or not transport.can_write_eof():
            transport.close()
        else:  # a close with unread bytes would reset the connection and might destroy acks on their way
            transport.write_eof()

    def _steer(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        queue = self._shared.queue
        ready = self._work is None and not self._busy and self._window.waiting <= self._shared.max_acks
        want = self._lingering or (ready and not (self._broken or self._finished or self._quiesced or queue.full))
        if queue.full and not self._stalled:
            self._stalled = True
            queue.when_room(self._on_room)
        if want and not self._reading:
            self._progress = self._loop.time()
            transport.resume_reading()
        elif self._reading and not want:
            transport.pause_reading()
        self._reading = want

    def _on_room(self) -> None:
        self._stalled = False
        self._steer()

    def _write(self, acks: bytes) -> None:
        transport = self._transport
        if not acks or transport is None or transport.is_closing() or self._muted:
            return
        if transport.get_write_buffer_size() + len(acks) > self._shared.max_acks:
            self._shared.log.warning(f"{self.origin}: reads no acks, connection closes")
            self._muted = True
            self._wait_for_quiet()
            return
        transport.write(acks)

    def _wait_for_quiet(self, left: int = _QUIET_CHECKS) -> None:
        """Cut the connection when nothing comes any more: what was on its way is stored (F35)."""
        if self._transport is None or self._finished or self._broken:
            return
        quiet = self._reading and self._loop.time() - self._progress >= _QUIET
        if quiet or not left:
            self._transport.abort()
            return
        left -= self._reading
        self._timer = self._loop.call_later(_QUIET, self._wait_for_quiet, left)


_NO_WORK: tuple[None, int] = (None, 0)
