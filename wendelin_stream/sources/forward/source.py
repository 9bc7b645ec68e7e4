"""The source `forward`: what Fluentd and Fluent Bit send, stored before it is acknowledged."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import ONE_OR_MORE, Options, Origin, Received, SourceContext
from wendelin_stream.sources.forward.connection import Connection
from wendelin_stream.sources.forward.decode import Limits
from wendelin_stream.sources.forward.modes import Unit
from wendelin_stream.sources.forward.queue import ByteQueue
from wendelin_stream.sources.forward.shared import Peer, Turn
from wendelin_stream.sources.forward.throttle import Throttle
from wendelin_stream.units import Duration, Size

log = logging.getLogger("wendelin_stream.sources.forward")

_INLINE = Limits(unpacked=1 << 19, payload=1 << 22, events=1 << 15)
_BACKLOG = 1024
_CLOSING = 1.0


def parse_address(text: str) -> tuple[str, int]:
    """``"127.0.0.1:24224"`` or ``"[::1]:24224"`` to host and port. Raises ValueError."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is ambiguous: write IPv6 addresses in brackets, like '[::1]:24224'")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r} is no address: write it like '127.0.0.1:24224'")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach us under that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


class ForwardConfig(Options):
    """Options of the source `forward`."""

    insecure: bool = Field(False, description="allow addresses that other machines reach, without key or encryption")
    listen: Annotated[tuple[str, ...], BeforeValidator(_as_list), WithJsonSchema(ONE_OR_MORE)] = Field(
        ("127.0.0.1:24224",), min_length=1, description="host:port to listen on, or a list of them"
    )
    heartbeat: bool = Field(True, description="answer UDP heartbeats on the same ports")
    buffer: Size = Field(32 << 20, ge=1 << 16, description="bytes held for the store before reading pauses")
    max_frame: Size = Field(64 << 20, ge=1 << 10, description="largest frame; the sender's chunks must fit")
    max_unpacked: Size = Field(256 << 20, ge=1 << 10, description="most that one compressed payload may unpack to")
    max_acks: Size = Field(1 << 20, ge=1 << 10, description="bytes of acks a sender may leave unread")
    max_connections: int = Field(1024, ge=1, description="senders connected at the same time")
    frame_timeout: Duration = Field(
        Fraction(60), gt=0, description="how long a frame that has begun may make no progress"
    )

    @field_validator("listen")
    @classmethod
    def _reachable(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for address in value:
            host, _ = parse_address(address)
            if not is_loopback(host) and not info.data.get("insecure"):
                raise ConfigError(
                    f"other machines can reach {address}, and senders would need no key",
                    where="listen",
                    hint="listen on 127.0.0.1, or set insecure: true if the network is trusted",
                )
        return value


class ForwardSource:
    """A server of the forward protocol (v1.5): Forward, Message, PackedForward and its compressed form, acks.

    An acknowledgement goes out when all that its frame brought is on disk, in the order of the frames. See
    `plugin.Source` for the contract.
    """

    Config: ClassVar[type[ForwardConfig]] = ForwardConfig

    def __init__(self, config: ForwardConfig, context: SourceContext) -> None:
        self._config = config
        self._name = context.name
        self._connections: dict[Peer, Connection] = {}
        self._servers: list[asyncio.Server] = []
        self._beats: list[asyncio.DatagramTransport] = []
        self._at_work: set[Connection] = set()
        self._nobody = asyncio.Event()  # is connected
        self._nobody.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._quiesced = False
        self.log = Throttle(log)
        self.queue = ByteQueue(config.buffer)
        self.turn = Turn()
        self.heavy = asyncio.Semaphore(1)
        self.inline = _INLINE
        self.full = Limits(unpacked=config.max_unpacked)
        self.max_frame = config.max_frame
        self.max_acks = config.max_acks

    # --- the contract -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Listen. Raises ConfigError that names the address if that is not possible."""
        try:
            for address in self._config.listen:
                await self._listen(address)
        except BaseException:
            await self.aclose()
            raise
        self._sweep()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each socket that listens."""
        return [sock.getsockname()[:2] for server in self._servers for sock in server.sockets]

    async def read(self) -> AsyncIterator[Received]:
        """Yield what arrives; ends after `quiesce` when all that had come is taken."""
        while (received := await self.queue.take()) is not None:
            if not (isinstance(received.origin, Peer) and received.origin.refused):
                yield received

    async def commit(self, origin: Origin, seq: int) -> None:
        """Acknowledge everything of the connection up to `seq`."""
        connection = self._connections.get(origin)  # type: ignore[call-overload]
        if connection is not None:
            connection.commit(seq)

    async def refuse(self, origin: Origin, seq: int, why: Exception) -> None:  # noqa: ARG002
        """Close the connection: no ack for this unit or a later one, and no more units of it from `read`."""
        if isinstance(origin, Peer):
            origin.refused = True
        connection = self._connections.get(origin)  # type: ignore[call-overload]
        if connection is not None:
            connection.refuse(why)

    async def quiesce(self) -> None:
        """Listen and read no more. What has come whole is still handed out by `read`, and acknowledged."""
        self._quiesced = True
        self._stop_listening()
        for connection in list(self._connections.values()):
            connection.quiesce()
        self._close_queue()

    def _close_queue(self) -> None:
        """Let `read` end when the work that has begun is done."""
        if self._quiesced and not self._at_work:
            self.queue.close()

    async def aclose(self) -> None:
        """Close everything; acks already written get a moment to leave."""
        self._stop_listening()
        self.queue.close()
        self.queue.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in list(self._connections.values()):
            connection.close()
        try:
            await asyncio.wait_for(self._nobody.wait(), _CLOSING)
        except TimeoutError:
            for connection in list(self._connections.values()):
                connection.abort()
            await self._nobody.wait()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    # --- listening ----------------------------------------------------------------------------------

    async def _listen(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        host, port = parse_address(address)
        try:
            server = await loop.create_server(lambda: Connection(self), host, port, backlog=_BACKLOG)
            self._servers.append(server)
            if self._config.heartbeat:
                for sock in server.sockets:
                    where = sock.getsockname()[:2]
                    beat, _ = await loop.create_datagram_endpoint(_Heartbeat, where, family=sock.family)
                    self._beats.append(beat)
        except OSError as error:
            raise _explained(address, error) from error

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        for beat in self._beats:
            beat.close()
        self._beats.clear()

    def _sweep(self) -> None:
        """Look for senders that hang in the middle of a frame, some times in each time-out."""
        loop = asyncio.get_running_loop()
        timeout = float(self._config.frame_timeout)
        for connection in list(self._connections.values()):
            connection.check_progress(loop.time() - timeout)
        self._sweeper = loop.call_later(timeout / 4, self._sweep)

    # --- what the connections call ------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """A sender has connected; false: there are too many."""
        if len(self._connections) >= self._config.max_connections:
            return False
        self._connections[connection.origin] = connection
        self._nobody.clear()
        return True

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        self._connections.pop(connection.origin, None)
        if not self._connections:
            self._nobody.set()

    def working(self, connection: Connection, busy: bool) -> None:
        """A connection has work left for later, or none any more."""
        if busy:
            self._at_work.add(connection)
        else:
            self._at_work.discard(connection)
            self._close_queue()

    def spawn(self, connection: Connection, unit: Unit, arrival: int) -> None:
        """Run `Connection.decode_heavy` as a task."""
        task = asyncio.get_running_loop().create_task(
            connection.decode_heavy(unit, arrival), name=f"{self._name}: {connection.origin}"
        )
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(task, connection))

    def _done(self, task: asyncio.Task[None], connection: Connection) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            connection.failed(error)


def _explained(address: str, error: OSError) -> Exception:
    """The ConfigError that says what to do, or the error itself if the user can do nothing."""
    if isinstance(error, socket.gaierror):
        return ConfigError(f"nobody knows the host of {address}", where="listen", hint="write its IP address")
    if error.errno == errno.EADDRINUSE:
        hint = "stop what listens there (ss -ltnup shows it), or choose another port"
        return ConfigError(f"{address} is in use", where="listen", hint=hint)
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{address} is no address of this machine", where="listen", hint="ip address lists them")
    if error.errno == errno.EACCES:
        return ConfigError(f"no permission to listen on {address}", where="listen", hint="choose a port above 1023")
    return error


class _Heartbeat(asyncio.DatagramProtocol):
    """Answers each datagram with one byte 00 (F8)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002
        self._transport.sendto(b"\0", addr)
