"""Signals, batches and gaps: times are exact, whatever is cut where."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.batch import NS, Axis, Batch, Signal, row_times, ticks

# from one row in three years to a terahertz, and fractions that no float and no int64 holds
rates = st.one_of(
    st.fractions(min_value=Fraction(1, 10**8), max_value=10**12).filter(bool),
    st.sampled_from([Fraction(25_600), Fraction(44_100), Fraction(30_000, 1001), Fraction(2**63), Fraction(10**25, 3)]),
    st.builds(Fraction, st.integers(1, 2**80), st.integers(1, 2**80)).filter(lambda rate: rate > Fraction(1, 10**8)),
)
anchors = st.integers(0, 2**61)
TIMED = np.dtype([("time", "<M8[ns]"), ("x", "<f4"), ("y", "<i2")])


def exact(anchor: int, rows: int, rate: Fraction) -> int:
    """The definition, in rational arithmetic: floor(anchor + rows / rate) in ns."""
    time = anchor + rows / rate * NS
    return time.numerator // time.denominator


def periodic(rate: Fraction, count: int, anchor: int = 0, index: int = 0, position: int = 0, stride: int = 1) -> Batch:
    signal = Signal(np.dtype("<i4"), ("x",), rate=rate)
    rows = np.arange(count, dtype="<i4").reshape(count, 1)
    return Batch(signal, rows, anchor, index, position, stride)


@given(rate=rates, rows=st.integers(0, 10**12))
def test_ticks_round_down_exactly(rate: Fraction, rows: int):
    """No float is on the way, so a year at any rate does not drift by a nanosecond."""
    assert ticks(rows, rate) == exact(0, rows, rate)


def test_an_integer_period_would_drift():
    """25.6 kHz: after a day an integer period of 39062 ns is 1.1 s behind, ours is exact."""
    rows = 86_400 * 25_600
    assert ticks(rows, Fraction(25_600)) == 86_400 * NS
    assert 86_400 * NS - rows * 39_062 > NS


@given(rate=rates, anchor=anchors, index=st.integers(0, 10**8), count=st.integers(1, 50))
def test_all_times_are_the_single_times(rate: Fraction, anchor: int, index: int, count: int):
    """`times` (vectorised) and `time` (exact integers) agree for every row, huge rates and denominators included."""
    batch = periodic(rate, count, anchor, index)
    expected = [exact(anchor, index + k, rate) for k in range(count)]
    if expected[-1] >= 2**63:
        return  # no datetime64 there
    assert [batch.time(k) for k in range(count)] == expected
    assert batch.times().astype(np.int64).tolist() == expected
    assert batch.times().dtype == np.dtype("<M8[ns]")


@given(rate=rates, index=st.integers(0, 10**6))
def test_both_ways_of_row_times_agree_where_they_meet(rate: Fraction, index: int):
    """The fast way is taken only where int64 holds every intermediate number."""
    expected = [exact(0, index + k, rate) for k in range(4)]
    if expected[-1] < 2**63:
        assert row_times(0, index, 4, rate).astype(np.int64).tolist() == expected


def test_no_times_for_no_rows():
    """An empty stretch has no times, of the right type."""
    assert row_times(5, 7, 0, Fraction(3)).shape == (0,)
    assert row_times(5, 7, 0, Fraction(3)).dtype == np.dtype("<M8[ns]")


@given(rate=rates, anchor=anchors, count=st.integers(1, 30), stride=st.integers(1, 7), data=st.data())
def test_a_cut_changes_no_row(rate: Fraction, anchor: int, count: int, stride: int, data: st.DataObject):
    """Rows of a cut keep value, time and input position; the cut of a cut is the direct cut."""
    batch = periodic(rate, count, anchor, index=3, position=100, stride=stride)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = batch.cut(start, stop)
    assert len(part) == stop - start
    assert [part.time(k) for k in range(len(part) + 1)] == [batch.time(start + k) for k in range(len(part) + 1)]
    assert [part.position + k * part.stride for k in range(len(part))] == [
        batch.position + (start + k) * stride for k in range(len(part))
    ]
    assert np.shares_memory(part.rows, batch.rows)
    again = batch.cut(start).cut(0, stop - start)
    assert (again.index, again.position, again.rows.tolist()) == (part.index, part.position, part.rows.tolist())


def test_rows_that_carry_their_time():
    """Without a rate the times are those in the rows, before and after a cut."""
    rows = np.zeros(4, TIMED)
    rows["time"] = np.array([5, 7, 7, 100], "M8[ns]")
    batch = Batch(Signal(TIMED, ("x", "y")), rows, position=10)
    assert [batch.time(k) for k in range(4)] == [5, 7, 7, 100]
    part = batch.cut(1, 3)
    assert (part.time(0), part.position, part.index) == (7, 11, 0)
    assert part.times().tolist() == rows["time"][1:3].tolist()


signals = st.one_of(
    st.builds(
        lambda dtype, channels, rate, axes: Signal(np.dtype(dtype), channels, ("m/s2",) * len(channels), rate, axes),
        st.sampled_from(["<i2", ">i2", "<f4", "<f8", "<c8", "|u1"]),
        st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True).map(tuple),
        rates,
        st.lists(
            st.builds(Axis, st.just("f"), st.just("Hz"), st.integers(1, 9), st.floats(-1, 1), st.floats(0.1, 9)),
            max_size=2,
        ).map(tuple),
    ),
    st.just(Signal(TIMED, ("x", "y"), ("m", "s"), attrs={"model": {"name": "g"}})),
    st.just(Signal(np.dtype([("time", "<M8[ns]"), ("psd", "<f4", (3, 2))]), ("psd",))),
)


@given(signal=signals)
def test_a_signal_survives_json(signal: Signal):
    """What `to_json` gives is plain JSON, and `from_json` of it is equal, attributes included."""
    back = Signal.from_json(json.loads(json.dumps(signal.to_json())))
    assert back == signal
    assert dict(back.attrs) == dict(signal.attrs)
    assert (back.shape, back.row_bytes) == (signal.shape, signal.row_bytes)


def test_attributes_take_no_part_in_equality():
    """A stream is not another one because a model was exchanged."""
    assert Signal("<f4", ("x",), rate=1, attrs={"a": 1}) == Signal("<f4", ("x",), rate=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dtype": "<f4", "channels": (), "rate": 1}, "channel names"),
        ({"dtype": "<f4", "channels": ("x", "x"), "rate": 1}, "channel names"),
        ({"dtype": "<f4", "channels": ("x",), "units": ("m", "s"), "rate": 1}, "1 channels but 2 units"),
        ({"dtype": "O", "channels": ("x",), "rate": 1}, "no fixed size"),
        ({"dtype": "<f4", "channels": ("x",), "rate": 0}, "rate > 0"),
        ({"dtype": "<f4", "channels": ("x",)}, "first field must be time"),
        ({"dtype": TIMED, "channels": ("x", "y"), "rate": 1}, "plain dtype"),
        ({"dtype": TIMED, "channels": ("y", "x")}, "not the fields"),
        (
            {"dtype": np.dtype([("time", "<M8[ns]"), ("x", "i1"), ("y", "<f8")], align=True), "channels": ("x", "y")},
            "side",
        ),
    ],
)
def test_a_signal_that_cannot_be_is_refused(arguments: dict, says: str):
    """Each contradiction has a reason in plain words."""
    with pytest.raises(ValueError, match=says):
        Signal(**arguments)


def test_axis_values():
    """start + i * step, float64."""
    assert Axis("frequency", "Hz", 3, 1.0, 0.5).values().tolist() == [1.0, 1.5, 2.0]
