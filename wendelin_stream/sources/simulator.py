"""A simulated wind turbine drive train: six accelerometers, stated physics, one seed.

Pure NumPy, no clock, no I/O. Sample n is at n / 25 600 s after the start. Samples are made in blocks at absolute
sample numbers, random numbers come from a counter-based generator, phases from absolute time: however a stretch of
time is cut, the same seed gives the same samples, bit for bit.

The machine: rotor - main bearing - planetary stage (ring fixed, carrier in, sun out) - intermediate and high-speed
parallel stages - generator. All shafts are rigidly geared, so every tone has a fixed *order*, cycles per turn of the
rotor. With the tooth counts below: ratio 81.49, planetary mesh 36.5 Hz, intermediate 172.6 Hz, high speed 660.5 Hz and
a generator shaft of 30.0 Hz at the rated 22.1 rpm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RATE = 25_600
"""Samples per second of every sensor."""
BLOCK = 8192
"""Samples that are made at once, 320 ms: Fmax 10 kHz with 3200 lines."""
SENSORS = ("main_bearing", "planetary", "intermediate", "high_speed", "generator_de", "generator_nde")
"""Accelerometers along the drive train, in this order; m/s²."""

RATED_ROTOR = 22.1 / 60
"""Rotor speed in Hz around which the wind moves it."""
RING, PLANET, SUN = 99, 39, 21
INTERMEDIATE = (82, 23)
HIGH_SPEED = (88, 22)
"""Teeth of (wheel, pinion)."""

LOW_SHAFT = 1 + RING / SUN
INTERMEDIATE_SHAFT = LOW_SHAFT * INTERMEDIATE[0] / INTERMEDIATE[1]
HIGH_SHAFT = INTERMEDIATE_SHAFT * HIGH_SPEED[0] / HIGH_SPEED[1]
"""Shaft orders: turns per turn of the rotor."""

PATH_LOSS = 0.5
"""Gain from one sensor place to the next for shaft and mesh tones: 6 dB."""
IMPACT_LOSS = 0.1
"""The same for bearing impacts, whose kHz ring is damped far more: 20 dB."""
NOISE = np.array([0.10, 0.15, 0.20, 0.30, 0.25, 0.20], dtype=np.float32)
"""White noise of each sensor, m/s² RMS over the whole band."""
SWING = ((0.02, 89.0), (0.01, 31.0))
"""Rotor speed moves as 1 + sum of a sin(2 pi t / T): (a, T in s)."""


@dataclass(frozen=True, slots=True)
class Tone:
    """A sine of `order` cycles per rotor turn from sensor place `place`; amplitude in m/s² there, at rated speed."""

    name: str
    order: float
    place: int
    amplitude: float


@dataclass(frozen=True, slots=True)
class Bearing:
    """A rolling bearing: `elements` rollers, `ratio` roller over pitch diameter, contact `angle` in degrees."""

    elements: int
    ratio: float
    angle: float

    def outer_race(self, shaft: float) -> float:
        """BPFO = n f / 2 (1 - d/D cos a): passes of an outer-race flaw at shaft speed (or order) `shaft`."""
        return self.elements * shaft / 2 * (1 - self.ratio * math.cos(math.radians(self.angle)))


@dataclass(frozen=True, slots=True)
class Fault:
    """An outer-race flaw of the high-speed shaft's bearing that grows.

    At each pass of a roller the housing rings: ``A(t) exp(-u / decay) sin(2 pi resonance u)``, u seconds after the
    impact. The law of growth: ``A(t) = growth * (t - onset)``, 0 before, at most `limit` (m/s², m/s² per s, s).
    Rollers slip: the passes come `slip` slower than BPFO, and each is off by a normal part `jitter` of a period.
    The outer race stands still in the load zone, so that no shaft modulates the impacts.
    """

    onset: float = 150.0
    growth: float = 0.05
    limit: float = 20.0
    resonance: float = 3500.0
    decay: float = 1.5e-3
    slip: float = 0.01
    jitter: float = 0.015
    bearing: Bearing = Bearing(elements=15, ratio=0.16, angle=12.0)
    place: int = 3

    @property
    def order(self) -> float:
        """Impacts per turn of the rotor."""
        return self.bearing.outer_race(HIGH_SHAFT) * (1 - self.slip)

    def amplitude(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """A(t) in m/s², t in s."""
        return np.clip(self.growth * (t - self.onset), 0.0, self.limit)


def mesh(name: str, order: float, carrier: float, place: int, amplitude: float) -> list[Tone]:
    """A gear mesh: three harmonics, falling as 1/h, each with sidebands at +-1 and +-2 turns of the modulating shaft.

    order: teeth times shaft order. carrier: order of the shaft whose run-out modulates. The sidebands have 0.2 and 0.1
    of their harmonic: amplitude modulation by ``1 + 0.4 cos(wt) + 0.2 cos(2wt)``.
    """
    tones = []
    for h in (1, 2, 3):
        for side, share in ((0, 1.0), (-1, 0.2), (1, 0.2), (-2, 0.1), (2, 0.1)):
            tones.append(Tone(f"{name} {h}x{side:+d}", h * order + side * carrier, place, amplitude / h * share))
    return tones


def shaft(name: str, order: float, place: int, amplitude: float) -> list[Tone]:
    """Unbalance and misalignment: the shaft's first three harmonics with 1, 1/2 and 1/4 of `amplitude`."""
    return [Tone(f"{name} {h}x", h * order, place, amplitude / 2 ** (h - 1)) for h in (1, 2, 3)]


