"""Files of samples as blocks of rows: what `import` reads, out of core."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wendelin_stream.batch import Signal
from wendelin_stream.codecs.samples import channel_names, channel_units
from wendelin_stream.codecs.wav import HEAD, Wav, parse_header
from wendelin_stream.errors import BadData, ConfigError
from wendelin_stream.plugin import Message

BLOCK = 4 << 20
"""Bytes of a file that are taken at once."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a recording: (n, *signal.shape). index: number of the first one in the file.

    position: how far the file is used up with them; `Recording.blocks` goes on from there.
    """

    rows: NDArray[Any]
    index: int
    position: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of rows of one signal.

    Positions (row numbers, or bytes) run up to `size`; `rows_before` a position are so many rows, `rows` about all.
    """

    signal: Signal
    size: int
    blocks: Callable[[int], Iterator[Block]]
    rows_before: Callable[[int], int]

    @property
    def rows(self) -> int:
        """Rows of the file (a few more, where something else stands behind them)."""
        return self.rows_before(self.size)


@dataclass(frozen=True, slots=True)
class Labels:
    """What the user says about the samples; None where nothing was said."""

    rate: Fraction | None = None
    channels: tuple[str, ...] | None = None
    unit: str | tuple[str, ...] | None = None


def digest(path: Path) -> int:
    """The file's content as 64 bits of BLAKE2b: names it as a producer, wherever it lies."""
    with path.open("rb") as file:
        return int.from_bytes(hashlib.file_digest(file, "blake2b").digest()[:8], "big") or 1


def open_recording(path: Path, labels: Labels, known: Signal | None) -> Recording:
    """A .npy or .wav file. known: the signal of the stream that it goes into, which says what the labels leave out.

    Raises ConfigError if something must be said, BadData if the file cannot be read.
    """
    readers = {".npy": _npy, ".wav": _wav, ".wave": _wav}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: only .npy and .wav files can be imported")
    return reader(path, labels, known)


def _npy(path: Path, labels: Labels, known: Signal | None) -> Recording:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadData(f"{path} is no NumPy array file: {error}") from error
    if array.dtype.names is not None and array.ndim == 1:
        return _recording(array, _timed(path, array.dtype, labels))
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise BadData(f"{path} holds {array.dtype} of shape {array.shape}, not numbers of shape (rows, channels)")
    array = array.reshape(len(array), -1)
    return _recording(array, _periodic(path, array, labels, known))


def _recording(array: NDArray[Any], signal: Signal) -> Recording:
    step = max(1, BLOCK // signal.row_bytes)

    def blocks(start: int) -> Iterator[Block]:
        for row in range(start, len(array), step):
            yield Block(array[row : row + step], row, min(row + step, len(array)))

    return Recording(signal, len(array), blocks, lambda position: position)


def _periodic(path: Path, array: NDArray[Any], labels: Labels, known: Signal | None) -> Signal:
    rate = labels.rate or (known.rate if known else None)
    if rate is None:
        raise ConfigError(
            f"{path} does not say how fast its rows follow each other", hint="give --rate, as in '25.6 kHz'"
        )
    width = array.shape[1]
    fits = known is not None and len(known.channels) == width
    names = channel_names(labels.channels or (known.channels if known and fits else width))
    if len(names) != width:
        raise ConfigError(f"{path} has {width} channels, and --channels names {len(names)}")
    unit = labels.unit
    if unit is None:
        unit = known.units if known and fits else ""
    return _checked(array.dtype.newbyteorder("<"), names, channel_units(unit, width), rate)


def _timed(path: Path, dtype: np.dtype[Any], labels: Labels) -> Signal:
    if labels.rate is not None or labels.channels is not None:
        raise ConfigError(f"the rows of {path} carry their time and names", hint="leave --rate and --channels out")
    names = tuple(dtype.names or ())[1:]
    unit = channel_units(labels.unit or "", len(names))
    return _checked(dtype.newbyteorder("<"), names, unit, None)


def _checked(dtype: np.dtype[Any], names: tuple[str, ...], units: tuple[str, ...], rate: Fraction | None) -> Signal:
    try:
        return Signal(dtype, names, units, rate)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _wav(path: Path, labels: Labels, known: Signal | None) -> Recording:
    unit: str | tuple[str, ...] = ""
    channels = labels.channels
    if known is not None:
        channels, unit = channels or known.channels, known.units
    codec = Wav(Wav.Config(channels=channels, rate=labels.rate, unit=unit if labels.unit is None else labels.unit))
    with path.open("rb") as file:
        head = file.read(HEAD)
    size = path.stat().st_size

    def blocks(start: int) -> Iterator[Block]:
        with path.open("rb") as file:
            position = start
            while True:
                file.seek(position)
                piece = file.read(BLOCK)
                decoded = codec.decode(Message(piece, offset=position, head=head))
                if decoded.used == 0:
                    return
                position += decoded.used
                for batch in decoded.batches:
                    yield Block(batch.rows, batch.index, position)

    header, first = parse_header(head), codec.decode(Message(head, offset=0, head=head))
    if header is None or not first.batches:
        raise BadData(f"{path} holds no samples")
    signal = first.batches[0].signal
    return Recording(signal, size, blocks, lambda position: max(0, position - header.start) // header.row_bytes)
