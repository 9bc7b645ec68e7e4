"""Bad input costs only itself: the dead letter has it durably with the reason, and what is good goes on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.runtime.runtime_kit import QUICK, SIGNAL, at, piece, raw, repeat, room, rows, samples
from wendelin_stream.batch import NS, Batch
from wendelin_stream.config import CodecSpec
from wendelin_stream.errors import BadData, Retry
from wendelin_stream.plugin import Blob, Decoded, Message, Options, Rejected
from wendelin_stream.runtime import deadletter, door, ingest, routing
from wendelin_stream.runtime.events import pack_event
from wendelin_stream.store import Store
from wendelin_stream.testing.sources import NOW, ScriptedSource, events, unit


async def test_F25_a_record_that_does_not_decode_costs_only_itself(tmp_path: Path) -> None:
    """Of three events the middle one holds half a sample: it alone is in the dead letter, and all is acked."""
    middle = {"d": b"\x00"}
    body = events([(at(0), {"d": samples(0, 5)}), (at(5), middle), (at(5), {"d": samples(5, 5)})])
    source = ScriptedSource(unit("10.0.0.7:5", 1, "acc.a", body))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("10.0.0.7:5", 1)
        assert inside.rows("acc.a") == list(range(10))
        (kept,) = inside.dead()
        assert (kept["tag"], kept["peer"]) == ("acc.a", "10.0.0.7:5")
        assert kept["payload"] == pack_event(at(5), middle)
        assert "1 bytes are no multiple of a row of 2 bytes" in kept["reason"]
        assert inside.ingest.counters["door"].rejected == 1


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("nowhere", "no policy takes this tag"),
        ("../../etc", "no policy takes this tag"),
        ("", "must not be empty"),
        ("x" * 300, "a tag of 300 characters is too long"),
        ("ä" * 150, "too long"),
        ("\ud800", "not text"),
        ("dead-letter.door", "are the dead letter's own"),
        ("out.acc.a", "is written by pipeline features"),
    ],
)
async def test_F24_a_tag_that_leads_nowhere_is_kept_with_the_reason(tmp_path: Path, tag: str, reason: str) -> None:
    """Unknown, hostile, empty, endless, or of a stream that is not for senders: acked, and in the dead letter."""
    source = ScriptedSource(rows("a", 0, tag=tag), rows("a", 1))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 1)
        (kept,) = inside.dead()
        assert kept["tag"] == ("\\ud800" if tag == "\ud800" else tag)
        assert reason in kept["reason"]
        assert kept["payload"] == pack_event(at(0), {"d": samples(0, 10)})
        assert inside.rows("acc.a") == list(range(10, 20))
    streams = sorted(path.name for path in (tmp_path / "store" / "streams").iterdir())
    assert streams == ["acc.a", "dead-letter.door"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "store"]


async def test_a_hostile_tag_that_a_policy_takes_stays_in_the_store(tmp_path: Path) -> None:
    """Percent-encoded, it is a name like any other."""
    source = ScriptedSource(rows("a", 0, tag="log.../../etc/passwd"), rows("a", 1, tag="log.\x00\n"))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 1)
    streams = {path.name for path in (tmp_path / "store" / "streams").iterdir()}
    assert {"log.%2E%2E%2F%2E%2E%2Fetc%2Fpasswd", "log.%00%0A"} <= streams or len(streams) == 2
    assert all("/" not in name and not name.startswith(".") for name in streams)


async def test_tags_of_megabytes_are_neither_encoded_nor_remembered_nor_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sender may put anything into a tag; the dead letter has it, memory and log do not."""
    tags = [f"{n}" + "y" * 100_000 for n in range(5)]
    source = ScriptedSource(*(rows("a", n, tag=tag) for n, tag in enumerate(tags)))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 4)
        assert [kept["tag"] for kept in inside.dead()] == tags
        assert not inside.ingest._targets
    assert max(len(record.getMessage()) for record in caplog.records) < 500


async def test_ever_new_tags_do_not_grow_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that never come to be, since nothing decodes, are forgotten with their tags."""
    monkeypatch.setattr(ingest, "MOST_TAGS", 10)
    units = [unit("a", n, f"acc.{n}", events([(NOW, {"d": b"x"})])) for n in range(100)]
    source = ScriptedSource(*units)
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 99)
        assert len(inside.dead()) == 100
        assert len(inside.ingest._targets) <= 10
        assert len(inside.ingest._flows) <= 11


async def test_F24_a_full_dead_letter_refuses_and_does_not_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is bounded; behind an acknowledgement nothing is dropped, so there is none. Good input goes on."""
    monkeypatch.setattr(deadletter, "LIMIT", 600)
    source = ScriptedSource(rows("a", 0, tag="nowhere"), rows("b", 0))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("b", 0)
        number = 1
        while not source.refusals("a"):
            await source.send(rows("a", number, tag="nowhere"))
            await source.answered(len(source.answers) + 1)
            number += 1
        assert source.refusals("a") == [(number - 1, "dead-letter.door is full")]
        assert len(inside.dead()) == number - 1
        await source.send(rows("b", 1))
        await source.committed("b", 1)
    assert "is full (600 bytes): a is refused from now on" in caplog.text