TONES: tuple[Tone, ...] = (
    *shaft("rotor", 1.0, 0, 0.02),
    Tone("blade passing", 3.0, 0, 0.03),
    *mesh("planetary mesh", RING, 3.0, 1, 0.3),
    *shaft("low-speed shaft", LOW_SHAFT, 2, 0.03),
    *mesh("intermediate mesh", LOW_SHAFT * INTERMEDIATE[0], INTERMEDIATE_SHAFT, 2, 0.6),
    *shaft("intermediate shaft", INTERMEDIATE_SHAFT, 2, 0.05),
    *mesh("high-speed mesh", INTERMEDIATE_SHAFT * HIGH_SPEED[0], HIGH_SHAFT, 3, 1.0),
    *shaft("high-speed shaft", HIGH_SHAFT, 3, 0.15),
    *shaft("generator shaft", HIGH_SHAFT, 4, 0.2),
)
_ORDERS = np.array([tone.order for tone in TONES])
_PLACES = np.array([tone.place for tone in TONES])
_GAINS = np.array([tone.amplitude for tone in TONES])[:, None] * PATH_LOSS ** abs(
    _PLACES[:, None] - np.arange(len(SENSORS))
)
_MIX = np.ascontiguousarray(_GAINS, dtype=np.float32)
_JITTER_GROUP = 1024
_PIECE = 1024  # samples whose tones fit the processor's cache together


