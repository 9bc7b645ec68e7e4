"""`import`: a file goes in once, sample for sample, at the right times; what does not fit is refused in plain words."""

import json
import os
import wave

import numpy as np
import pytest

from wendelin_stream.batch import NS
from wendelin_stream.cli import importing
from wendelin_stream.client import connect
from wendelin_stream.store import Store, StoreConfig


def test_a_npy_file_becomes_a_stream(cli, t0, store, tmp_path):
    """Rows x channels at a rate that is no integer; read back bit for bit at exact times."""
    data = np.random.default_rng(2).normal(size=(5000, 3)).astype("<f4")
    np.save(tmp_path / "a.npy", data)
    options = ["--rate", "4999.910 Hz", "--channels", "x, y,z", "--unit", "g", "--start", "2026-11-01T10:00:00"]
    said = cli("import", tmp_path / "a.npy", "lab.shaker", *options, "-s", store).stdout
    assert "5,000 rows" in said
    with connect(store)["lab.shaker"] as stream:
        assert stream.array.tobytes() == data.tobytes()
        assert (stream.signal.channels, stream.signal.units) == (("x", "y", "z"), ("g",) * 3)
        assert str(stream.signal.rate) == "499991/100"
        assert int(stream.times(4999)[0].astype("i8")) == t0 + 4999 * 100 * NS // 499_991


def test_import_works_out_of_core_in_blocks(cli, t0, store, tmp_path):
    """9 MiB: three blocks of 4 MiB at most, one time line, Fortran order and big endian straightened."""
    data = np.asfortranarray(np.arange(2_400_000, dtype=">f4").reshape(-1, 2))
    np.save(tmp_path / "big.npy", data)
    cli("import", tmp_path / "big.npy", "big", "--rate", "1 kHz", "--start", "2026-11-01T10:00:00", "-s", store)
    with connect(store)["big"] as stream:
        assert stream.reader.records == 3
        assert np.array_equal(stream.array, data)
        assert stream.array.dtype == np.dtype("<f4")
        assert int(stream.times(-1)[0].astype("i8")) == t0 + 1_199_999 * 10**6


def test_the_same_file_goes_in_once_and_a_second_one_continues(cli, t0, store, tmp_path):
    """By content, not by name. What the stream knows need not be said again; its time goes on without a hole."""
    first, second = np.zeros((100, 2), "<i2"), np.ones((50, 2), "<i2")
    np.save(tmp_path / "a.npy", first)
    np.save(tmp_path / "b.npy", second)
    np.save(tmp_path / "copy.npy", first)
    cli("import", tmp_path / "a.npy", "s", "--rate", "256 Hz", "--start", "2026-11-01T10:00:00", "-s", store)
    for again in ("a.npy", "copy.npy"):
        assert "nothing to do" in cli("import", tmp_path / again, "s", "-s", store).stdout
    result = json.loads(cli("import", tmp_path / "b.npy", "s", "-s", store, "--json").stdout)
    assert result == {"stream": "s", "rows": 50, "total": 150}
    with connect(store)["s"] as stream:
        assert stream.times().view("i8").tolist() == [t0 + k * NS // 256 for k in range(150)]
        assert not stream.reader.index()["flags"].any()
    assert json.loads(cli("import", tmp_path / "b.npy", "s", "-s", store, "--json").stdout)["rows"] == 0


def test_a_later_start_leaves_a_hole(cli, t0, store, tmp_path):
    """--start beyond the stream's end: the record is flagged, so that no window spans the hole."""
    for name, value, start in (("a", 0, "2026-11-01T10:00:00"), ("b", 1, "2026-11-01T11:00:00")):
        np.save(tmp_path / f"{name}.npy", np.full((10, 1), value, "<f4"))
        cli("import", tmp_path / f"{name}.npy", "s", "--rate", "10 Hz", "--start", start, "-s", store)
    with connect(store)["s"] as stream:
        kinds = [type(item).__name__ for item in stream.items(0, 20)]
        assert kinds == ["Batch", "Gap", "Batch"]
        assert int(stream.times(10, 11)[0].astype("i8")) == t0 + 3600 * NS


def test_an_interrupted_import_goes_on(cli, t0, store, tmp_path, monkeypatch):
    """The disk gives out after the first block; the same command again appends the rest, at its times, once."""
    data = np.arange(2_400_000, dtype="<f4").reshape(-1, 2)
    np.save(tmp_path / "big.npy", data)
    whole = importing.open_recording

    def torn(*arguments):
        recording = whole(*arguments)

        def blocks(start):
            yield next(recording.blocks(start))
            raise OSError(5, "the disk gave out")

        return importing.Recording(recording.signal, recording.size, blocks, recording.rows_before)

    command = ["import", tmp_path / "big.npy", "big", "--rate", "1 kHz", "--start", "2026-11-01T10:00:00", "-s", store]
    with monkeypatch.context() as patch:
        patch.setattr(importing, "open_recording", torn)
        assert "gave out" in cli(*command, code=74).stderr
    assert json.loads(cli(*command, "--json").stdout)["total"] == 1_200_000
    with connect(store)["big"] as stream:
        assert np.array_equal(stream.array, data)
        assert int(stream.times(-1)[0].astype("i8")) == t0 + 1_199_999 * 10**6


@pytest.mark.parametrize(("width", "dtype"), [(2, "<i2"), (3, "<i4"), (4, "<i4")])
def test_a_wav_file_becomes_a_stream(cli, t0, store, tmp_path, width, dtype):
    """16, 24 and 32 bit, two channels: sample for sample, rate from the header; imported again it is skipped."""
    samples = np.random.default_rng(3).integers(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1), (3000, 2)).astype("<i4")
    path = tmp_path / "tape.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(48_000)
        file.writeframes(samples.view(np.uint8).reshape(-1, 4)[:, :width].tobytes())
    os.utime(path, ns=(t0 + 3000 * NS, t0 + 3000 * NS))
    cli("import", path, "tape", "--channels", "left,right", "-s", store)
    assert "nothing to do" in cli("import", path, "tape", "-s", store).stdout
    with connect(store)["tape"] as stream:
        assert stream.signal.rate == 48_000
        assert stream.signal.channels == ("left", "right")
        assert np.array_equal(stream.array, samples.astype(dtype))
        assert stream.span[0] == "2026-11-01T10:49:59.9375Z"


