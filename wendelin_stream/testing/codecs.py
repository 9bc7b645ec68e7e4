"""What every codec must hold to. Subclass, say how to make yours and what it reads:

class TestPcm(CodecTests):
    def make(self): return Pcm(Pcm.Config(dtype="<i2", channels=2, rate="1 kHz"))
    messages = (bytes(4), {"data": bytes(8)})
    file = bytes(4000)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wendelin_stream.batch import Batch, Signal
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Codec, Decoded, Message, Options

HEAD = 64 * 1024
START = 1_700_000_000_123_456_789

inherited = settings(suppress_health_check=[HealthCheck.differing_executors], deadline=None)
"""For properties in a class that several test classes inherit."""

records = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=64) | st.text(max_size=16),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.binary(), inner, max_size=4),
    max_leaves=12,
)
"""Whatever a msgpack message may hold."""


def decode_in_pieces(codec: Codec, file: bytes, cuts: Sequence[int], time: int | None = START) -> list[Batch]:
    """The batches of a file that grew to each of the cuts in turn, as an ingest asks for them.

    The rest of a piece stands before the next one; `head` is what the file began with when the piece was read.
    """
    begin = 0
    batches: list[Batch] = []
    for end in [*sorted(cuts), len(file)]:
        decoded = codec.decode(Message(file[begin:end], time=time, offset=begin, head=file[: min(end, HEAD)]))
        assert 0 <= decoded.used <= end - begin, "used is counted in bytes of the payload"
        begin += decoded.used
        batches += decoded.batches
    return batches


def rows_and_times(batches: Sequence[Batch]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All rows and all their times in ns: what must not depend on how a file was cut."""
    if not batches:
        return np.empty(0), np.empty(0, np.int64)
    times = np.concatenate([batch.times().view("<i8") for batch in batches])
    return np.concatenate([batch.rows for batch in batches]), times


class CodecTests:
    """Subclass as ``class TestMine(CodecTests)``.

    messages: payloads of whole messages that are good.  file: a good file that may grow, if the codec reads files.
    """

    messages: ClassVar[Sequence[Any]] = ()
    file: ClassVar[bytes | None] = None

    def make(self) -> Codec:
        """A codec as configured for `messages` and `file`."""
        raise NotImplementedError

    def test_options_are_a_model_that_describes_each_of_them(self) -> None:
        """The reference page is made of it, and a misspelt option is an error."""
        config = type(self.make()).Config
        assert issubclass(config, Options)
        for name, field in config.model_fields.items():
            assert field.description, f"option {name} has no description"

    def test_a_good_message_gives_rows_of_its_signal(self) -> None:
        """Rows are read-only, little endian, of the declared shape, at the message's time, and all bytes are used."""
        for payload in self.messages:
            decoded = self.make().decode(Message(payload, time=START))
            self.check(decoded)
            if isinstance(payload, bytes):
                assert decoded.used == len(payload)
            assert all(batch.anchor == START or batch.signal.rate is None for batch in decoded.batches)

    def test_decoding_has_no_memory(self) -> None:
        """The same message gives the same rows again, from the same codec and from a new one."""
        used, new = self.make(), self.make()
        for payload in (*self.messages, *self.messages):
            message = Message(payload, time=START)
            for one, other in zip(used.decode(message).batches, new.decode(message).batches, strict=True):
                assert one.signal == other.signal
                assert one.rows.tobytes() == other.rows.tobytes()

    @inherited
    @given(data=st.data())
    def test_any_cut_of_a_growing_file_gives_the_same_rows_and_times(self, data: st.DataObject) -> None:
        """Guarantee 3 at the door: how far the file was when we looked changes nothing."""
        if self.file is None:
            return
        cuts = data.draw(st.lists(st.integers(0, len(self.file)), max_size=12))
        whole, times = rows_and_times(decode_in_pieces(self.make(), self.file, []))
        assert len(whole) > 0
        rows, cut_times = rows_and_times(decode_in_pieces(self.make(), self.file, cuts))
        np.testing.assert_array_equal(rows, whole)
        np.testing.assert_array_equal(cut_times, times)

    @inherited
    @given(payload=st.binary(max_size=200) | records, offset=st.none() | st.integers(0, 2**40), head=st.binary())
    def test_garbage_is_bad_data_and_nothing_else(self, payload: object, offset: int | None, head: bytes) -> None:
        """Any object in, rows or BadData out: a sender cannot stop the daemon."""
        self.survives(Message(payload, time=None, offset=offset, head=head))

    @inherited
    @given(data=st.data())
    def test_a_damaged_message_is_bad_data_and_nothing_else(self, data: st.DataObject) -> None:
        """Bytes of something good, changed, cut off or inserted."""
        good = [payload for payload in (*self.messages, self.file) if isinstance(payload, bytes)]
        if not good:
            return
        damaged = bytearray(data.draw(st.sampled_from(good)))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(damaged)) | st.integers(0, min(64, len(damaged))))
            damaged[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        whole = bytes(damaged)
        self.survives(Message(whole))
        self.survives(Message(whole, offset=0, head=whole[:HEAD]))

    def survives(self, message: Message) -> None:
        """Rows or BadData with a reason."""
        reason = "none"
        try:
            self.check(self.make().decode(message))
        except BadData as error:
            reason = str(error)
        assert reason, "BadData says why"

    def check(self, decoded: Decoded) -> None:
        """What is true of anything that a codec gives."""
        declared: Signal | None = getattr(self.make(), "signal", None)
        for batch in decoded.batches:
            assert len(batch) >= 1
            assert declared is None or batch.signal == declared
            assert batch.rows.dtype == batch.signal.dtype
            assert batch.rows.dtype.newbyteorder("<") == batch.rows.dtype, "stored rows are little endian"
            assert batch.rows.shape[1:] == batch.signal.shape
            assert not batch.rows.flags.writeable