class Turbine:
    """One turbine. `number` and `seed` decide all that is random: noise, phases, slip, the wind's phase.

    Not for several threads at once.
    """

    def __init__(self, number: int, *, seed: int = 0, fault: Fault | None = None) -> None:
        self.fault = fault
        words = np.random.SeedSequence([seed, number]).generate_state(6, np.uint64)
        self._noise_key, self._jitter_key = words[:2], words[2:4]
        random = np.random.Generator(np.random.Philox(key=words[4:]))
        self._phases = random.random((len(TONES), 1))
        self._winds = 2 * np.pi * random.random(len(SWING))
        self._jitters = lru_cache(maxsize=4)(self._jitter_group)
        self._blocks = lru_cache(maxsize=2)(self._make)

    def speed(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rotor speed in Hz at t seconds: rated speed times the wind's slow swing."""
        swings = [a * np.sin(2 * np.pi * t / period + w) for (a, period), w in zip(SWING, self._winds, strict=True)]
        return np.asarray(RATED_ROTOR * (1 + sum(swings)))

    def turns(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns of the rotor since t = 0: the integral of `speed` in closed form."""
        total = np.array(t, dtype=np.float64)
        for (a, period), w in zip(SWING, self._winds, strict=True):
            total += a * period / (2 * np.pi) * (math.cos(w) - np.cos(2 * np.pi * t / period + w))
        return np.asarray(RATED_ROTOR * total)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Samples start to stop: (stop - start, 6), float32, m/s², channels as in `SENSORS`. 0 <= start <= stop."""
        if not 0 <= start <= stop:
            raise ValueError(f"there are no samples {start} to {stop}")
        parts = []
        for k in range(start // BLOCK, -(-stop // BLOCK)):
            first = k * BLOCK
            parts.append(self.block(k)[max(start - first, 0) : stop - first])
        return np.concatenate(parts) if parts else np.empty((0, len(SENSORS)), np.float32)

    def block(self, k: int) -> NDArray[np.float32]:
        """Samples k * 8192 to (k + 1) * 8192: (8192, 6), float32, m/s², read-only."""
        return self._blocks(k)

    def _make(self, k: int) -> NDArray[np.float32]:
        t = np.arange(k * BLOCK, (k + 1) * BLOCK) / RATE
        rows = self._noise(k)
        for piece in range(0, BLOCK, _PIECE):
            rows[piece : piece + _PIECE] += self._tones(t[piece : piece + _PIECE])
        if self.fault is not None and self.fault.amplitude(t[-1:])[0] > 0:
            loss = IMPACT_LOSS ** abs(np.arange(len(SENSORS)) - self.fault.place)
            rows += np.outer(self._impacts(self.fault, k), loss).astype(np.float32)
        rows.flags.writeable = False
        return rows

    def _noise(self, k: int) -> NDArray[np.float32]:
        generator = np.random.Generator(np.random.Philox(key=self._noise_key, counter=[0, 0, k, 0]))
        return generator.standard_normal((BLOCK, len(SENSORS)), dtype=np.float32) * NOISE

    def _tones(self, t: NDArray[np.float64]) -> NDArray[np.float32]:
        """All tones at all sensors: amplitudes go with torque, that is with the square of the speed."""
        cycles = _ORDERS[:, None] * self.turns(t) + self._phases
        cycles -= np.rint(cycles)  # in double: the phase keeps its precision for years, the sine needs single only
        angles = cycles.astype(np.float32)
        angles *= np.float32(2 * np.pi)
        waves = np.sin(angles, out=angles)
        torque = (self.speed(t) / RATED_ROTOR) ** 2
        return np.asarray(waves.T @ _MIX) * torque.astype(np.float32)[:, None]

    def _impacts(self, fault: Fault, k: int) -> NDArray[np.float64]:
        """What the flaw adds in block k at its own place: (8192,), m/s²."""
        first, ring = k * BLOCK, math.ceil(10 * fault.decay * RATE)
        grid = np.arange(first - 2 * ring, first + BLOCK + ring) / RATE
        passes = fault.order * self.turns(grid)
        numbers = np.arange(math.floor(passes[0]), math.ceil(passes[-1]) + 1)
        when = np.interp(numbers + fault.jitter * self._jitter(numbers), passes, grid)
        strength = fault.amplitude(when)
        nearest = np.ceil(when * RATE).astype(np.int64)
        places = nearest[:, None] + np.arange(ring)
        u = places / RATE - when[:, None]
        rings = strength[:, None] * np.exp(-u / fault.decay) * np.sin(2 * np.pi * fault.resonance * u)
        inside = (places >= first) & (places < first + BLOCK)
        sums = np.bincount(places[inside] - first, weights=rings[inside], minlength=BLOCK)
        return np.asarray(sums, dtype=np.float64)

    def _jitter(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """One standard normal number for each impact, by the impact's absolute number."""
        groups = range(int(numbers[0]) // _JITTER_GROUP, int(numbers[-1]) // _JITTER_GROUP + 1)
        values = np.concatenate([self._jitters(group) for group in groups])
        return values[numbers - groups[0] * _JITTER_GROUP]

    def _jitter_group(self, group: int) -> NDArray[np.float64]:
        counter = [0, 0, group + 2**32, 0]  # the first impacts ring into block 0 from before the start: group -1
        generator = np.random.Generator(np.random.Philox(key=self._jitter_key, counter=counter))
        return generator.standard_normal(_JITTER_GROUP)
