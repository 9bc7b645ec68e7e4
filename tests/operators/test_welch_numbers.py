"""Numbers of `welch`: scipy's over whole spectra, and what a measuring engineer knows by heart."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wendelin_stream.batch import Axis, Batch, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.operators.welch import Welch

RATE = Fraction(25_600)


def signal(channels=1, dtype="<f8", rate=RATE, unit="m/s2"):
    names = tuple("abcdef"[:channels])
    return Signal(np.dtype(dtype), names, (unit,) * channels, rate)


def spectra(rows, rate=RATE, **options):
    """All spectra of the rows (n, channels), as (spectra, channels, bins), and the declared output."""
    operator = Welch(Welch.Config(**options))
    declared = operator.output(signal(rows.shape[1], rows.dtype, rate))
    batches = list(operator.on_batch(Batch(signal(rows.shape[1], rows.dtype, rate), rows)))
    return np.concatenate([batch.rows for batch in batches]), declared


def noise(rows, channels=1, offset=0.0, seed=3):
    return np.random.default_rng(seed).normal(offset, 1.0, (rows, channels))


@settings(max_examples=60, deadline=None)
@given(
    nperseg=st.integers(8, 300),
    percent=st.sampled_from([0, 50, 75, 33]),
    window=st.sampled_from(["hann", "boxcar", "flattop", ["kaiser", 8.6], ["tukey", 0.25]]),
    detrend=st.sampled_from(["constant", "linear", "none"]),
    scaling=st.sampled_from(["density", "spectrum"]),
    average=st.integers(1, 9),
    averaging=st.sampled_from(["mean", "median"]),
    offset=st.sampled_from([0.0, 50.0]),
)
def test_equals_scipy(nperseg, percent, window, detrend, scaling, average, averaging, offset):
    """Each spectrum is `scipy.signal.welch` of the rows that it covers.

    Tolerance: 1e-12 relative, and 1e-13 of the largest bin: what detrending leaves at 0 Hz is mostly the rounding of
    the mean (and in scipy of a line fit), which is 50 times the signal here.
    """
    rows = noise(3 * average * nperseg, 2, offset)
    found, declared = spectra(
        rows,
        nperseg=nperseg,
        overlap=f"{percent} %",
        window=window,
        detrend=detrend,
        scaling=scaling,
        average=average,
        averaging=averaging,
    )
    noverlap = percent * nperseg // 100
    hop = nperseg - noverlap
    assert declared.rate == RATE / (average * hop)
    assert len(found) == ((len(rows) - nperseg) // hop + 1) // average
    for j, spectrum in enumerate(found):
        covered = rows[j * average * hop :][: (average - 1) * hop + nperseg]
        expected = scipy.signal.welch(
            covered,
            float(RATE),
            window=tuple(window) if isinstance(window, list) else window,
            nperseg=nperseg,
            noverlap=noverlap,
            detrend=False if detrend == "none" else detrend,
            scaling=scaling,
            average=averaging,
            axis=0,
        )[1].T
        np.testing.assert_allclose(spectrum, expected, rtol=1e-12, atol=1e-13 * expected.max())


@pytest.mark.parametrize("dtype", ["<f4", "<i2", ">i4", "<u2", "<f2"])
def test_input_of_any_number_type_is_computed_in_double(dtype):
    """Rows are widened before the first sum: equal to scipy on the same rows as float64, to 1e-12."""
    rows = (noise(4096, 2) * 1000 + 3000).astype(dtype)
    found, declared = spectra(rows, nperseg=512)
    expected = scipy.signal.welch(rows.astype(float)[: 7 * 256 + 512], 25_600, nperseg=512, axis=0)[1].T
    np.testing.assert_allclose(found[0], expected, rtol=1e-12, atol=1e-15 * expected.max())
    assert declared.dtype == np.float64


def test_single_precision_is_close():
    """Arithmetic in float32 has its noise floor about 140 dB below the largest line: 1e-6 relative here."""
    rows = noise(8 * 1024, 3).astype("<f4")
    exact, _ = spectra(rows, nperseg=1024)
    found, declared = spectra(rows, nperseg=1024, precision="single", dtype="<f4")
    assert declared.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6 * exact.max())


def test_fmax_and_lines_at_the_usual_rate():
    """3200 lines up to 10 kHz at 25.6 kHz are segments of 8192 rows, 3.125 Hz apart, and the bins from 0 to Fmax."""
    operator = Welch(Welch.Config(fmax="10 kHz", lines=3200))
    declared = operator.output(signal())
    assert declared.axes == (Axis("frequency", "Hz", 3201, 0.0, 3.125),)
    assert declared.shape == (1, 3201)
    assert declared.rate == RATE / (8 * 4096)
    assert declared.units == ("(m/s2)^2/Hz",)
    by_nperseg, _ = spectra(noise(40_000), nperseg=8192)
    by_lines, _ = spectra(noise(40_000), fmax="10 kHz", lines=3200)
    np.testing.assert_array_equal(by_lines, by_nperseg[..., :3201])


def test_a_higher_rate_gives_the_same_lines_without_aliasing():
    """At twice the rate the segment is twice as long: same spacing, and a tone above Fmax does not fold into it."""
    time = np.arange(200_000) / 51_200
    rows = np.sin(2 * np.pi * 20_000 * time)[:, np.newaxis]
    found, declared = spectra(rows, Fraction(51_200), fmax="10 kHz", lines=3200)
    assert declared.axes == (Axis("frequency", "Hz", 3201, 0.0, 3.125),)
    assert found.max() < 1e-18, "25.6 kHz would have shown it at 5.6 kHz"


def test_an_odd_rate_takes_the_nearest_length():
    """Recorders have clocks of their own: the axis then says the true spacing, the number of bins stays."""
    rate = Fraction(5_000_559, 1000)
    declared = Welch(Welch.Config(fmax="1500 Hz", lines=400)).output(signal(rate=rate))
    assert declared.axes[0].size == 401
    assert declared.axes[0].step == float(rate / 1333)
    assert declared.axes[0].step == pytest.approx(1500 / 400, rel=1 / 1333)


def test_a_rate_too_low_is_refused_with_the_highest_fmax():
    """The message says what the stream has and what could be asked of it."""
    with pytest.raises(
        ConfigError, match=r"fmax 10 kHz .* this stream has 20 kHz \(the highest possible fmax is 7.8125 kHz"
    ):
        Welch(Welch.Config(fmax="10 kHz", lines=3200)).output(signal(rate=Fraction(20_000)))
    Welch(Welch.Config(fmax="7.8125 kHz", lines=3200)).output(signal(rate=Fraction(20_000)))


def test_segments_that_do_not_fit_in_memory_are_refused():
    """Asked for by `fmax` and `lines`, the length shows only when the rate is known."""
    with pytest.raises(ConfigError, match=r"need segments of 256000000 rows \(a segment has at most 4194304"):
        Welch(Welch.Config(fmax="0.1 Hz", lines=1000)).output(signal())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either `fmax` and `lines`, or `nperseg`"),
        ({"fmax": "1 kHz"}, "either `fmax` and `lines`, or `nperseg`"),
        ({"fmax": "1 kHz", "lines": 100, "nperseg": 256}, "either `fmax` and `lines`, or `nperseg`"),
        ({"nperseg": 256, "window": "hanning2"}, "is no window"),
        ({"nperseg": 256, "window": ["kaiser"]}, "is no window"),
        ({"nperseg": 256, "overlap": "100 %"}, "below 100 %"),
        ({"nperseg": 256, "averages": 3}, "averages"),
        ({"fmax": 1000, "lines": 100}, "has no unit"),
    ],
)
def test_wrong_options_are_named(options, message):
    """What cannot be meant is refused when the file is read."""
    with pytest.raises(ValidationError, match=message):
        Welch.Config(**options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Signal(np.dtype([("time", "<M8[ns]"), ("x", "<f8")]), ("x",)), "needs a stream with a sample rate"),
        (Signal(np.dtype("<f8"), ("x",), rate=1, axes=(Axis("frequency", "Hz", 5, 0, 1),)), "have the axes frequency"),
        (Signal(np.dtype("<c16"), ("x",), rate=1), "needs real numbers"),
    ],
)
def test_other_rows_are_refused(given, message):
    """Spectra of spectra, of events or of complex numbers are a mistake in the pipeline."""
    with pytest.raises(ConfigError, match=message):
        Welch(Welch.Config(nperseg=16)).output(given)


def test_a_nan_spoils_its_spectra_only():
    """A NaN in the input shows where it was and not for ever after, and raises no warning."""
    rows = noise(64 * 40)
    rows[5 * 32 + 40] = np.nan
    rows[5 * 32 + 41] = np.inf
    found, _ = spectra(rows, nperseg=64, average=4)
    assert np.isnan(found).all(axis=(1, 2)).tolist() == [False, True, *[False] * (len(found) - 2)]
    assert np.isfinite(np.delete(found, 1, axis=0)).all()


# --- what an engineer knows by heart -------------------------------------------------------------------


def tone(amplitude, frequency, rows):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(rows) / float(RATE))[:, np.newaxis]


@pytest.mark.parametrize("window", ["hann", "boxcar", "flattop"])
def test_a_sine_at_a_bin_shows_half_its_squared_amplitude(window):
    """Scaling `spectrum` is corrected for the window's amplitude: A²/2 at the bin, to 1e-12."""
    found, _ = spectra(tone(3.0, 100 * 25, 8192), nperseg=1024, window=window, scaling="spectrum", average=4)
    np.testing.assert_allclose(found[0, 0].max(), 4.5, rtol=1e-12)
    assert found[0, 0].argmax() == 100


