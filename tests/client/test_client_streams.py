"""`connect`: the streams of a store as arrays, by time and by row, as events, while a writer appends."""

import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream import connect
from wendelin_stream.batch import NS, Signal, ticks
from wendelin_stream.client import Stream
from wendelin_stream.client.times import nanoseconds
from wendelin_stream.errors import ConfigError
from wendelin_stream.runtime.events import pack_event
from wendelin_stream.store import Chunk, Part, Store, StoreConfig

RATE = Fraction(25_600)
SIGNAL = Signal(np.dtype("<f4"), ("x", "y", "z"), ("m/s2",) * 3, RATE)
T0 = nanoseconds("2026-11-01T10:00:00")
CONFIG = StoreConfig(keep_free=0, segment=64 * 1024)


def append(writer, rows, *, anchor=T0, index=0):
    """One record of rows that follow each other at the signal's rate."""
    rate = writer.signal.rate
    first, last = anchor + ticks(index, rate), anchor + ticks(index + len(rows) - 1, rate)
    writer.append(Chunk([Part([rows.tobytes()], len(rows), first, last, row=index)])).wait()


def ramp(start, count):
    return np.arange(start * 3, (start + count) * 3, dtype="<f4").reshape(-1, 3)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "data", CONFIG) as opened:
        yield opened


@pytest.fixture
def acc(store):
    """1 s of a waveform in eight records over several segments, one segment being 64 KiB."""
    writer = store.writer("park.t01.acc", "rows", SIGNAL, {"sensor": "A-17"})
    for start in range(0, 25_600, 3200):
        append(writer, ramp(start, 3200), index=start)
    with connect(store.path)["park.t01.acc"] as stream:
        yield stream


# --- the workspace


def test_a_workspace_is_a_mapping_of_streams(store, acc):
    """Names, length, membership, iteration; what appears later is there without connecting again."""
    ws = connect(str(store.path))
    assert (list(ws), len(ws)) == (["park.t01.acc"], 1)
    assert "park.t01.acc" in ws
    assert "other" not in ws
    store.writer("new", "bytes")
    assert list(ws) == ["new", "park.t01.acc"]
    assert ws.get("other") is None
    assert "2 streams" in repr(ws)
    assert ws._ipython_key_completions_() == list(ws)


def test_an_unknown_stream_is_a_key_error_with_the_nearest_name(store, acc):
    """A typing mistake is answered with the name that was meant."""
    with pytest.raises(KeyError, match=r"did you mean 'park\.t01\.acc'"):
        connect(store.path)["park.t01.ac"]


@pytest.mark.parametrize("address", ["http://turbine7:8080", "https://turbine7"])
def test_an_address_is_told_that_remote_access_is_not_there(address):
    """Clear words instead of a file that is not found."""
    with pytest.raises(ConfigError, match="remote access comes with the server"):
        connect(address)


def test_a_wrong_path_is_said_at_once(tmp_path):
    """No store there: an error from `connect`, not from the first use."""
    with pytest.raises(ConfigError):
        connect(tmp_path / "nothing")


def test_importing_the_package_loads_no_numpy():
    """`import wendelin_stream` stays quick; connect comes on first use."""
    code = "import sys, wendelin_stream; assert 'numpy' not in sys.modules; wendelin_stream.connect; print('ok')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ok\n"


# --- arrays


def test_the_array_is_all_rows_over_all_segments_without_copying(acc):
    """One (rows, channels) array, read-only, the same memory at each look."""
    assert acc.array.shape == (25_600, 3)
    assert np.array_equal(acc.array, ramp(0, 25_600))
    assert not acc.array.flags.writeable
    assert np.shares_memory(acc.array, acc.array)
    assert np.shares_memory(acc.isel(9000, 9100).array, acc.array)
    assert (len(acc), acc.kind, acc.signal) == (25_600, "rows", SIGNAL)
    assert acc.attrs == {"sensor": "A-17"}
    assert np.asarray(acc).shape == (25_600, 3)


def test_refresh_shows_what_was_appended_and_keeps_old_arrays(store, acc):
    """A reader beside a writer: nothing moves until refresh; arrays and selections from before stay as they were."""
    old, selection = acc.array, acc.sel("2026-11-01T10:00:00")
    append(store.writer("park.t01.acc"), ramp(25_600, 10), index=25_600)
    assert len(acc) == 25_600
    assert acc.refresh() == 25_610
    assert acc.array.shape == (25_610, 3)
    assert np.array_equal(old, ramp(0, 25_600))
    assert len(selection) == 25_600


def test_a_stream_pickles_by_path(acc):
    """To a worker process goes the place, not the data."""
    data = pickle.dumps(acc)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).array, acc.array)