async def test_a_repeat_is_in_the_dead_letter_once(tmp_path: Path) -> None:
    """The chunk id counts there too."""
    first = rows("a", 0, tag="nowhere")
    source = ScriptedSource(first, repeat(first))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 0)
        await source.committed("again", 0)
        assert len(inside.dead()) == 1


async def test_what_the_source_itself_set_aside_is_kept_beside_the_rest(tmp_path: Path) -> None:
    """One delivery, two streams: the commit comes when both are durable."""
    good = rows("a", 1)
    source = ScriptedSource(replace(good, rejected=(Rejected(b"\xc0", "the record is no map"),)))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 1)
        assert inside.rows("acc.a") == list(range(10, 20))
        assert [(one["payload"], one["reason"]) for one in inside.dead()] == [(b"\xc0", "the record is no map")]


@pytest.mark.parametrize(
    "record",
    [
        b"\x81\x91\x01\x02",  # a list as a key
        b"\x81\x80\x02",  # a map as a key
        b"\x81\xa1a\xc7\x03\xff\x01\x02\x03",  # a timestamp of three bytes
        b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,  # one with 4 294 967 295 nanoseconds
        b"\x81\xa1a" + b"\x91" * 1000 + b"\xc0",  # nested as deep as the door allows
        b"\x81\xc0\xc0",  # nothing under no name
    ],
)
async def test_F25_valid_msgpack_that_is_nothing_in_python_does_not_stop_the_source(
    tmp_path: Path, record: bytes
) -> None:
    """The sender would send it again and again; so it goes to the dead letter, and the next unit is stored."""
    poison = unit("a", 0, "acc.a", raw(record))
    source = ScriptedSource(poison, rows("a", 1))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 1)
        (kept,) = inside.dead()
        assert kept["payload"] == raw(record).data
        assert inside.rows("acc.a") == list(range(10, 20))


async def test_F20_rows_at_times_that_no_index_can_hold_are_set_aside(tmp_path: Path) -> None:
    """The last row of the block would be behind the year 2262."""
    time = (2**63 - 1) // NS
    event = b"\x92" + msgpack.packb(time) + msgpack.packb({"d": samples(0, 2000)})
    body = replace(raw(b""), data=event)
    source = ScriptedSource(unit("a", 0, "acc.a", body), rows("a", 1))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 1)
        assert "64 bits of nanoseconds" in inside.dead()[0]["reason"]
        assert inside.rows("acc.a") == list(range(10, 20))


# --- codecs that fail


class Moody:
    """A codec that does what the message says."""

    class Config(Options):
        pass

    def __init__(self, config: Options) -> None:
        pass

    def decode(self, message: Message) -> Decoded:
        data = message.payload["d"] if isinstance(message.payload, dict) else bytes(message.payload)
        what = bytes(data[:1])
        good = np.frombuffer(data, "<i2") if len(data) % 2 == 0 else np.zeros(1, "<i2")
        if what == b"K":
            raise KeyError("surprise")
        if what == b"R":
            raise Retry("a codec must not say this")
        shapes: dict[bytes, Any] = {
            b"0": np.zeros((0, 1), "<i2"),
            b"2": np.zeros((3, 2), "<i2"),
            b"f": np.zeros((3, 1), "<f8"),
        }
        rows = shapes.get(what, good.reshape(-1, 1))
        return Decoded((Batch(SIGNAL, rows, message.time or 0),), len(data))


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodecSpec, "make", lambda self: Moody(Options()))
    monkeypatch.setattr(routing, "_told", set())


