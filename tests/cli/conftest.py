"""Commands run in this process and as programs, and a store for them to read."""

import subprocess
import sys

import msgpack
import numpy as np
import pytest
from typer.testing import CliRunner

from wendelin_stream.batch import NS, Signal, ticks
from wendelin_stream.cli import app
from wendelin_stream.runtime.events import pack_event
from wendelin_stream.store import Chunk, Part, Store, StoreConfig
from wendelin_stream.units import parse_time

T0 = parse_time("2026-11-01T10:00:00")
WAVE = Signal(np.dtype("<f4"), ("x", "y"), ("m/s2", "m/s2"), 100)


@pytest.fixture
def t0():
    """Time of the first row of all streams here: 2026-11-01T10:00:00 UTC, in ns."""
    return T0


@pytest.fixture
def cli():
    """Run a command in this process and look at its exit code."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def program():
    """Run a command in a process of its own, to its end."""

    def run(*arguments):
        command = [sys.executable, "-m", "wendelin_stream", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, timeout=50, check=False)

    return run


@pytest.fixture
def store(tmp_path):
    """The path of an empty store, which nobody has open."""
    path = tmp_path / "data"
    with Store(path, StoreConfig(keep_free=0)):
        pass
    return path


@pytest.fixture
def put(store):
    """Append rows to a stream, in some records that follow each other at the signal's rate."""

    def append(name, rows, signal=WAVE, *, attrs=None, position=0, records=1):
        with Store(store, StoreConfig(keep_free=0)) as opened:
            writer = opened.writer(name, "rows", signal, attrs)
            for piece in np.array_split(np.arange(len(rows)), records):
                first, count = int(piece[0]), len(piece)
                times = [T0 + ticks(row, signal.rate) for row in (first, first + count - 1)]
                part = Part([rows[piece].tobytes()], count, *times, row=first)
                writer.append(Chunk([part], producer=1, position=position)).wait()

    return append


@pytest.fixture
def waveform(put):
    """The stream park.t01.acc: 250 rows of x and y at 100 Hz, row 7 without numbers."""
    rows = np.random.default_rng(1).normal(size=(250, 2)).astype("<f4")
    rows[7] = [np.nan, -np.inf]
    put("park.t01.acc", rows, records=4)
    return rows


@pytest.fixture
def events(store):
    """The stream log: six events a second apart, the last one as hard on JSON as msgpack allows; their bytes."""
    packed = [pack_event(T0 + n * NS, {"n": n, "raw": bytes([n, 255])}) for n in range(5)]
    packed.append(msgpack.packb([[0, {"m": 1}], {7: float("nan"), "t": msgpack.ExtType(5, b"\1")}]))
    with Store(store, StoreConfig(keep_free=0)) as opened:
        writer = opened.writer("log", "events")
        writer.append(Chunk([Part(packed[:2], 2, T0, T0 + NS)])).wait()
        writer.append(Chunk([Part(packed[2:], 4, T0 + 2 * NS, T0 + 9 * NS)], t_ingest=T0 + 9 * NS)).wait()
    return packed
