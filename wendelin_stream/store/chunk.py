"""What is appended: a `Chunk`, stored whole or not at all, of one or more `Part`s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Buffer
from wendelin_stream.store.format import Flag

_PLAIN = Flag(0)
_FORMATS = frozenset("cbB?hHiIlLqQnNefdP")  # what `memoryview.cast` takes


@dataclass(frozen=True, slots=True)
class Part:
    """One index record to be.

    data: payload pieces, not copied before they are written; they must not change until the ticket is done.
    count: rows or events.  t_first, t_last: ns UTC.  row: rows from the time anchor to the first row, so that
    ``anchor = t_first - ticks(row, rate)``.  crc: crc32c of all the data if it is already known.
    """

    data: Sequence[Buffer]
    count: int = 0
    t_first: int = 0
    t_last: int = 0
    row: int = 0
    flags: Flag = _PLAIN
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is stored whole or not at all; a single part without data is a checkpoint.

    chunk_id: 16 bytes, the same when the same chunk is sent again, or b"".  producer, position: unsigned 64-bit,
    who made it and how far that one got; kept in the last part's record.  t_ingest: ns UTC.
    """

    parts: Sequence[Part]
    chunk_id: bytes = b""
    producer: int = 0
    position: int = 0
    t_ingest: int = 0


def check_chunk(chunk: Chunk, row_bytes: int | None) -> None:
    """Raise BadData if the chunk cannot be stored in a stream with rows of that many bytes (None: untyped)."""
    if not chunk.parts:
        raise BadData("a chunk needs a part")
    if chunk.chunk_id and len(chunk.chunk_id) != 16:
        raise BadData(f"a chunk id has 16 bytes, not {len(chunk.chunk_id)}")
    for part in chunk.parts:
        length = sum(map(_bytes, part.data))
        if row_bytes is not None and length != part.count * row_bytes:
            raise BadData(f"{length} bytes are not {part.count} rows of {row_bytes} bytes")


def _bytes(piece: object) -> int:
    """Bytes of a payload piece. Raises BadData for what could not be written."""
    if isinstance(piece, bytes | bytearray):
        return len(piece)
    if isinstance(piece, memoryview) and piece.c_contiguous and piece.ndim and piece.format in _FORMATS:
        return piece.nbytes
    raise BadData("payload pieces are bytes or contiguous memoryviews of plain numbers")