@pytest.mark.parametrize("what", [b"K", b"R", b"0", b"2", b"f"])
async def test_F27_a_codec_with_a_fault_costs_the_message(
    tmp_path: Path, moody: None, what: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that nobody expected, or rows that are none: the dead letter, and one traceback in the log."""
    source = ScriptedSource(
        unit("a", 0, "acc.a", events([(at(0), {"d": what}), (at(0), {"d": what}), (at(0), {"d": samples(100, 2)})]))
    )
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 0)
        assert len(inside.dead()) == 2
        assert all("Moody failed" in kept["reason"] for kept in inside.dead())
        assert inside.rows("acc.a") == [100, 101]
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1


async def test_a_piece_of_which_a_codec_makes_nothing_for_too_long_is_not_collected_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a codec leaves over waits in memory for the next piece: bounded, then the file is refused for good."""

    class Undecided(Moody):
        def decode(self, message: Message) -> Decoded:
            return Decoded((), 0)

    monkeypatch.setattr(CodecSpec, "make", lambda self: Undecided(Options()))
    monkeypatch.setattr(door, "LONGEST_REST", 100)
    data = bytes(1000)
    source = ScriptedSource(*(piece(data, n, size=40) for n in range(0, 400, 40)))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.until(lambda s: bool(s.refusals("file")))
        assert isinstance(source.answers[-1].why, BadData)
        assert "makes nothing of 120 bytes from byte 0 on" in source.refusals("file")[0][1]


# --- streams that hold something else


async def test_rows_of_another_signal_are_set_aside(tmp_path: Path) -> None:
    """The policy says two channels now, the stream has one: its rows stay pure, and the reason names both."""
    source = ScriptedSource(rows("a", 0), unit("a", 1, "wide", events([(at(0), {"d": samples(0, 4)})])))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 1)
        (kept,) = inside.dead()
        assert kept["reason"] == "it holds <i2 [x,y] at 1000 per second, the stream <i2 [x] at 1000 per second"
        assert inside.rows("acc.a") == list(range(10))
    again = ScriptedSource(unit("a", 2, "wide", events([(at(0), {"d": samples(0, 4)})] * 2)))
    async with room(tmp_path) as inside:
        await inside.serve(again)
        await again.committed("a", 2)
        assert len(inside.dead()) == 3


async def test_events_of_one_unit_with_several_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec may find the signal in the data: the first one makes the stream, the others are set aside one by one."""

    class Told(Moody):
        def decode(self, message: Message) -> Decoded:
            rate = message.payload["rate"]
            batch = Batch(replace(SIGNAL, rate=rate), np.array([[rate]], "<i2"), message.time or 0)
            return Decoded((batch,), 0)

    monkeypatch.setattr(CodecSpec, "make", lambda self: Told(Options()))
    body = events([(at(n), {"rate": rate}) for n, rate in enumerate((1000, 500, 1000))])
    source = ScriptedSource(unit("a", 0, "acc.a", body))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 0)
        assert inside.rows("acc.a") == [1000, 1000]
        assert [kept["reason"][:9] for kept in inside.dead()] == ["it holds "]


@pytest.mark.parametrize("first", ["events", "bytes"])
async def test_events_and_bytes_do_not_mix_in_one_stream(tmp_path: Path, first: str) -> None:
    """A tag without codec that a network source and a file both use: the second one is set aside, whoever it is."""
    units = [rows("a", 0, tag="log.a"), unit("b", 0, "log.a", Blob(b"plain"))]
    if first == "bytes":
        units.reverse()
    source = ScriptedSource(*units)
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.answered(2)
        with inside.stream("log.a") as stream:
            assert stream.reader.kind == first
            assert stream.reader.records == 1
        (kept,) = inside.dead()
        assert f"holds {first}" in kept["reason"]
        assert all(answer.why is None for answer in source.answers)


async def test_raw_data_for_a_stream_of_rows_is_set_aside(tmp_path: Path) -> None:
    """The policy lost its codec: nothing is refused for ever, nothing is mixed."""
    text = 'store: {{path: {store}, keep_free: 0 B}}\npolicies: {{all: {{match: "**"}}}}'
    first = ScriptedSource(rows("a", 0))
    async with room(tmp_path) as inside:
        await inside.serve(first)
        await first.committed("a", 0)
    second = ScriptedSource(rows("a", 1), rows("a", 2, tag="log.b"))
    async with room(tmp_path, text=text) as inside:
        await inside.serve(second)
        await second.committed("a", 2)
        assert "holds" in inside.dead()[0]["reason"]
        assert inside.rows("acc.a") == list(range(10))


async def test_a_stream_that_another_process_writes_is_tried_again_later(tmp_path: Path) -> None:
    """An import holds the stream's lock, from before our start: a Retry, no dead letter, and later it goes on."""
    source = ScriptedSource(rows("a", 0))
    with Store(tmp_path / "store", QUICK) as other:
        other.writer("acc.a", "rows", SIGNAL)
        async with room(tmp_path) as inside:
            await inside.serve(source)
            await source.until(lambda s: bool(s.refusals("a")))
            assert isinstance(source.answers[-1].why, Retry)
            assert "is being written by process" in source.refusals("a")[0][1]
            assert inside.log.broken == {}
            other.close()
            await source.send(rows("a", 0))
            await source.committed("a", 0)
            assert inside.rows("acc.a") == list(range(10))


async def test_many_bad_events_of_one_unit_are_set_aside_in_bounded_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame of a million broken events makes a thousand records and one with the rest, all bytes kept."""
    monkeypatch.setattr(routing, "MOST_REJECTED", 10)
    body = events([(at(n), {"d": b"\x00"}) for n in range(300)])
    source = ScriptedSource(unit("a", 0, "acc.a", body))
    async with room(tmp_path) as inside:
        await inside.serve(source)
        await source.committed("a", 0)
        kept = inside.dead()
        assert len(kept) == 11
        assert b"".join(one["payload"] for one in kept) == body.data
        assert kept[-1]["reason"] == "290 more events of one unit that cannot be decoded"
