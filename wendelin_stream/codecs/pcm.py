"""`pcm`: raw interleaved samples, in a binary field of a record, as a whole message, or as a file that grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, model_validator

from wendelin_stream.batch import Batch, Signal
from wendelin_stream.codecs.samples import SampleFormat, channel_names, channel_units, whole_rows
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Decoded, Message, Options
from wendelin_stream.units import Frequency


def _checked(text: str) -> str:
    SampleFormat.parse(text)
    return text


class Pcm:
    """Raw samples of one signal that the configuration describes.

    Stored rows are little endian in the width they came in: int16 is stored as int16 and big-endian input is swapped.
    Packed 24-bit integers (``<i3``, ``>i3``) become int32 of the same value.
    """

    class Config(Options):
        """Options of the `pcm` codec."""

        dtype: Annotated[str, AfterValidator(_checked)] = Field(
            description="type and byte order of one sample: <i2, >i2, <i3 (packed 24 bit), <i4, <f4, <f8, <u2, i1, ..."
        )
        channels: Annotated[int, Field(strict=True, ge=1, le=65535)] | tuple[str, ...] = Field(
            description="names of the interleaved channels, or how many there are"
        )
        rate: Frequency = Field(description="rows per second, exact")
        unit: str | tuple[str, ...] = Field(default="", description="unit of all channels, or a list with one for each")
        field: str | None = Field(
            default=None,
            description="the record's field that holds the samples; without it, its only binary field",
        )

        @model_validator(mode="after")
        def _fits(self) -> Pcm.Config:
            self.signal()
            return self

        def signal(self) -> Signal:
            """What the rows are. Raises ValueError if channels and units do not fit."""
            names = channel_names(self.channels)
            return Signal(
                dtype=SampleFormat.parse(self.dtype).stored,
                channels=names,
                units=channel_units(self.unit, len(names)),
                rate=self.rate,
            )

    def __init__(self, config: Config) -> None:
        self.signal: Final[Signal] = config.signal()
        self._format = SampleFormat.parse(config.dtype)
        self._row_bytes = self._format.size * len(self.signal.channels)
        self._field = config.field

    def decode(self, message: Message) -> Decoded:
        """The samples as one batch of shape (n, channels), none if there are no bytes.

        A message's rows begin at its time. Row k of a file is k periods behind the file's time, whatever piece it
        comes in; bytes that do not fill a row are left over. Raises BadData for a message that does not hold whole
        rows, or a record whose samples cannot be told from its other fields.
        """
        data = samples_of(message.payload, self._field)
        offset = message.offset or 0
        if message.offset is None and len(data) % self._row_bytes:
            raise BadData(
                f"{len(data)} bytes are no multiple of a row of {self._row_bytes} bytes "
                f"({len(self.signal.channels)} channels of {self._format.size} bytes)"
            )
        end = offset + len(data)
        first, last = whole_rows(0, self._row_bytes, offset, end)
        if first >= last:
            return Decoded((), min(first, end) - offset)
        rows = self._format.rows(data[first - offset : last - offset], len(self.signal.channels))
        batch = Batch(self.signal, rows, anchor=message.time or 0, index=first // self._row_bytes)
        return Decoded((batch,), last - offset)


def samples_of(payload: object, field: str | None) -> memoryview:
    """The bytes of a message: the payload itself, or the field of a record. Raises BadData that names the fields."""
    if isinstance(payload, Mapping):
        return _of_record(payload, field)
    data = _raw(payload)
    if data is None:
        raise BadData(f"a {type(payload).__name__} holds no samples: bytes or a record with a binary field would")
    return data


def _of_record(record: Mapping[Any, Any], field: str | None) -> memoryview:
    if field is not None:
        if field not in record:
            raise BadData(f"the record has no field {field!r}, only {_names(record)}")
        data = _raw(record[field])
        if data is None:
            raise BadData(f"field {field!r} holds a {type(record[field]).__name__}, no bytes")
        return data
    for kinds in (bytes | bytearray | memoryview, str):
        found = {name: value for name, value in record.items() if isinstance(value, kinds)}
        if len(found) > 1:
            raise BadData(f"several fields could hold the samples, {_names(found)}: name one with `field`")
        for value in found.values():
            data = _raw(value)
            if data is not None:
                return data
    raise BadData(f"none of the record's fields is binary: {_names(record)}")


def _names(record: Mapping[Any, Any]) -> str:
    shown = ", ".join(repr(name)[:40] for name in list(record)[:10])
    return f"{shown} and {len(record) - 10} more" if len(record) > 10 else shown or "an empty record"


def _raw(value: object) -> memoryview | None:
    """Bytes as they were sent. Clients of the old msgpack format send them as str, then decoded with escapes."""
    if isinstance(value, str):
        try:
            value = value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return None
    return memoryview(value).cast("B") if isinstance(value, bytes | bytearray | memoryview) else None