def test_batches_overlap_and_cover_every_row_once(acc):
    """Views of `rows` each, the last `overlap` of one being the next one's first; nothing only repeated."""
    batches = list(acc.iter_batches(10_000, overlap=2_000))
    assert [len(batch) for batch in batches] == [10_000, 10_000, 9_600]
    assert np.array_equal(batches[0][-2_000:], batches[1][:2_000])
    assert np.array_equal(np.concatenate([batches[0], *(b[2_000:] for b in batches[1:])]), acc.array)
    assert np.shares_memory(batches[1], acc.array)
    with pytest.raises(ConfigError, match="overlap"):
        next(acc.iter_batches(10, overlap=10))


@given(rows=st.integers(1, 40), overlap=st.integers(0, 39), total=st.integers(0, 100))
def test_batches_of_any_size_cover_the_array(rows, overlap, total):
    """Property over sizes: without their repeated heads the batches are the array again."""

    class Fake:
        array = np.arange(total)

    if overlap >= rows:
        return
    batches = list(Stream.iter_batches(Fake, rows, overlap))
    parts = [batch if k == 0 else batch[overlap:] for k, batch in enumerate(batches)]
    assert all(len(part) for part in parts)
    assert np.array_equal(np.concatenate(parts) if parts else np.empty(0, int), Fake.array)


# --- time


def test_times_are_exact_at_a_rate_that_is_no_whole_period(acc):
    """25.6 kHz is 39 062.5 ns: row k is at k / rate, rounded down once, never summed."""
    times = acc.times()
    assert times.dtype == np.dtype("<M8[ns]")
    assert times.view(np.int64).tolist() == [T0 + k * 390_625 // 10 for k in range(25_600)]
    assert np.array_equal(acc.times(3000, 3500), times[3000:3500])
    assert np.array_equal(acc.times(-2), times[-2:])


@pytest.mark.parametrize(
    "start",
    [
        "2026-11-01T10:00:00.25",
        "2026-11-01T11:00:00.25+01:00",
        datetime(2026, 11, 1, 10, 0, 0, 250_000, tzinfo=UTC),
        datetime(2026, 11, 1, 10, 0, 0, 250_000),  # noqa: DTZ001 - without a zone it is UTC
        datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2))),
        np.datetime64("2026-11-01T10:00:00.25"),
    ],
)
def test_selection_by_time_takes_all_ways_to_write_it(acc, start):
    """Half-open, UTC, a view of the files: 250 ms in is row 6400; a quarter of a second is 6400 rows."""
    view = acc.sel(start, "2026-11-01T10:00:00.5")
    assert view.runs == ((6400, 12_800),)
    assert np.shares_memory(view.array, acc.array)
    assert np.array_equal(view.array, ramp(6400, 6400))
    assert np.array_equal(view.times, acc.times(6400, 12_800))
    assert "6,400 rows" in repr(view)


def test_bounds_may_be_open_or_outside(acc):
    """None is open; before the first and behind the last row is no error."""
    assert len(acc.sel()) == 25_600
    assert len(acc.sel(None, "2026-11-01T10:00:00")) == 0
    assert len(acc.sel("2026-11-02")) == 0
    assert acc.sel("2026-11-02").array.shape == (0, 3)
    assert acc.sel("2026-11-02").times.shape == (0,)
    assert len(acc.sel("2020-01-01", "2030-01-01")) == 25_600
    assert len(acc.isel(-10)) == 10
    assert len(acc.isel(5, 2)) == 0


@pytest.mark.parametrize("wrong", [1.5, 1_700_000_000, "yesterday", np.datetime64("NaT"), object()])
def test_what_is_no_time_is_refused_with_an_example(acc, wrong):
    """Bare numbers included: nobody should have to guess their unit."""
    with pytest.raises(ConfigError):
        acc.sel(wrong)


@given(st.data())
def test_selection_equals_a_mask_over_all_times(tmp_path_factory, data):
    """Against the obvious oracle, with holes, late records and one-row records: the same rows in the same order."""
    starts = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=8))
    counts = data.draw(st.lists(st.integers(1, 9), min_size=len(starts), max_size=len(starts)))
    signal = Signal(np.dtype("<i4"), ("n",), rate=Fraction(10, 3))
    with Store(tmp_path_factory.mktemp("sel"), StoreConfig(keep_free=0, policy="os")) as store:
        writer = store.writer("s", "rows", signal)
        row = 0
        for start, count in zip(starts, counts, strict=True):
            append(writer, np.arange(row, row + count, dtype="<i4")[:, None], anchor=start * NS)
            row += count
        stream = connect(store.path)["s"]
        times = stream.times().view(np.int64)
        a, b = sorted(data.draw(st.tuples(st.integers(-1, 70), st.integers(-1, 70))))
        view = stream.sel(np.datetime64(a * NS, "ns"), np.datetime64(b * NS, "ns"))
        keep = (times >= a * NS) & (times < b * NS)
        assert np.array_equal(view.array[:, 0], np.flatnonzero(keep))
        assert np.array_equal(view.times.view(np.int64), times[keep])
        assert len(view) == keep.sum()
        stream.close()


