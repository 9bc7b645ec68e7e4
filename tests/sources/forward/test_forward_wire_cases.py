"""The reference's test cases T1 to T16 and its table of malformed input, byte for byte, over a real socket."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, field

import msgpack
import pytest

TAG = bytes.fromhex("a3742e61")
INT = bytes.fromhex("ce6553f100")
EVT = bytes.fromhex("d7006553f10000000005")
REC = bytes.fromhex("81a17301")
PAIR = b"\x92" + EVT + REC
OPT = bytes.fromhex("81a56368756e6ba163")
ACK = bytes.fromhex("81a361636ba163")
T1 = b"\x93" + TAG + INT + REC
T2 = b"\x94" + TAG + INT + REC + OPT
EVENT = b"\x92" + INT + REC  # what T1 stores
PROBE = b"\x94" + TAG + INT + REC + b"\x81\xa5chunk\xa5probe"
PROBED = b"\x81\xa3ack\xa5probe"


def option(**values):
    return msgpack.packb(values)


def packed(payload, opt=b""):
    head = b"\x93" if opt else b"\x92"
    return head + TAG + b"\xc5" + struct.pack(">H", len(payload)) + payload + opt


def forward(entries, opt=b""):
    return (b"\x93" if opt else b"\x92") + TAG + entries + opt


@dataclass
class Case:
    """Writes to one connection, and what must come of them. closed: the far side closes, else it works on."""

    writes: list[bytes]
    stored: bytes = b""
    reply: bytes = b""
    aside: list[str] = field(default_factory=list)
    closed: bool = False
    tag: str = "t.a"


def marker(seconds):
    return b"\x92" + b"\x92\xd7\x00" + struct.pack(">II", seconds, 0) + b"\x80"


HEADED = b"\x92\x92" + EVT + b"\x80" + REC
NEWLINE_CHUNK = b"Zg2I09EWMOR53EyOTh13YQ==\n"

CASES = {
    "T1-message": Case([T1], EVENT),
    "T2-message-chunk": Case([T2], EVENT, ACK),
    "T2-newline-comes-back": Case(
        [b"\x94" + TAG + INT + REC + b"\x81\xa5chunk\xb9" + NEWLINE_CHUNK], EVENT, b"\x81\xa3ack\xb9" + NEWLINE_CHUNK
    ),
    "T3-forward": Case([forward(b"\x92" + EVENT + PAIR)], EVENT + PAIR),
    "T3-forward-nil-option": Case([b"\x93" + TAG + b"\x92" + EVENT + PAIR + b"\xc0"], EVENT + PAIR),
    "T4-empty-forward": Case([forward(b"\x90", OPT)], b"", ACK),
    "T4-F15-empty-payload": Case([packed(b"", OPT)], b"", ACK),
    "T5-old-raw": Case([b"\x92" + TAG + b"\xda" + struct.pack(">H", len(PAIR)) + PAIR], PAIR),
    "T6-compressed-text": Case([packed(PAIR, option(compressed="text"))], PAIR),
    "T7-two-members": Case([packed(gzip.compress(PAIR) * 2, option(compressed="gzip"))], PAIR + PAIR),
    "T7-event-across-members": Case(
        [packed(gzip.compress(PAIR[:10]) + gzip.compress(PAIR[10:]), option(compressed="gzip"))], PAIR
    ),
    "T8-member-cut": Case([packed(gzip.compress(PAIR)[:-12], option(compressed="gzip", chunk="c"))], closed=True),
    "T8-trailer-overwritten": Case(
        [packed(gzip.compress(PAIR)[:-8] + b"\0" * 8, option(compressed="gzip", chunk="c"))], closed=True
    ),
    "T8-plain-announced-as-gzip": Case([packed(PAIR, option(compressed="gzip", chunk="c"))], closed=True),
    "T8-junk-behind": Case(
        [packed(gzip.compress(PAIR) + b"j" * 20, option(compressed="gzip", chunk="c"))], closed=True
    ),
    "T10-metadata-header": Case(
        [packed(b"\x92\x92" + EVT + b"\x80" + REC, option(chunk="c", fluent_signal=0))],
        b"\x92\x92" + EVT + b"\x80" + REC,
        ACK,
    ),
    "T11-group-markers": Case(
        [forward(b"\x93" + marker(0xFFFFFFFF) + b"\x81\xa1g\x01" + HEADED + marker(0xFFFFFFFE) + b"\x80", OPT)],
        HEADED,
        ACK,
    ),
    "T12-time-0": Case([packed(b"\x92\x00" + REC)], b"\x92\x00" + REC),
    "T12-time-nil": Case([packed(b"\x92\xc0" + REC)], aside=["the time is nil"]),
    "T13-one-invalid": Case([packed(b"\x05" + PAIR, OPT)], PAIR, ACK, ["an integer, not a pair of time and record"]),
    "T13-garbage": Case([packed(b"\xc1\xc1\xc1", OPT)], closed=True),
    "T14-nil": Case([b"\xc0" + T1], EVENT),
    "T14-integer": Case([b"\x05" + T1], EVENT),
    "T14-text": Case([b"\xa5hello" + T1], EVENT),
    "T14-map": Case([b"\x81\xa1a\x01" + T1], EVENT),
    "T14-empty-array": Case([b"\x90" + T1], EVENT),
    "T14-tag-only": Case([b"\x91" + TAG + T1], EVENT),
    "T15-byte-by-byte": Case([bytes([b]) for b in T2], EVENT, ACK),
    "T15-two-chunks-in-one-write": Case(
        [T2[:-1] + b"1" + T2[:-1] + b"2"], EVENT * 2, ACK[:-1] + b"1" + ACK[:-1] + b"2"
    ),
}

DEEP = b"\x92" + EVT + b"\x81\xa1d" + b"\x91" * 400 + b"\x00"

MALFORMED = {
    "top-level-int": Case([b"\xcd\x01\x00" + T1], EVENT),
    "top-level-str": Case([b"\xd9\x02hi" + T1], EVENT),
    "top-level-map": Case([b"\xde\x00\x01\x01\x02" + T1], EVENT),
    "empty-array": Case([b"\xdc\x00\x00" + T1], EVENT),
    "tag-only": Case([b"\xdc\x00\x01" + TAG + T1], EVENT),
    "byte-c1": Case([T2 + b"\xc1" + T1], EVENT, ACK, closed=True),
    "tag-int": Case([b"\x94\x05" + INT + REC + OPT], b"", ACK, ["the tag is an integer"]),
    "tag-nil": Case([b"\x94\xc0" + INT + REC + OPT], b"", ACK, ["the tag is nil"]),
    "tag-array": Case([b"\x94\x92\x01\x02" + INT + REC + OPT], b"", ACK, ["the tag is an array"]),
    "tag-bin": Case([b"\x94\xc4\x03t.a" + INT + REC + OPT], EVENT, ACK),
    "tag-not-utf8": Case([b"\x94\xa2\xff." + INT + REC + OPT], EVENT, ACK, tag="\udcff."),
    "tag-empty": Case([b"\x94\xa0" + INT + REC + OPT], b"", ACK, ["the tag is empty"]),
    "record-not-a-map": Case([b"\x94" + TAG + INT + b"\x07" + OPT], b"", ACK, ["the record is no map"]),
    "record-missing": Case([b"\x92" + TAG + INT], aside=["an array of 1, not a pair of time and record"]),
    "bad-entry-inside-forward": Case(
        [forward(b"\x93" + PAIR + b"\xa2no" + EVENT, OPT)], PAIR + EVENT, ACK, ["text, not a pair of time and record"]
    ),
    "non-pair-among-packed": Case(
        [packed(PAIR + b"\x93\x01\x02\x03" + PAIR, OPT)],
        PAIR * 2,
        ACK,
        ["an array of 3, not a pair of time and record"],
    ),
    "packed-ends-inside-an-event": Case([packed(PAIR + PAIR[:-1], OPT)], closed=True),
    "packed-garbage": Case([packed(PAIR + b"\xc1" + PAIR, OPT)], closed=True),
    "gzip-corrupt": Case(
        [packed(gzip.compress(PAIR)[:12] + b"\xff" + gzip.compress(PAIR)[13:], option(compressed="gzip", chunk="c"))],
        closed=True,
    ),
    "compressed-lz4": Case([packed(PAIR, option(compressed="lz4", chunk="c"))], closed=True),
    "compressed-zstd-not-yet": Case([packed(PAIR, option(compressed="zstd", chunk="c"))], closed=True),
    "compressed-not-a-name": Case([packed(PAIR, option(compressed=7, chunk="c"))], closed=True),
    "option-not-a-map": Case([packed(PAIR, b"\x05")], closed=True),
    "option-not-a-map-message": Case([b"\x94" + TAG + INT + REC + b"\xa1x"], closed=True),
    "option-not-a-map-forward": Case([forward(b"\x91" + PAIR, b"\x90")], closed=True),
    "ext-in-a-record": Case(
        [b"\x94" + TAG + INT + b"\x82\xa1a\xd4\x09\x00\xa1b\xd4\xff\x00" + OPT],
        b"\x92" + INT + b"\x82\xa1a\xd4\x09\x00\xa1b\xd4\xff\x00",
        ACK,
    ),
    "400-levels": Case([packed(DEEP, OPT)], DEEP, ACK),
    "2000-levels": Case([packed(b"\x92" + EVT + b"\x81\xa1d" + b"\x91" * 2000 + b"\x00", OPT)], closed=True),
    "2000-levels-message": Case([T2 + b"\x93" + TAG + INT + b"\x91" * 2000 + b"\x00"], EVENT, ACK, closed=True),
    "metrics": Case([packed(PAIR, option(fluent_signal=1, chunk="c"))], closed=True),
    "half-a-frame-then-close": Case([T2[:-3]]),
}


async def play(case: Case, serve, connect) -> None:
    """Send the writes; a probe behind them tells that the connection works on and everything was dealt with."""
    async with serve() as ingest, await connect(ingest) as client, await connect(ingest) as other:
        for write in case.writes:
            await client.send(write)
        if case.closed:
            assert await client.until_closed() == case.reply
        else:
            await client.send(PROBE)
            assert await client.receive(len(case.reply + PROBED)) == case.reply + PROBED
            case.stored += b"" if case.tag != "t.a" else EVENT
        assert ingest.stored(case.tag) == case.stored
        assert [reason for _, reason in ingest.rejected] == case.aside
        await other.send(PROBE)  # others notice nothing
        assert await other.receive(len(PROBED)) == PROBED


@pytest.mark.parametrize("name", CASES)
async def test_case(name, serve, connect):
    """T1 to T15: the bytes stored are the sender's, the reply is exact, the connection is as open as it should be."""
    await play(CASES[name], serve, connect)


