"""Times and positions of what windowed operators give, to the nanosecond."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wendelin_stream.batch import Batch, Signal
from wendelin_stream.operators.features import Features
from wendelin_stream.operators.framing import RowBuffer, Timeline

rates = st.one_of(
    st.sampled_from([Fraction(25_600), Fraction(5_000_559, 1000), Fraction(1, 3), Fraction(44_100), Fraction(10**9)]),
    st.fractions(min_value=Fraction(1, 100), max_value=10**6),
)


@settings(max_examples=200, deadline=None)
@given(
    rate=rates,
    hop=st.integers(1, 40),
    anchor=st.integers(0, 2 * 10**18),
    index=st.integers(0, 10**12),
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    jitter=st.integers(0, 10**6),
)
def test_an_output_row_has_the_time_of_its_first_input_row(rate, hop, anchor, index, lengths, jitter):
    """For any rate, and any time base that the input's batches have, each output row is at exactly the nanosecond of
    the input row that it begins with, though its batch has a time base of its own at the lower rate."""
    index = min(index, int(10**8 * rate))  # three years: years behind 2262 have no nanoseconds
    signal = Signal(np.dtype("<f8"), ("x",), rate=rate)
    operator = Features(Features.Config(window=max(2, hop), hop=hop, stats=["mean"]))
    declared = operator.output(signal)
    assert declared.rate == rate / hop
    expected, found, row = [], [], 0
    for n, length in enumerate(lengths):
        batch = Batch(signal, np.zeros((length, 1)), anchor + n * jitter, index + row, 1000 + 7 * row, 7)
        expected += [(batch.time(k), 1000 + 7 * (row + k)) for k in range(length)]
        row += length
        for output in operator.on_batch(batch):
            assert output.stride == 7 * hop
            found += [(output.time(k), output.position + k * output.stride) for k in range(len(output))]
            np.testing.assert_array_equal(output.times().astype(np.int64), [output.time(k) for k in range(len(output))])
    assert found == expected[::hop][: len(found)]
    assert len(found) == max(0, (row - max(2, hop)) // hop + 1)


def test_a_stream_with_one_clock_gives_long_batches():
    """Rows counted from one anchor come out counted from it as well, though neither rate is whole in nanoseconds: a
    batch of input is a batch of output, and not one for each row."""
    signal = Signal(np.dtype("<f8"), ("x",), rate=Fraction(5_000_559, 1000))
    operator = Features(Features.Config(window=10))
    operator.output(signal)
    (batch,) = operator.on_batch(Batch(signal, np.zeros((10_000, 1)), 123, 0))
    assert (len(batch), batch.anchor, batch.index) == (1000, 123, 0)
    (batch,) = operator.on_batch(Batch(signal, np.zeros((10_000, 1)), 123, 10_000))
    assert (len(batch), batch.anchor, batch.index) == (1000, 123, 1000)


def test_the_timeline_keeps_what_is_needed_only():
    """Rows of one time base take one entry however many batches they came in, and old time bases go."""
    signal = Signal(np.dtype("<f8"), ("x",), rate=10)
    timeline = Timeline()
    for k in range(50):
        timeline.add(Batch(signal, np.zeros((10, 1)), 0, 10 * k, 10 * k))
    assert len(timeline.snapshot()["origins"]) == 1
    for k in range(50, 100):
        timeline.add(Batch(signal, np.zeros((10, 1)), k, 10 * k, 10 * k))
    assert len(timeline.snapshot()["origins"]) == 51
    timeline.forget(985)
    assert len(timeline.snapshot()["origins"]) == 2
    assert timeline.at(985).position == 985
    assert timeline.pending(999) == 999
    assert timeline.pending(1000) is None


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30))
def test_the_row_buffer_is_a_queue(steps):
    """Filled and dropped in any amounts, it holds the latest rows in order."""
    buffer, queue, number = RowBuffer(2, 15, np.dtype("<i8")), [], 0
    for more, less in steps:
        rows = np.arange(number, number + more)[:, np.newaxis] * [1, -1]
        taken = buffer.fill(rows, 10)
        assert taken == min(more, 10 - len(queue))
        queue += range(number, number + taken)
        number += taken
        drop = min(less, len(queue))
        buffer.drop(drop)
        del queue[:drop]
        np.testing.assert_array_equal(buffer.snapshot(), [queue, [-n for n in queue]])