def test_hann_corrections():
    """Amplitude correction 2.0, energy correction 1.633, equivalent noise bandwidth 1.5 bins.

    Amplitude: a tone without correction shows half its amplitude. Bandwidth: the power of a tone in density over that
    in `spectrum` scaling is 1 / (ENBW df). Energy: from both, sqrt(2² / 1.5).
    """
    n, df = 1024, 25.0
    x = tone(1.0, 100 * df, n)
    density = spectra(x, nperseg=n, average=1)[0].max()
    power = spectra(x, nperseg=n, average=1, scaling="spectrum")[0].max()
    enbw = power / density / df
    np.testing.assert_allclose(enbw, 1.5, rtol=1e-12)
    uncorrected = 2 * np.abs(np.fft.rfft(scipy.signal.get_window("hann", n) * x[:, 0])).max() / n
    correction = np.sqrt(2 * power) / uncorrected
    np.testing.assert_allclose(correction, 2.0, rtol=1e-12)
    np.testing.assert_allclose(correction / np.sqrt(enbw), 1.633, atol=5e-4)


def test_scallop_loss_of_hann():
    """A tone half way between two bins is 1.42 dB lower: the window is the periodic one, at its full length."""
    on = spectra(tone(1.0, 100 * 25.0, 1024), nperseg=1024, average=1, scaling="spectrum")[0].max()
    between = spectra(tone(1.0, 100.5 * 25.0, 1024), nperseg=1024, average=1, scaling="spectrum")[0].max()
    np.testing.assert_allclose(10 * np.log10(on / between), 1.42, atol=0.005)


