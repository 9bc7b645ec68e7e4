"""`cat`: what went in comes out, byte for byte, in every format."""

import base64
import csv
import io
import json
import subprocess
import sys

import numpy as np

from wendelin_stream.batch import Axis, Signal
from wendelin_stream.store import Chunk, Part, Store, StoreConfig


def test_raw_gives_the_stored_bytes(cli, store, waveform):
    """All of them, a range by row, the last three."""
    assert cli("cat", "park.t01.acc", "-s", store, "-f", "raw").stdout_bytes == waveform.tobytes()
    part = cli("cat", "park.t01.acc", "-s", store, "-f", "raw", "--from", "10", "--to", "-200").stdout_bytes
    assert part == waveform[10:50].tobytes()
    assert cli("cat", "park.t01.acc", "-s", store, "-f", "raw", "-n", "3").stdout_bytes == waveform[-3:].tobytes()


def test_npy_loads_as_the_array(cli, store, waveform, tmp_path):
    """To standard output and to a file, with dtype and shape; nothing chosen is an array without rows."""
    out = cli("cat", "park.t01.acc", "-s", store, "-f", "npy").stdout_bytes
    assert np.load(io.BytesIO(out)).tobytes() == waveform.tobytes()
    file = tmp_path / "part.npy"
    cli("cat", "park.t01.acc", "-s", store, "-f", "npy", "--from", "2026-11-01T10:00:01", "-o", file)
    assert np.array_equal(np.load(file), waveform[100:], equal_nan=True)
    cli("cat", "park.t01.acc", "-s", store, "-f", "npy", "-n", "0", "-o", file)
    assert np.load(file).shape == (0, 2)


def test_csv_reads_back_to_the_same_bits(cli, store, waveform):
    """A time column to the nanosecond, one for each channel; numbers survive the text."""
    lines = list(csv.reader(cli("cat", "park.t01.acc", "-s", store).stdout.splitlines()))
    assert lines[0] == ["time", "x", "y"]
    assert lines[1][0] == "2026-11-01T10:00:00.000000000Z"
    assert lines[2][0] == "2026-11-01T10:00:00.010000000Z"
    assert np.array([line[1:] for line in lines[1:]], dtype="<f4").tobytes() == waveform.tobytes()


def test_json_lines_read_back_to_the_same_bits(cli, store, waveform):
    """One object a line; what JSON has no number for is null."""
    lines = [json.loads(line) for line in cli("cat", "park.t01.acc", "-s", store, "-f", "json").stdout.splitlines()]
    assert lines[0]["time"] == "2026-11-01T10:00:00Z"
    assert (lines[7]["x"], lines[7]["y"]) == (None, None)
    back = np.array([[line["x"], line["y"]] for line in lines if line["x"] is not None], dtype="<f4")
    assert back.tobytes() == np.delete(waveform, 7, axis=0).tobytes()


def test_time_bounds_are_half_open_and_mix_with_numbers(cli, store, waveform):
    """--from a time, --to a row; then the last of what is chosen."""
    out = cli(
        "cat", "park.t01.acc", "-s", store, "-f", "raw", "--from", "2026-11-01T10:00:01Z", "--to", "150"
    ).stdout_bytes
    assert out == waveform[100:150].tobytes()
    bounds = ["--from", "2026-11-01T10:00:00.5", "--to", "2026-11-01T10:00:01", "--last", "2"]
    assert cli("cat", "park.t01.acc", "-s", store, "-f", "raw", *bounds).stdout_bytes == waveform[98:100].tobytes()


def test_rows_with_axes_get_a_column_for_each_value(cli, put, store):
    """A spectrum in csv: channel@frequency; in json: a list for each channel."""
    signal = Signal(np.dtype("<f8"), ("x",), rate=1, axes=(Axis("frequency", "Hz", 3, 0.0, 12.5),))
    rows = np.arange(6.0).reshape(2, 1, 3)
    put("spectrum", rows, signal)
    lines = cli("cat", "spectrum", "-s", store).stdout.splitlines()
    assert lines[0] == "time,x@0,x@12.5,x@25"
    assert lines[2] == "2026-11-01T10:00:01.000000000Z,3.0,4.0,5.0"
    last = cli("cat", "spectrum", "-s", store, "-f", "json", "-n", "1").stdout
    assert json.loads(last) == {"time": "2026-11-01T10:00:01Z", "x": [3.0, 4.0, 5.0]}


