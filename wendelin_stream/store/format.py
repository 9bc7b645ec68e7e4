"""What is in the files of a stream: index records, state slots, `stream.json`. Pure.

Integers are little endian. `docs/file-format.md` tells the same to those who read streams without us.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from math import lcm
from typing import Any, get_args

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.errors import Corrupt

FORMAT = 1
RECORD_BYTES = 128
INDEX_RECORDS = 65_536
INDEX_BYTES = RECORD_BYTES * INDEX_RECORDS
SLOT_BYTES = 512
STATE_BYTES = 2 * SLOT_BYTES
PAGE = 65_536  # the largest page of any machine that may map the files
NEVER = -(2**63)  # t_max before the first record

if crc32c(b"123456789") != 0xE3069283:  # RFC 3720, B.4
    raise ImportError("the crc32c package computes something else")


class Flag(IntFlag):
    """What an index record says about its rows."""

    TOMBSTONE = 1
    GAP = 2  # a hole in time before this record
    LATE = 4
    COMPRESSED = 8  # the source sent it compressed
    STAT = 16  # stat_min and stat_max are valid
    MORE = 32  # the chunk goes on in the next record: recovery keeps all of a chunk or nothing


IDX = np.dtype(
    [
        ("magic", "<u4"),
        ("rec_crc", "<u4"),
        ("seq", "<u8"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("payload_crc", "<u4"),
        ("t_first", "<i8"),
        ("t_last", "<i8"),
        ("t_max", "<i8"),
        ("t_ingest", "<i8"),
        ("count", "<u4"),
        ("flags", "<u4"),
        ("chunk_id", "V16"),
        ("producer", "<u8"),
        ("writer_epoch", "<u4"),
        ("schema", "<u4"),
        ("stat_min", "<f4"),
        ("stat_max", "<f4"),
        ("position", "<u8"),
        ("row", "<i8"),
    ]
)
"""The index record. `rec_crc` is the CRC32C of bytes 8 to 127, seeded with the previous record's `rec_crc`."""

MAGIC = int.from_bytes(b"WSi1", "little")
HEAD = struct.Struct("<II")
BODY = struct.Struct("<QQIIqqqqII16sQIIffQq")
_SLOT = struct.Struct("<IIQQQQI")  # magic, crc, generation, committed, synced, first record, writer epoch
_SLOT_MAGIC = int.from_bytes(b"WSs1", "little")

assert IDX.itemsize == HEAD.size + BODY.size == RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the next record goes: its number, its first byte, the CRC that seeds it, the latest time so far."""

    seq: int = 0
    offset: int = 0
    crc: int = 0
    t_max: int = NEVER


@dataclass(frozen=True, slots=True)
class Slot:
    """The watermark: readers see `committed` records, of which `synced` are known to be durable.

    Both are equal but under the unsafe sync policy ``os``.
    """

    generation: int = 0
    committed: int = 0
    synced: int = 0
    first_record: int = 0
    writer_epoch: int = 0

    def pack(self) -> bytes:
        """512 bytes, to be written at ``offset``."""
        body = _SLOT.pack(
            _SLOT_MAGIC, 0, self.generation, self.committed, self.synced, self.first_record, self.writer_epoch
        )[8:]
        return (HEAD.pack(_SLOT_MAGIC, crc32c(body)) + body).ljust(SLOT_BYTES, b"\0")

    @property
    def offset(self) -> int:
        """Where in the state file this generation goes: never over its predecessor."""
        return self.generation % 2 * SLOT_BYTES


def newest_slot(state: bytes) -> Slot | None:
    """The newest valid slot of a state file, None if no slot is valid."""
    found = [slot for at in (0, SLOT_BYTES) if (slot := _unpack_slot(state[at : at + _SLOT.size])) is not None]
    return max(found, key=lambda slot: slot.generation, default=None)


def _unpack_slot(data: bytes) -> Slot | None:
    if len(data) < _SLOT.size:
        return None
    magic, crc, *fields = _SLOT.unpack(data)
    return Slot(*fields) if magic == _SLOT_MAGIC and crc == crc32c(data[8:]) else None


def records(data: bytes | bytearray) -> NDArray[Any]:
    """Index bytes as records: (n,), IDX; a torn last record is left out."""
    return np.frombuffer(data, IDX, len(data) // RECORD_BYTES)


def valid_prefix(block: NDArray[Any], tail: Tail) -> int:
    """How many records from the block's beginning continue `tail`: magic, number, offset and chained CRC agree."""
    n = len(block)
    ends = block["offset"] + block["length"]
    expected = np.concatenate((np.array([tail.offset], np.uint64), ends[:-1]))[:n]
    good = (block["magic"] == MAGIC) & (block["seq"] == tail.seq + np.arange(n, dtype=np.uint64))
    good &= block["offset"] == expected
    n = n if good.all() else int(good.argmin())
    raw, crcs, seed = memoryview(block[:n].tobytes()), block["rec_crc"][:n].tolist(), tail.crc
    for k, crc in enumerate(crcs):
        if crc32c(raw[k * RECORD_BYTES + 8 : (k + 1) * RECORD_BYTES], seed) != crc:
            return k
        seed = crc
    return n