def test_rows_that_carry_their_time_are_selected_by_it(store):
    """A structured stream: selection looks into the rows, whatever their order within a record."""
    dtype = np.dtype([("time", "<M8[ns]"), ("power", "<f8")])
    signal = Signal(dtype, ("power",), ("kW",))
    rows = np.array([(T0 + s * NS, s) for s in (0, 2, 1, 3)], dtype=[("time", "<i8"), ("power", "<f8")]).astype(dtype)
    writer = store.writer("scada", "rows", signal)
    writer.append(Chunk([Part([rows.tobytes()], 4, T0, T0 + 3 * NS)])).wait()
    scada = connect(store.path)["scada"]
    assert scada.array.dtype == dtype
    assert scada.sel("2026-11-01T10:00:01", "2026-11-01T10:00:03").array["power"].tolist() == [2.0, 1.0]
    assert scada.sel("2026-11-01T10:00:02").array["power"].tolist() == [2.0, 3.0]
    assert scada.times(1, 3).view(np.int64).tolist() == [T0 + 2 * NS, T0 + NS]


# --- events and bytes


@pytest.fixture
def log(store):
    """Three chunks: two events, one without a time of its own (0: "now"), one late."""
    writer = store.writer("app.log", "events")
    a, b = pack_event(T0, {"n": 1}), pack_event(T0 + NS, {"n": 2, "raw": b"\xff\x00"})
    writer.append(Chunk([Part([a, b], 2, T0, T0 + NS)])).wait()
    now = msgpack.packb([0, {"n": 3}])
    writer.append(Chunk([Part([now], 1, T0 + 5 * NS, T0 + 5 * NS)], t_ingest=T0 + 5 * NS)).wait()
    late = pack_event(T0 - NS, {"n": 4, "text": b"\xfc".decode(errors="surrogateescape")})
    writer.append(Chunk([Part([late], 1, T0 - NS, T0 - NS)])).wait()
    with connect(store.path)["app.log"] as stream:
        yield stream


def test_events_come_decoded_with_time_and_position(log):
    """In order of arrival; a time of 0 is the time of arrival; the bytes at each position are the event's own."""
    events = list(log.events())
    assert [event.record["n"] for event in events] == [1, 2, 3, 4]
    assert [int(event.time.astype("i8")) for event in events] == [T0, T0 + NS, T0 + 5 * NS, T0 - NS]
    assert events[1].record["raw"] == b"\xff\x00"
    assert len(log) == 4
    assert log.array.dtype == np.uint8
    for event in events:
        data = log.array[event.position : event.position + event.size].tobytes()
        assert msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogateescape")[1] == event.record


def test_events_by_time_and_by_number(log):
    """Half-open in time, late ones found; numbers count from the first event."""
    assert [e.record["n"] for e in log.events("2026-11-01T10:00:00", "2026-11-01T10:00:05")] == [1, 2]
    assert [e.record["n"] for e in log.events(None, "2026-11-01T10:00:00")] == [4]
    assert [e.record["n"] for e in log.events_within(first=1, end=3)] == [2, 3]


def test_each_kind_says_what_it_cannot_do(store, log, acc):
    """Rows have no events, events no times: the error names the way that works."""
    with pytest.raises(ConfigError, match=r"events\(start, stop\)"):
        log.sel("2026-11-01")
    with pytest.raises(ConfigError, match=r"events\(start, stop\)"):
        log.times()
    with pytest.raises(ConfigError, match=r"use events\(\)"):
        log.isel(0, 1)
    with pytest.raises(ConfigError, match="holds rows"):
        list(acc.events())
    writer = store.writer("blob", "bytes")
    writer.append(Chunk([Part([b"abcdef"], 1, T0, T0)])).wait()
    blob = connect(store.path)["blob"]
    assert blob.isel(1, 3).array.tobytes() == b"bc"
    assert (len(blob), blob.signal) == (6, None)
    with pytest.raises(ConfigError, match="by byte"):
        blob.sel("2026-11-01")


def test_empty_streams_are_no_special_case(store):
    """Made, nothing appended: empty arrays of the right shape, no time, a repr."""
    store.writer("rows", "rows", SIGNAL)
    store.writer("events", "events")
    ws = connect(store.path)
    assert ws["rows"].array.shape == (0, 3)
    assert ws["rows"].times().shape == (0,)
    assert len(ws["rows"].sel("2026-11-01")) == 0
    assert list(ws["rows"].iter_batches(10)) == []
    assert list(ws["events"].events()) == []
    assert ws["events"].span == ("", "")
    assert "0" in repr(ws["rows"])


# --- shown


def test_repr_and_html_show_the_facts_and_escape_them(store, acc):
    """Kind, rows, rate, channels, times, attributes; HTML of a hostile attribute is text."""
    text = repr(acc)
    for fact in ("park.t01.acc", "25,600", "25.6 kHz", "x, y, z", "m/s2", "2026-11-01T10:00:00Z", "A-17"):
        assert fact in text
    store.writer("park.t01.acc", attrs={"note": "<script>"})
    html = connect(store.path)["park.t01.acc"]._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "park.t01.acc" in connect(store.path)._repr_html_()
