"""Where chunks go: (tail, chunks) -> index records and payload, and runs of bytes cut at file borders. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crc32c import crc32c

from wendelin_stream.store.chunk import Chunk, Part
from wendelin_stream.store.format import BODY, HEAD, MAGIC, Flag, Tail
from wendelin_stream.store.fs import Piece

_MORE = int(Flag.MORE)
_NO_ID = bytes(16)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write at the old tail: payload pieces, index records, the byte end of each chunk, the new tail."""

    pieces: list[Piece]
    records: bytes
    ends: list[int]
    tail: Tail


def lay_out(tail: Tail, chunks: Sequence[Chunk], epoch: int) -> Plan:
    """Lay chunks out behind `tail`. Raises struct.error if a number of a chunk leaves its field's range."""
    seq, offset, seed, t_max = tail.seq, tail.offset, tail.crc, tail.t_max
    pieces: list[Piece] = []
    out: list[bytes] = []
    ends: list[int] = []
    for chunk in chunks:
        chunk_id = chunk.chunk_id or _NO_ID
        last = len(chunk.parts) - 1
        for k, part in enumerate(chunk.parts):
            length, crc = _gather(part, pieces)
            t_max = max(t_max, part.t_last)
            body = BODY.pack(
                *(seq, offset, length, crc, part.t_first, part.t_last, t_max, chunk.t_ingest, part.count),
                *(part.flags if k == last else part.flags | _MORE, chunk_id, chunk.producer, epoch, 0, 0.0, 0.0),
                *(chunk.position if k == last else 0, part.row),
            )
            seed = crc32c(body, seed)
            out.append(HEAD.pack(MAGIC, seed))
            out.append(body)
            seq += 1
            offset += length
        ends.append(offset)
    return Plan(pieces, b"".join(out), ends, Tail(seq, offset, seed, t_max))


def _gather(part: Part, pieces: list[Piece]) -> tuple[int, int]:
    """Append the part's data to `pieces`; its length and CRC32C."""
    length, crc = 0, part.crc or 0
    for buffer in part.data:
        piece = buffer
        if type(buffer) is memoryview:
            piece = buffer.cast("B") if buffer.nbytes else b""
        if not piece:
            continue
        if part.crc is None:
            crc = crc32c(piece, crc)
        length += len(piece)
        pieces.append(piece)
    return length, crc


def cut(pieces: Sequence[Piece], offset: int, file_bytes: int) -> Iterator[tuple[int, int, Sequence[Piece]]]:
    """Runs ``(file number, offset in it, pieces)`` of bytes from `offset` on of equal files; no piece is empty."""
    number, inside = divmod(offset, file_bytes)
    if inside + sum(map(len, pieces)) <= file_bytes:
        if pieces:
            yield number, inside, pieces
        return
    run: list[Piece] = []
    room, begin = file_bytes - inside, inside
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) >= room:
            run.append(rest[:room])
            yield number, begin, run
            rest, run = rest[room:], []
            number, begin, room = number + 1, 0, file_bytes
        if len(rest):
            run.append(rest)
            room -= len(rest)
    if run:
        yield number, begin, run