def tail_after(record: np.void) -> Tail:
    """Where the record after this one goes."""
    seq, offset, length = int(record["seq"]), int(record["offset"]), int(record["length"])
    return Tail(seq + 1, offset + length, int(record["rec_crc"]), int(record["t_max"]))


def segment_bytes(target: int, row_bytes: int) -> int:
    """Size of a data file: the smallest multiple of ``lcm(65536, row_bytes)`` that is `target` or more.

    So files are whole pages and hold whole rows; for rows of some 100 kB and an odd size they are large (and
    sparse): 65 536 rows at the worst.
    """
    unit = lcm(PAGE, row_bytes)
    return max(1, -(-target // unit)) * unit


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """`stream.json`: what never changes in a stream. created: ns UTC. seg_bytes: length of every data file."""

    uuid: str
    kind: Kind
    signal: Signal | None
    seg_bytes: int
    created: int

    @classmethod
    def new(cls, kind: Kind, signal: Signal | None, segment: int, created: int) -> StreamInfo:
        """A new stream with data files of about `segment` bytes. Raises ValueError if kind and signal disagree."""
        if (kind == "rows") != (signal is not None):
            raise ValueError(f"a stream of {kind} {'needs a' if signal is None else 'has no'} signal")
        seg_bytes = segment_bytes(segment, 1 if signal is None else signal.row_bytes)
        return cls(str(uuid.uuid4()), kind, signal, seg_bytes, created)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; 1 in an untyped stream."""
        return 1 if self.signal is None else self.signal.row_bytes

    @property
    def seed(self) -> int:
        """CRC that seeds record 0: records of another stream never validate here."""
        return crc32c(self.uuid.encode())

    def to_json(self) -> bytes:
        """The file's content."""
        content = {
            "format": FORMAT,
            "uuid": self.uuid,
            "kind": self.kind,
            "signal": None if self.signal is None else self.signal.to_json(),
            "byte_order": "little",
            "seg_bytes": self.seg_bytes,
            "index_record": RECORD_BYTES,
            "created": self.created,
        }
        return json.dumps(content, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, name: str = "") -> StreamInfo:
        """What `to_json` wrote. Raises Corrupt for anything else."""
        try:
            content: Mapping[str, Any] = json.loads(data)
            known = (content["format"], content["index_record"]) == (FORMAT, RECORD_BYTES)
            signal = None if content["signal"] is None else Signal.from_json(content["signal"])
            info = cls(content["uuid"], content["kind"], signal, content["seg_bytes"], content["created"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(f"stream.json cannot be read: {error!r}", stream=name) from error
        if not known or info.kind not in get_args(Kind):
            raise Corrupt(f"stream.json has a format or kind that this program does not know: {content}", stream=name)
        return info


def parse_attrs(data: bytes, name: str) -> dict[str, Any]:
    """The content of `attrs.json`. Raises Corrupt."""
    try:
        return dict(json.loads(data))
    except (TypeError, ValueError) as error:
        raise Corrupt(f"attrs.json cannot be read: {error!r}", stream=name) from error


def describe(kind: Kind | None, signal: Signal | None) -> str:
    """Kind and signal in words, for messages."""
    if signal is None:
        return str(kind)
    rate = "a time field" if signal.rate is None else f"{signal.rate} rows/s"
    shape: Sequence[int] = signal.shape
    units = ", ".join(f"{c} [{u}]" if u else c for c, u in zip(signal.channels, signal.units, strict=True))
    return f"rows of {signal.dtype} {tuple(shape)} with {rate}, channels {units}"
