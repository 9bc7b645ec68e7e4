"""`wav`: WAV recordings, whole or while they are being written.

Read: RIFF/WAVE and RF64 with integers of 8 (unsigned), 16, 24 and 32 bit or IEEE floats of 32 and 64 bit, also as
WAVE_FORMAT_EXTENSIBLE. Source: Multimedia Programming Interface and Data Specifications 1.0 (1991); Multiple Channel
Audio Data and WAVE Files (2007); EBU Tech 3306 (RF64).

A recording in progress has a header that lies about its length, so the length of the file is what counts: everything
behind the header is samples. One thing behind the stated end is not: further chunks (LIST, cue, ...), where the header
says that the RIFF goes on behind the samples and a chain of chunks really runs from the one end to the other. Both
signs are needed, as a recorder may be caught between its updates of the two sizes. The bytes in question are left over
until it is clear what they are, so a run of more than 256 KiB (`OTHERS`) is taken for samples. The place of a piece
is all the memory that this needs: one that begins behind the stated end is samples, or is behind those chunks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydantic import Field

from wendelin_stream.batch import Batch, Signal
from wendelin_stream.codecs.pcm import samples_of
from wendelin_stream.codecs.samples import SampleFormat, channel_names, channel_units, whole_rows
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Decoded, Message, Options
from wendelin_stream.units import Frequency

HEAD: Final = 64 * 1024
"""The samples must begin within so many bytes: what a source gives as `head`."""
OTHERS: Final = 256 * 1024
"""Longest run of chunks behind the samples that is told from samples."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBFORMAT: Final = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")  # behind the two bytes of the format tag


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What stands before the samples.

    rate: Hz.  start: file position of the first sample.  size: stated bytes of samples, riff_end: stated end of the
    file; None where the header does not know.
    """

    format: SampleFormat
    channels: int
    rate: int
    start: int
    size: int | None
    riff_end: int | None

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.format.size * self.channels

    @property
    def others(self) -> tuple[int, int] | None:
        """From where to where further chunks lie behind the samples, if the header can be believed; or None."""
        if self.size is None or self.riff_end is None:
            return None
        stop = self.start + self.size
        return (stop, self.riff_end) if stop < self.riff_end <= stop + OTHERS else None


@lru_cache(maxsize=64)
def parse_header(head: bytes) -> WavHeader | None:
    """The header of a file that begins with `head`; None if more bytes of it are needed.

    Raises BadData if it is no WAV file, or none that can be read.
    """
    magic = head[:4]
    if not (b"RIFF".startswith(magic) or b"RF64".startswith(magic)) or not b"WAVE".startswith(head[8:12]):
        raise BadData(f"not a WAV file: it begins with {head[:12]!r}")
    riff = _stated(head[4:8])
    fields: tuple[SampleFormat, int, int] | None = None
    long_size: int | None = None
    at = 12
    while at + 8 <= len(head):
        name, body = head[at : at + 4], at + 8
        size = int.from_bytes(head[at + 4 : body], "little")
        if name == b"data":
            if fields is None:
                raise BadData("no WAV file that can be read: the samples come before the fmt chunk")
            stated = _stated(head[at + 4 : body]) or long_size
            return WavHeader(*fields, start=body, size=stated, riff_end=None if riff is None else riff + 8)
        if body + size > len(head):
            return None
        if name == b"fmt ":
            fields = _format(head[body : body + size])
        elif name == b"ds64" and size >= 16 and magic == b"RF64":
            riff, long_size = _stated(head[body : body + 8]), _stated(head[body + 8 : body + 16])
        at = body + size + size % 2
    return None


def _stated(field: bytes) -> int | None:
    """A length, None where it is 0 or all ones: the writer does not know it yet."""
    return None if field in (bytes(len(field)), b"\xff" * len(field)) else int.from_bytes(field, "little")


def _format(chunk: bytes) -> tuple[SampleFormat, int, int]:
    """Sample format, channels and rate of a fmt chunk. Raises BadData with the field that is impossible."""
    if len(chunk) < 16:
        raise BadData(f"impossible WAV header: a fmt chunk of {len(chunk)} bytes")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _SUBFORMAT:
            raise BadData("the WAV file's samples are of a kind of their own (unknown extensible sub-format)")
        tag = int.from_bytes(chunk[24:26], "little")
    if channels == 0 or rate == 0:
        raise BadData(f"impossible WAV header: {channels} channels at {rate} Hz")
    size = (bits + 7) // 8
    if tag not in (_PCM, _FLOAT):
        raise BadData(f"WAV format {tag:#06x} is compressed or unknown: only PCM and IEEE float can be read")
    if size not in ((1, 2, 3, 4) if tag == _PCM else (4, 8)):
        raise BadData(f"WAV samples of {bits} bits {'PCM' if tag == _PCM else 'float'} cannot be read")
    if align != channels * size:
        raise BadData(f"impossible WAV header: {channels} channels of {bits} bits do not fill rows of {align} bytes")
    kind = "f" if tag == _FLOAT else "u" if size == 1 else "i"
    return SampleFormat(kind, size), channels, rate


class Wav:
    """WAV files: dtype, channels and rate come from the header.

    Samples are stored as they are: int16 as int16, 8 bit as uint8 with its offset of 128, 24 bit as int32 of the same
    value (`bits` among the signal's attributes is 24: full scale is 2**23), floats as floats.
    """

    class Config(Options):
        """Options of the `wav` codec."""

        channels: tuple[str, ...] | None = Field(
            default=None, description="names of the channels; without it ch1, ch2, ..."
        )
        rate: Frequency | None = Field(
            default=None, description="rows per second, instead of the header's whole number of hertz"
        )
        unit: str | tuple[str, ...] = Field(default="", description="unit of all channels, or a list with one for each")

    signal: None = None  # the file tells

    def __init__(self, config: Config) -> None:
        self._config = config

    def decode(self, message: Message) -> Decoded:
        """The samples as batches of shape (n, channels).

        A message is a whole file. Of a file that grows, any piece will do if `head` comes with it: row k is k periods
        behind the file's time; the header takes bytes but gives no rows. Raises BadData for what is no WAV file, a
        header that contradicts itself or the options, and a whole file that ends within a row.
        """
        data = samples_of(message.payload, None)
        whole, offset = message.offset is None, message.offset or 0
        head = message.head or (bytes(data[:HEAD]) if offset == 0 else b"")
        header = parse_header(head)
        if header is None:
            if whole or max(len(head), offset + len(data)) >= HEAD:
                raise BadData(f"no WAV file that can be read: no samples begin within {min(len(head), HEAD)} bytes")
            return Decoded((), 0)
        signal = _signal(header, self._config)
        begin, end = min(max(offset, header.start), offset + len(data)), offset + len(data)
        if begin < header.start:
            return Decoded((), end - offset)
        ranges, known = _ranges(header, begin, data[begin - offset :], whole=whole)
        batches = []
        used = known
        for start, stop in ranges:
            first, last = whole_rows(header.start, header.row_bytes, start, stop)
            used = min(max(last, first), stop) if stop == known else used
            if first < last:
                rows = header.format.rows(data[first - offset : last - offset], header.channels)
                index = (first - header.start) // header.row_bytes
                batches.append(Batch(signal, rows, anchor=message.time or 0, index=index))
        if whole and used < end:
            raise BadData(f"the WAV file ends within a row of {header.row_bytes} bytes: {end - used} bytes are left")
        return Decoded(tuple(batches), used - offset)


@lru_cache(maxsize=64)
def _signal(header: WavHeader, config: Wav.Config) -> Signal:
    names = channel_names(config.channels or header.channels)
    if len(names) != header.channels:
        raise BadData(f"the WAV file has {header.channels} channels, configured are {len(names)}: {', '.join(names)}")
    try:
        return Signal(
            dtype=header.format.stored,
            channels=names,
            units=channel_units(config.unit, len(names)),
            rate=config.rate or header.rate,  # type: ignore[arg-type]
            attrs={"bits": 8 * header.format.size},
        )
    except ValueError as error:
        raise BadData(f"the WAV file does not fit the options: {error}") from None


def _ranges(header: WavHeader, begin: int, data: memoryview, *, whole: bool) -> tuple[list[tuple[int, int]], int]:
    """Which file positions of `data`, that begins at `begin`, are samples; and up to where that is known."""
    end = begin + len(data)
    if header.others is None or begin > header.others[0] or end <= header.others[0]:
        return [(begin, end)], end
    stop, resume = header.others
    verdict = _are_chunks(data[stop - begin :], resume - stop, padded=(stop - header.start) % 2 == 1)
    if verdict is None and not whole:
        return [(begin, stop)], stop
    if verdict is False:
        return [(begin, end)], end
    return [(begin, stop), (min(resume, end), end)], end


def _are_chunks(data: memoryview, length: int, *, padded: bool) -> bool | None:
    """Whether the first `length` bytes are a chain of RIFF chunks; None: not enough of them is there to tell."""
    if padded and data and data[0] != 0:
        return False
    at = int(padded)
    while at < length:
        if length - at < 8:
            return False
        if len(data) < at + 8:
            return None
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if not all(0x20 <= byte < 0x7F for byte in name):
            return False
        at += 8 + size + size % 2
    if at not in (length, length + 1):
        return False
    return True if len(data) >= length else None
