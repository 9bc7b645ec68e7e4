"""A frame to what is stored, set aside and acknowledged. Pure; runs on the event loop or, if heavy, in a thread."""

from __future__ import annotations

from dataclasses import dataclass

from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Events, Rejected
from wendelin_stream.sources.forward.events import Checked, Heavy, check, check_one, walk
from wendelin_stream.sources.forward.gunzip import TooLarge, gunzip
from wendelin_stream.sources.forward.jsontext import to_msgpack
from wendelin_stream.sources.forward.modes import Frame, Junk, Messages, Mode, Text, Unit, read_frame
from wendelin_stream.sources.forward.wire import Option, chunk_id, crc_of, read_option, unpacker

_SHORT_TEXT = 1 << 16
_SIGNALS = {1: "metrics", 2: "traces", 3: "blobs", 4: "profiles"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work a frame may be: content of a compressed payload, payload, both in bytes, and events."""

    unpacked: int
    payload: int | None = None
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a frame came to. chunk: the chunk object's bytes, b"" if no ack was asked for."""

    tag: str
    events: Events
    rejected: tuple[Rejected, ...] = ()
    chunk: bytes = b""
    chunk_id: bytes = b""

    @property
    def empty(self) -> bool:
        """There is nothing to store."""
        return not self.events.count and not self.rejected

    @property
    def size(self) -> int:
        """Bytes that it holds in memory."""
        return len(self.events.data) + sum(len(r.data) for r in self.rejected)


def decode(unit: Unit, arrival: int, limits: Limits) -> Decoded | Junk:
    """What `unit` brings; Junk if it is no frame.

    arrival: ns UTC. Raises BadData if the frame must be refused (F29), Heavy if it goes past limits that are for the
    event loop (`payload`, `events`).
    """
    if isinstance(unit, Messages):
        checked = check(memoryview(unit.data), [unit.bounds], arrival, limits.events)
        return Decoded(_name(unit.tag), _events(checked), checked.rejected)
    if isinstance(unit, Text):
        if limits.payload is not None and len(unit.data) > _SHORT_TEXT:
            raise Heavy
        unit = read_frame(memoryview(to_msgpack(unit.data)), unit.offset)
    if isinstance(unit, Junk):
        return unit
    if limits.payload is not None and len(unit.data) > limits.payload:
        raise Heavy
    return _MODES[unit.mode](unit, arrival, limits)


def _packed(frame: Frame, arrival: int, limits: Limits) -> Decoded:
    payload = frame.data[frame.start : frame.stop]
    option = _option(frame.data[frame.stop :])
    content = _unpacked(payload, option.compressed, limits)
    checked = check(content, walk(content), arrival, limits.events)
    return _decoded(frame, option, checked, payload, as_received=content is payload)


def _unpacked(payload: memoryview, compressed: str, limits: Limits) -> memoryview:
    if compressed in {"", "text"} or not len(payload):
        return payload
    if compressed != "gzip":
        raise BadData(f"compressed with {compressed!r}: only gzip is understood")
    try:
        return memoryview(gunzip(payload, limits.unpacked))
    except TooLarge:
        if limits.payload is not None:
            raise Heavy from None
        raise


def _forward(frame: Frame, arrival: int, limits: Limits) -> Decoded:
    data = frame.data[frame.start :]
    checked = check(data, walk(data, frame.entries), arrival, limits.events)
    option = _option(data[checked.end :] if frame.elements > 2 else data[:0])
    return _decoded(frame, option, checked, data[: checked.end], as_received=True)


def _message(frame: Frame, arrival: int, _: Limits) -> Decoded:
    data = frame.data[frame.start :]
    walker = unpacker()
    walker.feed(data)
    walker.skip()
    time_end = record_end = walker.tell()
    if frame.elements > 2:
        walker.skip()
        record_end = walker.tell()
    option = _option(data[record_end:] if frame.elements > 3 else data[:0])
    time, record = bytes(data[:time_end]), data[time_end:record_end]
    if frame.elements == 2:
        event = b"\x91" + time  # no record: an event that is set aside
    elif option.metadata:
        event = b"".join((b"\x92\x92", time, option.metadata, record))
    else:
        event = b"".join((b"\x92", time, record))
    return _decoded(frame, option, check_one(event, arrival), memoryview(event), as_received=True)


def _option(rest: memoryview) -> Option:
    option = read_option(rest)
    if option.signal:
        kind = _SIGNALS.get(option.signal, f"signal {option.signal}")
        raise BadData(f"the payload holds {kind}, not log events")
    return option


def _decoded(frame: Frame, option: Option, checked: Checked, payload: memoryview, as_received: bool) -> Decoded:
    crc = crc_of(payload) if option.chunk else None
    identity = b"" if crc is None else chunk_id(frame.tag, option.chunk, len(payload), crc)
    if frame.bad_tag:
        aside = (Rejected(bytes(frame.data), frame.bad_tag),)
        nothing = Events(b"", 0, checked.t_first, checked.t_last)
        return Decoded("", nothing, aside, option.chunk, identity)
    events = _events(checked, crc if as_received and checked.intact else None)
    return Decoded(_name(frame.tag), events, checked.rejected, option.chunk, identity)


def _events(checked: Checked, crc: int | None = None) -> Events:
    data = checked.data if checked.count else b""
    return Events(data, checked.count, checked.t_first, checked.t_last, crc if checked.count else None)


def _name(tag: bytes) -> str:
    return tag.decode("utf-8", "surrogateescape")


_MODES = {Mode.PACKED: _packed, Mode.FORWARD: _forward, Mode.MESSAGE: _message}
