"""The simulated drive train: one seed, one signal, and the physics that its docstrings state."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import hilbert, welch
from scipy.stats import kurtosis

from wendelin_stream.sources.simulator import (
    BLOCK,
    HIGH_SHAFT,
    IMPACT_LOSS,
    INTERMEDIATE,
    LOW_SHAFT,
    NOISE,
    RATE,
    RATED_ROTOR,
    SENSORS,
    TONES,
    Bearing,
    Fault,
    Turbine,
)

FULL = Fault(onset=0.0, growth=1e9, limit=20.0)


@pytest.fixture(scope="module")
def minute() -> NDArray[np.float32]:
    """One healthy minute."""
    return Turbine(1, seed=7).rows(0, 60 * RATE)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3 * BLOCK), min_size=2, max_size=8), st.booleans())
def test_any_cut_of_time_gives_the_same_samples_bit_for_bit(cuts, faulty):
    """Two machines of one seed, one asked at once and one in pieces, in any sizes: equal bytes."""
    edges = sorted(cuts)
    fault = FULL if faulty else None
    whole = Turbine(2, seed=1, fault=fault).rows(edges[0], edges[-1])
    pieces = Turbine(2, seed=1, fault=fault)
    parts = [pieces.rows(a, b) for a, b in itertools.pairwise(edges)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert whole.dtype == np.float32
    assert whole.shape == (edges[-1] - edges[0], len(SENSORS))


def test_order_of_asking_does_not_matter():
    """Block 9 before block 3 is the same as after it: there is no state from block to block."""
    backwards, forwards = Turbine(1, fault=FULL), Turbine(1, fault=FULL)
    late = backwards.block(9).copy()
    assert np.array_equal(backwards.block(3), forwards.block(3))
    assert np.array_equal(forwards.block(9), late)


def test_seed_and_number_decide():
    """Another seed or turbine is another signal; a negative or turned range is refused."""
    first = Turbine(1, seed=0).block(0)
    assert np.array_equal(first, Turbine(1, seed=0).block(0))
    assert not np.array_equal(first, Turbine(2, seed=0).block(0))
    assert not np.array_equal(first, Turbine(1, seed=1).block(0))
    with pytest.raises(ValueError, match="no samples"):
        Turbine(1).rows(5, 4)


def test_samples_years_ahead_keep_their_precision():
    """After ten years the tones are still smooth: the phase is reduced in double precision before the sine."""
    start = 10 * 365 * 86400 * RATE // BLOCK * BLOCK
    turbine = Turbine(1)
    tones = turbine._tones(np.arange(start, start + 1024) / RATE)
    fastest = max(tone.order for tone in TONES) * RATED_ROTOR * 1.05
    assert np.abs(np.diff(tones, axis=0)).max() < 2 * np.pi * fastest / RATE * np.abs(tones).max() * 2


def test_speed_is_the_slope_of_the_turns():
    """The closed-form integral agrees with a numeric derivative to 1e-6 of the rated speed."""
    turbine = Turbine(3)
    t = np.linspace(0, 400, 4001)
    slope = (turbine.turns(t + 1e-3) - turbine.turns(t - 1e-3)) / 2e-3
    assert np.abs(slope - turbine.speed(t)).max() < 1e-6 * RATED_ROTOR
    assert np.abs(turbine.speed(t) / RATED_ROTOR - 1).max() < 0.031


def spectrum_by_order(turbine: Turbine, rows: NDArray[np.float32], channel: int) -> tuple[NDArray, NDArray]:
    """RMS spectrum over rotor orders: the signal resampled to equal angles, so that a moving speed smears nothing."""
    t = np.arange(len(rows)) / RATE
    turns = turbine.turns(t)
    per_turn = 2**16
    angles = np.arange(turns[0], turns[-1], 1 / per_turn)
    even = np.interp(angles, turns, rows[:, channel])
    return welch(even, fs=per_turn, nperseg=per_turn * 16, window="flattop", scaling="spectrum", detrend=False)


def test_spectral_lines_are_where_and_as_high_as_the_gears_say(minute):
    """At the high-speed sensor the 88-tooth mesh, its sidebands at the shaft's distance, and the neighbour's mesh 6 dB
    down have the amplitudes stated (A²/2, within 10 %: noise, torque swing and interpolation)."""
    orders, power = spectrum_by_order(Turbine(1, seed=7), minute, SENSORS.index("high_speed"))

    def amplitude(order: float) -> float:
        near = slice(*np.searchsorted(orders, [order - 0.2, order + 0.3]))
        return float(np.sqrt(2 * power[near].max()))

    high, middle = LOW_SHAFT * INTERMEDIATE[0] / INTERMEDIATE[1] * 88, LOW_SHAFT * INTERMEDIATE[0]
    assert amplitude(high) == pytest.approx(1.0, rel=0.1)
    assert amplitude(high + HIGH_SHAFT) == pytest.approx(0.2, rel=0.1)
    assert amplitude(high - 2 * HIGH_SHAFT) == pytest.approx(0.1, rel=0.1)
    assert amplitude(2 * high) == pytest.approx(0.5, rel=0.1)
    assert amplitude(middle) == pytest.approx(0.6 / 2, rel=0.1)
    assert amplitude(high + 0.5 * HIGH_SHAFT) < 0.02


def test_noise_is_white_and_of_the_stated_rms(minute):
    """Between 5 and 12 kHz, where no tone is, each sensor's density is its noise² over the whole band, to 2 %."""
    frequency, density = welch(minute, fs=RATE, nperseg=4096, axis=0)
    band = (frequency > 5000) & (frequency < 12000)
    assert density[band].mean(axis=0) * RATE / 2 == pytest.approx(NOISE.astype(float) ** 2, rel=0.02)


