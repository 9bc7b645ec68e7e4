"""`plot`: no peak is lost, axes are in the right units, and what cannot be drawn is told."""

import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from matplotlib.dates import num2date

from wendelin_stream.batch import Axis, Signal
from wendelin_stream.cli import pictures
from wendelin_stream.client import connect
from wendelin_stream.store import Chunk, Part, Store, StoreConfig


def test_the_envelope_keeps_every_peak():
    """Minimum and maximum of each stretch, the last one to the end; a NaN shows."""
    column = np.zeros(1000, "<f4")
    column[[3, 501, 999]] = [5, -7, 9]
    low, high = pictures.envelope(column, np.array([0, 250, 500, 750]))
    assert (low.tolist(), high.tolist()) == ([0, 0, -7, 0], [5, 0, 0, 9])
    column[10] = np.nan
    assert np.isnan(pictures.envelope(column, np.array([0, 250]))[0][0])


def test_short_rows_are_drawn_as_they_are(store, waveform):
    """A panel for each channel, every row a point at its time, the unit beside it."""
    with connect(store)["park.t01.acc"] as stream:
        figure = pictures.over_time(stream, [(0, 250)], ["x", "y"])
        assert [panel.get_ylabel() for panel in figure.axes] == ["[m/s2]", "[m/s2]"]
        line = figure.axes[1].lines[0]
        assert np.array_equal(line.get_ydata(), waveform[:, 1], equal_nan=True)
        assert len(line.get_xdata()) == 250
        assert num2date(figure.axes[1].dataLim.x0) == datetime(2026, 11, 1, 10, tzinfo=UTC)
        assert line.get_label() == "y"


def test_long_rows_are_drawn_as_their_envelope(store, put):
    """100 000 rows with one spike: the picture has the spike, and some thousand points only."""
    rows = np.zeros((100_000, 2), "<f4")
    rows[77_777, 0] = 42.0
    put("long", rows)
    with connect(store)["long"] as stream:
        figure = pictures.over_time(stream, [(0, 100_000)], ["x"])
        path = figure.axes[0].collections[0].get_paths()[0].vertices
        assert path[:, 1].max() == 42.0
        assert len(path) < 5 * pictures.POINTS


def test_many_channels_share_panels_by_unit(store, put):
    """Twelve features of two units: two panels, all twelve named."""
    names = tuple(f"f{k}" for k in range(12))
    put("features", np.zeros((5, 12)), Signal(np.dtype("<f8"), names, ("m/s2",) * 7 + ("",) * 5, rate=1))
    with connect(store)["features"] as stream:
        figure = pictures.over_time(stream, [(0, 5)], names)
        assert [panel.get_ylabel() for panel in figure.axes] == ["[m/s2]", ""]
        labels = [text.get_text() for panel in figure.axes for text in panel.get_legend().get_texts()]
        assert labels == list(names)


def test_spectra_are_drawn_over_their_axis_latest_and_mean(store, put):
    """The axis' own frequencies in Hz; the newest row, and the mean of the rows chosen."""
    signal = Signal(np.dtype("<f8"), ("x", "y"), ("m/s2", "g"), 1, (Axis("frequency", "Hz", 3, 0.0, 3.125),))
    rows = np.arange(1.0, 25.0).reshape(4, 2, 3)
    put("spectrum", rows, signal)
    with connect(store)["spectrum"] as stream:
        figure = pictures.spectra(stream, [(1, 3)], ["y"])
        latest, mean = figure.axes[0].lines
        assert latest.get_xdata().tolist() == [0.0, 3.125, 6.25]
        assert latest.get_ydata().tolist() == rows[2, 1].tolist()
        assert mean.get_ydata().tolist() == rows[1:3, 1].mean(axis=0).tolist()
        assert "mean of 2" in mean.get_label()
        assert "frequency [Hz]" in figure.axes[0].get_xlabel()
        assert "[g]" in figure.axes[0].get_ylabel()


def test_the_spectrum_of_a_waveform_has_its_sine(store, put):
    """A 12.5 Hz sine of amplitude 2: the density's peak is there and its sum is the power A²/2, to 1 %."""
    t = np.arange(20_000) / 100
    put("sine", np.stack([2 * np.sin(2 * np.pi * 12.5 * t), 0 * t], axis=1).astype("<f4"), records=3)
    with connect(store)["sine"] as stream:
        line = pictures.waveform_spectrum(stream, [(0, 20_000)], ["x"]).axes[0].lines[0]
        frequency, density = line.get_xdata(), line.get_ydata()
        assert frequency[density.argmax()] == pytest.approx(12.5, abs=frequency[1])
        assert density.sum() * frequency[1] == pytest.approx(2.0, rel=0.01)


def test_no_spectrum_spans_a_hole(store, tmp_path, cli):
    """Two recordings with an hour between them: windows stay within each; too short ones are told."""
    for value, start in ((1, "2026-11-01T10:00:00"), (2, "2026-11-01T11:00:00")):
        np.save(tmp_path / "part.npy", np.full((5, 1), value, "<f4"))
        cli("import", tmp_path / "part.npy", "s", "--rate", "10 Hz", "--start", start, "-s", store)
    with connect(store)["s"] as stream, pytest.raises(ValueError, match="without a hole"):
        pictures.waveform_spectrum(stream, [(0, 10)], ["ch1"])
    with connect(store)["s"] as stream:
        assert len(stream) == 10


@pytest.mark.leaks("matplotlib keeps the files of its fonts open")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_file_is_written(store, waveform, tmp_path, cli, suffix):
    """All of it through the command, by time and channel; it says how many rows it took."""
    file = tmp_path / f"out.{suffix}"
    options = ["--from", "2026-11-01T10:00:01", "--channel", "y", "-o", file, "-s", store]
    assert "150 rows" in cli("plot", "park.t01.acc", *options).stdout
    assert file.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_without_matplotlib_the_command_to_get_it_is_told(store, waveform, cli, monkeypatch):
    """matplotlib is an extra: pip's line, exit code 78."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli("plot", "park.t01.acc", "-o", "x.png", "-s", store, code=78)
    assert "pip install 'wendelin-stream[plot]'" in result.stderr


@pytest.mark.leaks("matplotlib keeps the files of its fonts open")
def test_what_cannot_be_drawn_is_told(store, waveform, events, tmp_path, cli):
    """Wrong channel, no rows there, events, a format that is none, a stream that carries its time as spectrum."""
    file = tmp_path / "x.png"
    assert "did you mean 'x'" in cli("plot", "park.t01.acc", "--channel", "xx", "-o", file, "-s", store, code=78).stderr
    nothing = cli("plot", "park.t01.acc", "--from", "2027-01-01", "-o", file, "-s", store, code=78).stderr
    assert "250 rows, 2026-11-01T10:00:00Z" in nothing
    assert "holds events" in cli("plot", "log", "-o", file, "-s", store, code=78).stderr
    assert "xyz" in cli("plot", "park.t01.acc", "-o", tmp_path / "x.xyz", "-s", store, code=78).stderr
    dtype = np.dtype([("time", "<M8[ns]"), ("kw", "<f8")])
    with Store(store, StoreConfig(keep_free=0)) as opened:
        writer = opened.writer("scada", "rows", Signal(dtype, ("kw",)))
        writer.append(Chunk([Part([np.zeros(3, dtype).tobytes()], 3, 0, 0)])).wait()
    assert "no sample rate" in cli("plot", "scada", "--spectrum", "-o", file, "-s", store, code=78).stderr
    cli("plot", "scada", "-o", file, "-s", store)