def test_rows_that_carry_their_time(cli, t0, store):
    """A structured stream in all formats: fields are columns, npy keeps the dtype."""
    dtype = np.dtype([("time", "<M8[ns]"), ("kw", "<f8"), ("state", "<i2")])
    rows = np.array([(t0, 1.5, 2), (t0 + 1, 2.5, 3)], dtype=[("time", "<i8"), ("kw", "<f8"), ("state", "<i2")])
    with Store(store, StoreConfig(keep_free=0)) as opened:
        writer = opened.writer("scada", "rows", Signal(dtype, ("kw", "state")))
        writer.append(Chunk([Part([rows.tobytes()], 2, t0, t0 + 1)])).wait()
    lines = cli("cat", "scada", "-s", store).stdout.splitlines()
    assert lines == ["time,kw,state", "2026-11-01T10:00:00.000000000Z,1.5,2", "2026-11-01T10:00:00.000000001Z,2.5,3"]
    assert json.loads(cli("cat", "scada", "-s", store, "-f", "json", "-n", "1").stdout)["state"] == 3
    back = np.load(io.BytesIO(cli("cat", "scada", "-s", store, "-f", "npy").stdout_bytes))
    assert back.dtype == dtype
    assert back.tobytes() == rows.tobytes()


def test_events_are_json_lines_with_binary_as_base64(cli, store, events):
    """What JSON cannot hold has a form: base64, {"ext", "data"}, null, text keys."""
    lines = [json.loads(line) for line in cli("cat", "log", "-s", store).stdout.splitlines()]
    assert lines[1]["time"] == "2026-11-01T10:00:01Z"
    assert lines[1]["record"] == {"n": 1, "raw": base64.b64encode(b"\x01\xff").decode()}
    assert lines[5] == {"time": "2026-11-01T10:00:09Z", "record": {"7": None, "t": {"ext": 5, "data": "AQ=="}}}


def test_events_raw_are_the_bytes_as_sent(cli, store, events):
    """All, by number, by time, and the last of a range of time."""
    assert cli("cat", "log", "-s", store, "-f", "raw").stdout_bytes == b"".join(events)
    assert cli("cat", "log", "-s", store, "-f", "raw", "--from", "1", "--to", "4").stdout_bytes == b"".join(events[1:4])
    assert cli("cat", "log", "-s", store, "-f", "raw", "-n", "2").stdout_bytes == b"".join(events[-2:])
    bounds = ["--from", "2026-11-01T10:00:01", "--to", "2026-11-01T10:00:05"]
    assert cli("cat", "log", "-s", store, "-f", "raw", *bounds).stdout_bytes == b"".join(events[1:5])
    assert cli("cat", "log", "-s", store, "-f", "raw", *bounds, "-n", "1").stdout_bytes == events[4]


def test_bytes_come_as_they_are(cli, t0, store):
    """A stream of bytes: ranges by byte; a table of them is refused with what works."""
    with Store(store, StoreConfig(keep_free=0)) as opened:
        opened.writer("blob", "bytes").append(Chunk([Part([b"\0abc", b"\xff"], 1, t0, t0)])).wait()
    assert cli("cat", "blob", "-s", store).stdout_bytes == b"\0abc\xff"
    assert cli("cat", "blob", "-s", store, "--from", "1", "--to", "3").stdout_bytes == b"ab"
    assert "raw or npy" in cli("cat", "blob", "-s", store, "-f", "csv", code=78).stderr
    assert "by byte" in cli("cat", "blob", "-s", store, "--from", "2026-11-01", code=78).stderr


def test_a_table_of_events_is_refused(cli, store, events):
    """csv of events: the message names the formats that there are."""
    assert "json or raw" in cli("cat", "log", "-s", store, "-f", "csv", code=78).stderr


def test_a_closed_pipe_ends_quietly(put, store):
    """`cat | head`: no traceback, no message, the exit code of a program that SIGPIPE ended."""
    put("long", np.zeros((500_000, 2), "<f4"))
    command = [sys.executable, "-m", "wendelin_stream", "cat", "long", "-s", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"time,x,y\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(50) == 141