@pytest.mark.parametrize("nperseg", [64, 65])
def test_one_sided_doubling_skips_what_has_no_mirror(nperseg):
    """0 Hz, and half the rate where the segment is even, are not doubled: a boxcar's bins add up to the mean square
    of the segment exactly (Parseval), for even and odd lengths."""
    rows = noise(nperseg, offset=2.0)
    options = {"nperseg": nperseg, "average": 1, "window": "boxcar", "detrend": "none"}
    power, _ = spectra(rows, scaling="spectrum", **options)
    np.testing.assert_allclose(power.sum(), np.mean(rows**2), rtol=1e-13)
    np.testing.assert_allclose(power[0, 0, 0], np.mean(rows) ** 2, rtol=1e-13)
    density, declared = spectra(rows, **options)
    np.testing.assert_allclose(density.sum() * declared.axes[0].step, np.mean(rows**2), rtol=1e-13)


def test_density_adds_up_to_the_variance_and_spectrum_to_too_much():
    """Density x df is the variance of noise (2 % with 400 averages); lines in `spectrum` scaling add up to 1.5 times
    that: the window's noise bandwidth."""
    rows = noise(256 * 220)
    density, declared = spectra(rows, nperseg=256, average=400)
    power, _ = spectra(rows, nperseg=256, average=400, scaling="spectrum")
    np.testing.assert_allclose(density.sum() * declared.axes[0].step, 1.0, rtol=0.02)
    np.testing.assert_allclose(power.sum() / (density.sum() * declared.axes[0].step), 1.5, rtol=1e-12)


def test_median_ignores_a_knock():
    """One segment in nine with a knock: the mean is far off, the median within a few times its own scatter."""
    rows = noise(64 * 9 * 50)
    clean = spectra(rows, nperseg=64, overlap=0, average=9)[0].mean()
    rows[32 :: 64 * 9] += 100.0
    mean = spectra(rows, nperseg=64, overlap=0, average=9)[0].mean()
    median = spectra(rows, nperseg=64, overlap=0, average=9, averaging="median")[0].mean()
    assert mean > 10 * clean
    assert abs(median - clean) < 0.25 * clean