def test_import_refuses_what_does_not_fit(cli, store, tmp_path, waveform):
    """Another signal, no rate, a file that is none, pickled objects, shapes and types without a meaning: all plain."""
    np.save(tmp_path / "ints.npy", np.zeros((5, 2), "<i2"))
    assert "park.t01.acc" in cli("import", tmp_path / "ints.npy", "park.t01.acc", "-s", store, code=78).stderr
    assert "--rate" in cli("import", tmp_path / "ints.npy", "new", "-s", store, code=78).stderr
    assert "FREQUENCY" not in cli("import", tmp_path / "ints.npy", "new", "--rate", "fast", "-s", store, code=2).stdout
    (tmp_path / "no.npy").write_bytes(b"\x93NUMPY but no")
    assert "no NumPy array" in cli("import", tmp_path / "no.npy", "n", "--rate", "1 Hz", "-s", store, code=65).stderr
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    cli("import", tmp_path / "objects.npy", "n", "--rate", "1 Hz", "-s", store, code=65)
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    assert (
        "(rows, channels)" in cli("import", tmp_path / "cube.npy", "n", "--rate", "1 Hz", "-s", store, code=65).stderr
    )
    (tmp_path / "a.txt").write_text("1,2")
    assert ".npy and .wav" in cli("import", tmp_path / "a.txt", "n", "-s", store, code=78).stderr
    (tmp_path / "no.wav").write_bytes(b"RIFF1234WAVEjunk")
    cli("import", tmp_path / "no.wav", "n", "-s", store, code=65)
    assert (
        "names 3"
        in cli(
            "import", tmp_path / "ints.npy", "n", "--rate", "1 Hz", "--channels", "a,b,c", "-s", store, code=78
        ).stderr
    )
    assert "n" not in connect(store)


def test_structured_rows_bring_their_times(cli, store, tmp_path):
    """A .npy of records whose first field is time goes in as it is; a rate for it is refused."""
    dtype = np.dtype([("time", "<M8[ns]"), ("kw", "<f8")])
    rows = np.array([("2026-11-01T10:00:00", 1.0), ("2026-11-01T10:10:00", 2.0)], dtype=dtype)
    np.save(tmp_path / "scada.npy", rows)
    assert (
        "leave --rate" in cli("import", tmp_path / "scada.npy", "scada", "--rate", "1 Hz", "-s", store, code=78).stderr
    )
    cli("import", tmp_path / "scada.npy", "scada", "--unit", "kW", "-s", store)
    with connect(store)["scada"] as stream:
        assert stream.array.tobytes() == rows.tobytes()
        assert stream.signal.units == ("kW",)


def test_a_stream_that_a_daemon_writes_is_locked(program, store, waveform, tmp_path):
    """Exit code 75: the same command may work later."""
    np.save(tmp_path / "a.npy", np.zeros((5, 2), "<f4"))
    with Store(store, StoreConfig(keep_free=0)) as other:
        other.writer("park.t01.acc")
        result = program("import", tmp_path / "a.npy", "park.t01.acc", "-s", store)
    assert result.returncode == 75
    assert b"process" in result.stderr
    assert b"Traceback" not in result.stderr