@pytest.mark.parametrize("name", [n for n in MALFORMED if n != "half-a-frame-then-close"])
async def test_malformed(name, serve, connect):
    """Section 3, row by row: skipped, set aside and acked, or refused and closed; never half of it."""
    await play(MALFORMED[name], serve, connect)


async def test_F28_half_a_frame_and_a_close_leave_nothing(serve, connect, caplog):
    """A sender that dies inside a frame: nothing stored, nothing logged above info."""
    async with serve() as ingest:
        client = await connect(ingest)
        await client.send(T1 + T2[:-3])
        await ingest.until_events(1)
        await client.close()
        await ingest.source._nobody.wait()
        assert ingest.stored("t.a") == EVENT
    assert [r for r in caplog.records if r.levelname not in {"INFO", "DEBUG"}] == []


async def test_T12_F19_a_time_of_0_counts_as_the_arrival(serve, connect):
    """The stored bytes keep the 0; the unit's times are when it came."""
    async with serve() as ingest, await connect(ingest) as client:
        await client.send(packed(b"\x92\x00" + REC + b"\x92\xd7\x00" + b"\0" * 8 + REC, OPT))
        await client.receive(len(ACK))
        (unit,) = ingest.units
        assert unit.body.t_first == unit.body.t_last == unit.t_arrival > 1_700_000_000 * 10**9


