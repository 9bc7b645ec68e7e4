"""`pcm`: raw samples, number for number, wherever a message holds them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wendelin_stream.batch import Signal
from wendelin_stream.codecs.pcm import Pcm
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Message
from wendelin_stream.testing.codecs import CodecTests

NUMBERS = np.random.default_rng(1).integers(0, 256, 3 * 8 * 50, dtype=np.uint8).tobytes()


def pcm(**options) -> Pcm:
    return Pcm(Pcm.Config(**{"dtype": "<i2", "channels": 2, "rate": "25.6 kHz", **options}))


class TestInt16(CodecTests):
    messages = (NUMBERS, b"", {"data": NUMBERS, "host": "t1"})
    file = NUMBERS

    def make(self):
        return pcm(dtype=">i2", channels=["x", "y", "z"], unit="m/s2")


class TestPacked24Bit(CodecTests):
    messages = (NUMBERS[:72],)
    file = NUMBERS

    def make(self):
        return pcm(dtype="<i3", rate="1/3 kHz")


class TestSingleBytes(CodecTests):
    messages = (NUMBERS,)
    file = NUMBERS[:-1]

    def make(self):
        return pcm(dtype="i1", channels=1)


@pytest.mark.parametrize(
    "dtype", ["<i2", ">i2", "<u2", "<i4", ">i4", "<f4", ">f4", "<f8", ">f8", "<i8", "i1", "u1", "|u1"]
)
def test_numbers_are_exact_and_stored_little_endian(dtype):
    """NumPy reads the same bytes as the same numbers; what is stored is little endian in the width that was sent."""
    (batch,) = pcm(dtype=dtype).decode(Message(NUMBERS)).batches
    expected = np.frombuffer(NUMBERS, dtype).reshape(-1, 2)
    np.testing.assert_array_equal(batch.rows, expected)
    assert batch.rows.dtype == np.dtype(dtype).newbyteorder("<")


@given(
    numbers=st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=50),
    order=st.sampled_from(["little", "big"]),
)
def test_packed_24_bit_keeps_its_value(numbers, order):
    """A 24-bit integer becomes the int32 of the same value, sign and byte order included."""
    raw = b"".join(number.to_bytes(3, order, signed=True) for number in numbers)
    codec = pcm(dtype="<i3" if order == "little" else ">i3", channels=1)
    (batch,) = codec.decode(Message(raw)).batches
    assert batch.rows.dtype == np.dtype("<i4")
    assert batch.rows[:, 0].tolist() == numbers


def test_little_endian_samples_are_not_copied():
    """A view of the message's own bytes goes on its way."""
    (batch,) = pcm(dtype="<f4").decode(Message({"data": NUMBERS})).batches
    assert np.shares_memory(batch.rows, np.frombuffer(NUMBERS, np.uint8))


def test_the_signal_is_known_without_a_message():
    """`check` sees dtype, channels, units and rate of the stream before anything runs."""
    signal = pcm(dtype=">f4", channels=["x", "y"], unit=["g", "m/s2"], rate="1/3 Hz").signal
    assert signal == Signal(np.dtype("<f4"), ("x", "y"), ("g", "m/s2"), Fraction(1, 3))
    assert pcm(channels=3, unit="g").signal.channels == ("ch1", "ch2", "ch3")


def test_a_message_begins_at_its_time_and_a_file_counts_its_rows():
    """The same row of a file has the same time in any piece; a message's first row has the message's."""
    (message,) = pcm().decode(Message(bytes(16), time=5)).batches
    assert (message.anchor, message.index) == (5, 0)
    (piece,) = pcm().decode(Message(bytes(16), time=5, offset=400)).batches
    assert (piece.anchor, piece.index, piece.time(0)) == (5, 100, 5 + 100 * 10**9 // 25600)
    (untimed,) = pcm().decode(Message(bytes(16))).batches
    assert untimed.anchor == 0


def test_a_piece_that_begins_within_a_row_goes_on_with_the_next_one():
    """A file that is read from where it ended just then keeps its channels in order."""
    decoded = pcm().decode(Message(NUMBERS[3:30], offset=3))
    np.testing.assert_array_equal(decoded.batches[0].rows, np.frombuffer(NUMBERS[4:28], "<i2").reshape(-1, 2))
    assert decoded.batches[0].index == 1
    assert decoded.used == 25


def test_a_message_that_ends_within_a_row_is_bad_and_a_file_just_goes_on():
    """The sizes are in the text: the usual reason is a wrong number of channels."""
    with pytest.raises(BadData, match=r"7 bytes .* row of 4 bytes \(2 channels of 2 bytes\)"):
        pcm().decode(Message(bytes(7)))
    decoded = pcm().decode(Message(bytes(7), offset=0))
    assert decoded.used == 4


def test_samples_are_found_in_the_record():
    """The configured field, or the only bytes, or the only text: old msgpack clients send bytes as raw text."""
    raw = bytes(range(128, 144))
    as_text = raw.decode("utf-8", "surrogateescape")
    for record in (
        {"data": raw, "host": "t1"},
        {"data": as_text},
        {"data": bytearray(raw), "n": 1},
        as_text,
        memoryview(raw),
    ):
        (batch,) = pcm().decode(Message(record)).batches
        assert batch.rows.tobytes() == raw
    (batch,) = pcm(field="b").decode(Message({"a": bytes(3), "b": as_text})).batches
    assert batch.rows.tobytes() == raw


@pytest.mark.parametrize(
    ("options", "payload", "reason"),
    [
        ({}, {"left": b"", "right": b""}, r"'left', 'right': name one with `field`"),
        ({}, {"host": "a", "site": "b", "n": 1}, r"'host', 'site': name one"),
        ({}, {"n": 1}, r"none of the record's fields is binary: 'n'"),
        ({}, {}, r"an empty record"),
        ({"field": "data"}, {"date": b""}, r"no field 'data', only 'date'"),
        ({"field": "data"}, {"data": [1, 2]}, r"field 'data' holds a list"),
        ({}, [1, 2], r"a list holds no samples"),
        ({}, {str(n): b"" for n in range(40)}, r"and 30 more"),
    ],
)
def test_a_record_whose_samples_are_not_clear_is_bad_and_says_which_fields_it_has(options, payload, reason):
    """Nobody has to look into the message to see what to configure."""
    with pytest.raises(BadData, match=reason):
        pcm(**options).decode(Message(payload))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "i2"}, "needs its byte order: '<i2'"),
        ({"dtype": "float32"}, "no sample type"),
        ({"dtype": "<u3"}, "no sample type"),
        ({"channels": 0}, "greater than or equal to 1"),
        ({"channels": ["x", "x"]}, "must be there and differ"),
        ({"channels": []}, "must be there and differ"),
        ({"channels": ["x", "y"], "unit": ["g"]}, "2 channels but 1 units"),
        ({"rate": 25600}, "has no unit"),
        ({"dtpye": "<i2"}, "Extra inputs"),
    ],
)
def test_wrong_options_are_named_before_anything_starts(options, reason):
    """Each is an error of the configuration, not of the first message."""
    with pytest.raises(ValidationError, match=reason):
        pcm(**options)
