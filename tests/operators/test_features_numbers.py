"""Numbers of `features`: numpy's and scipy.stats' over the same windows."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wendelin_stream.batch import Axis, Batch, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.operators.features import STATS, Features, statistics

RATE = Fraction(1000)
ORACLE = {
    "mean": np.mean,
    "rms": lambda x: np.sqrt(np.mean(x**2)),
    "peak": lambda x: np.max(np.abs(x)),
    "peak_to_peak": np.ptp,
    "crest_factor": lambda x: np.max(np.abs(x)) / np.sqrt(np.mean(x**2)),
    "kurtosis": lambda x: scipy.stats.kurtosis(x, fisher=False),
    "skewness": scipy.stats.skew,
}


def signal(channels=("x",), units=("g",), dtype="<f8", rate=RATE):
    return Signal(np.dtype(dtype), channels, units, rate)


def run(rows, given, **options):
    operator = Features(Features.Config(**options))
    declared = operator.output(given)
    return np.concatenate([batch.rows for batch in operator.on_batch(Batch(given, rows))]), declared


@settings(max_examples=50, deadline=None)
@given(
    window=st.integers(4, 500),
    hop=st.floats(0.1, 1),
    offset=st.sampled_from([0.0, 1.0, 1000.0]),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["<f8", "<f4", "<i2"]),
)
def test_equals_numpy_and_scipy(window, hop, offset, seed, dtype):
    """All statistics of each window equal the textbook ones on float64.

    Tolerance: 1e-12 relative; for the third and fourth moment 1e-10, as with an offset of 1000 times the signal the
    deviations have lost three digits.
    """
    hop = max(1, round(hop * window))
    noise = np.random.default_rng(seed).gamma(2.0, 10.0, (3 * window, 2)) + 10 * offset
    rows = noise.astype(dtype)
    found, declared = run(rows, signal(("a", "b"), ("g", "V"), dtype), window=window, hop=hop)
    assert declared.rate == RATE / hop
    assert len(found) == (len(rows) - window) // hop + 1
    for j, row in enumerate(found):
        part = rows[j * hop :][:window].astype(float)
        expected = {f"{c}.{stat}": ORACLE[stat](part[:, k]) for k, c in enumerate("ab") for stat in STATS}
        assert declared.channels == tuple(expected)
        for name, value in zip(declared.channels, row, strict=True):
            rtol = 1e-10 if name.endswith(("kurtosis", "skewness")) else 1e-12
            np.testing.assert_allclose(value, expected[name], rtol=rtol, atol=rtol, err_msg=name)


def test_large_windows_are_computed_channel_by_channel():
    """Two channels of more rows than stay in the cache give what each gives alone."""
    lines = np.random.default_rng(2).normal(size=(2, 2**17))
    np.testing.assert_array_equal(statistics(lines), [statistics(lines[:1])[0], statistics(lines[1:])[0]])


def test_channels_and_units():
    """A channel's statistics stand together, in the order asked for; ratios have no unit."""
    given = signal(("x", "y"), ("m/s2", "g"))
    declared = Features(Features.Config(window=10, stats=["rms", "kurtosis"])).output(given)
    assert declared.channels == ("x.rms", "x.kurtosis", "y.rms", "y.kurtosis")
    assert declared.units == ("m/s2", "", "g", "")
    assert declared.dtype == np.float64


def test_a_time_becomes_the_nearest_number_of_rows():
    """1 s at 5000.559 Hz is 5001 rows; the output's rate is exact for those, so that no time drifts."""
    rate = Fraction(5_000_559, 1000)
    declared = Features(Features.Config(window="1 s")).output(signal(rate=rate))
    assert declared.rate == rate / 5001
    overlapping = Features(Features.Config(window="1 s", hop="250 ms")).output(signal(rate=rate))
    assert overlapping.rate == rate / 1250


def test_a_known_signal():
    """A sine of amplitude 2 over whole periods: RMS sqrt(2), crest sqrt(2), kurtosis 1.5, skewness 0."""
    x = 2 * np.sin(2 * np.pi * np.arange(1000) / 100)[:, np.newaxis]
    found, declared = run(x, signal(), window="1 s")
    values = dict(zip(declared.channels, found[0], strict=True))
    expected = {"mean": 0, "rms": 2**0.5, "peak": 2, "peak_to_peak": 4, "crest_factor": 2**0.5, "kurtosis": 1.5}
    for stat, value in (expected | {"skewness": 0}).items():
        np.testing.assert_allclose(values[f"x.{stat}"], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_a_constant_line_has_no_shape(value):
    """A dead sensor gives NaN where nothing is defined (crest factor of zeros, skewness and kurtosis of a constant),
    as scipy.stats does, and never a number out of rounding errors that looks healthy."""
    found = dict(zip(STATS, statistics(np.full((1, 1000), value))[0], strict=True))
    assert np.isnan([found["skewness"], found["kurtosis"]]).all()
    assert np.isnan(found["crest_factor"]) == (value == 0)
    np.testing.assert_allclose([found["mean"], found["rms"]], [value, abs(value)], rtol=1e-14)
    assert found["peak_to_peak"] == 0.0


def test_a_nan_spoils_its_windows_only():
    """All of a window with a NaN is NaN, without a warning; its neighbours are not touched."""
    rows = np.random.default_rng(0).normal(size=(100, 1))
    rows[35] = np.nan
    found, _ = run(rows, signal(), window=10)
    assert np.isnan(found).all(axis=1).tolist() == [j == 3 for j in range(10)]
    assert not np.isnan(np.delete(found, 3, axis=0)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "1 ms"}, "a window of 1 rows at 1 kHz"),
        ({"window": "10 d"}, r"a window of 864000000 rows at 1 kHz \(a window has 2 to 67108864 rows\)"),
        ({"window": 10, "hop": 11}, "a hop of 11 rows with windows of 10"),
        ({"window": 10, "hop": "0.1 ms"}, "a hop of 0 rows"),
    ],
)
def test_lengths_that_do_not_fit_the_rate_are_refused(options, message):
    """Windows that leave rows out, or have none, are a mistake."""
    with pytest.raises(ConfigError, match=message):
        Features(Features.Config(**options)).output(signal())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "window"),
        ({"window": 1.5}, "window"),
        ({"window": "1 parsec"}, "unknown unit 'parsec'"),
        ({"window": 10, "stats": ["rms", "rms"]}, "named twice"),
        ({"window": 10, "stats": ["median"]}, "stats"),
        ({"window": 10, "stats": []}, "stats"),
    ],
)
def test_wrong_options_are_named(options, message):
    """What cannot be meant is refused when the file is read."""
    with pytest.raises(ValidationError, match=message):
        Features.Config(**options)


def test_spectra_are_refused():
    """Features are of waveforms."""
    given = Signal(np.dtype("<f8"), ("x",), rate=1, axes=(Axis("frequency", "Hz", 5, 0, 1),))
    with pytest.raises(ConfigError, match="features needs one number per channel"):
        Features(Features.Config(window=10)).output(given)