TEXT = b'["t.a",1700000000,{"s":1}'


@pytest.mark.parametrize(
    ("writes", "events", "reply"),
    [
        ([TEXT + b"]\n" + TEXT + b"]\n"], 2, b""),
        ([TEXT + b"]" + TEXT + b"]"], 2, b""),
        ([TEXT + b',{"chunk":"c"}]'], 1, b'{"ack":"c"}'),
        ([b'["t.a",[[1700000000,{"s":1}]],{"chunk":"c"}]'], 1, b'{"ack":"c"}'),
        ([bytes([b]) for b in TEXT + b',{"chunk":"c"}]'], 1, b'{"ack":"c"}'),
        ([b'{"no":"frame"} 5 "text" null ' + TEXT + b"]"], 1, b""),
    ],
    ids=["newline-between", "nothing-between", "chunk", "forward", "byte-by-byte", "junk-before"],
)
async def test_T16_F3_json_text(writes, events, reply, serve, connect):
    """A connection that begins with { or [ speaks JSON; acks are JSON too, without newline."""
    async with serve() as ingest, await connect(ingest) as client:
        for write in writes:
            await client.send(write)
        await client.send(TEXT + b',{"chunk":"probe"}]')
        expected = reply + b'{"ack":"probe"}'
        assert await client.receive(len(expected)) == expected
        assert ingest.stored("t.a") == EVENT * (events + 1)


async def test_F3_broken_json_closes(serve, connect):
    """What precedes it is stored and acknowledged."""
    async with serve() as ingest, await connect(ingest) as client:
        await client.send(TEXT + b',{"chunk":"c"}] ["t.a", }')
        assert await client.until_closed() == b'{"ack":"c"}'
        assert ingest.stored("t.a") == EVENT