def test_bearing_frequencies_close():
    """BPFO + BPFI = n f: the outer-race formula and its mirror share the rollers' passes."""
    bearing = Bearing(elements=15, ratio=0.16, angle=12.0)
    inner = bearing.elements * 30.0 / 2 * (1 + bearing.ratio * np.cos(np.radians(bearing.angle)))
    assert bearing.outer_race(30.0) + inner == pytest.approx(bearing.elements * 30.0, rel=1e-15)
    assert Fault().order == pytest.approx(0.99 * bearing.outer_race(HIGH_SHAFT), rel=1e-15)


def test_before_the_onset_a_faulty_turbine_is_a_healthy_one():
    """The flaw adds nothing before its time, and follows its law after it: linear, then at its limit."""
    healthy, faulty = Turbine(1), Turbine(1, fault=Fault(onset=10.0))
    assert np.array_equal(faulty.rows(0, 10 * RATE), healthy.rows(0, 10 * RATE))
    fault = Fault(onset=10.0, growth=0.5, limit=3.0)
    assert fault.amplitude(np.array([0.0, 10.0, 12.0, 16.0, 99.0])).tolist() == [0.0, 0.0, 1.0, 3.0, 3.0]


def test_the_fault_lifts_kurtosis_by_what_the_impacts_say():
    """Cumulants of independent parts add: kurtosis predicted from the healthy signal and the ring's 2nd and 4th
    moments is what is measured, to 5 %; two places away (40 dB down) it stays within 1 % of the healthy one."""
    limit, stop = 8.0, 20 * RATE
    fault = Fault(onset=-100.0, growth=1e9, limit=limit)
    healthy, faulty = Turbine(4).rows(0, stop), Turbine(4, fault=fault).rows(0, stop)
    u = np.arange(0, 10 * fault.decay, 1e-6)
    ring = limit * np.exp(-u / fault.decay) * np.sin(2 * np.pi * fault.resonance * u)
    speed = (Turbine(4).turns(np.array([20.0])) / 20)[0]
    second, fourth = (fault.order * speed * (ring**n).sum() * 1e-6 for n in (2, 4))
    x = healthy[:, 3].astype(np.float64)
    variance = x.var() + second
    cumulant = (kurtosis(x) * x.var() ** 2) + fourth - 3 * second**2
    assert kurtosis(faulty[:, 3].astype(np.float64)) == pytest.approx(cumulant / variance**2, rel=0.05)
    assert cumulant / variance**2 > kurtosis(x) + 1
    far = SENSORS.index("planetary")
    assert kurtosis(faulty[:, far]) == pytest.approx(kurtosis(healthy[:, far]), abs=0.03)


def test_impacts_come_at_the_slipped_bpfo():
    """Over the rotor's angle the envelope of the ring has its strongest line at BPFO less 1 % slip, to 0.1 %; the
    neighbouring sensor sees the same impacts 20 dB down."""
    seconds = 30
    turbine = Turbine(1, fault=FULL)
    added = turbine.rows(0, seconds * RATE) - Turbine(1).rows(0, seconds * RATE)
    assert np.abs(added[:, 4]).max() == pytest.approx(IMPACT_LOSS * np.abs(added[:, 3]).max(), rel=0.01)
    turns = turbine.turns(np.arange(len(added)) / RATE)
    envelope = np.abs(hilbert(added[:, 3].astype(np.float64)))
    even = np.interp(np.arange(0, turns[-1], 1e-4), turns, envelope)
    orders, power = welch(even, fs=1e4, nperseg=40_000, nfft=2**18, detrend="constant")
    band = (orders > 300) & (orders < 800)
    assert orders[band][power[band].argmax()] == pytest.approx(FULL.order, rel=1e-3)
