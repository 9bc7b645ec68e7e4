"""The small pure parts: gunzip, the ack window, JSON text, the option map, chunk ids, log lines."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import logging
import os
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.errors import BadData, ConfigError
from wendelin_stream.sources.forward.acks import AckWindow
from wendelin_stream.sources.forward.decode import Limits, decode
from wendelin_stream.sources.forward.gunzip import TooLarge, gunzip
from wendelin_stream.sources.forward.jsontext import TextReader, to_msgpack
from wendelin_stream.sources.forward.modes import read_frame
from wendelin_stream.sources.forward.shared import Turn
from wendelin_stream.sources.forward.source import ForwardConfig, parse_address
from wendelin_stream.sources.forward.throttle import Throttle
from wendelin_stream.sources.forward.wire import read_option
from wendelin_stream.testing.forward import event, forward, message, packed

# --- gunzip ------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=2000), max_size=6))
def test_F13_members_are_one_stream(parts):
    """Any number of members, empty ones too."""
    assert gunzip(memoryview(b"".join(map(gzip.compress, parts))), 1 << 20) == b"".join(parts)


def test_F13_members_larger_than_a_step():
    """Content and input of several MiB each."""
    part = os.urandom(1 << 21) + bytes(1 << 21)
    assert gunzip(memoryview(gzip.compress(part, 1) * 2), 1 << 24) == part * 2


@given(st.binary(min_size=1, max_size=300), st.data())
def test_F14_a_damaged_member_is_refused(content, data):
    """Cut anywhere, or followed by anything that is no member."""
    member = gzip.compress(content)
    with pytest.raises(BadData):
        gunzip(memoryview(member[: data.draw(st.integers(1, len(member) - 1))]), 1 << 20)
    with pytest.raises(BadData):
        gunzip(memoryview(member + data.draw(st.binary(min_size=1, max_size=30))), 1 << 20)


def test_F53_T9_a_bomb_is_stopped_at_the_limit():
    """256 MiB out of 256 kB: memory stays under 8 MiB, bytearray's spare eighth and a step."""
    bomb = b"".join([gzip.compress(bytes(1 << 24), 9)] * 16)
    assert len(bomb) < 300_000
    tracemalloc.start()
    with pytest.raises(TooLarge, match="more than 8388608 bytes"):
        gunzip(memoryview(bomb), 8 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (8 << 20) * 9 // 8 + (3 << 20)
    assert len(gunzip(memoryview(gzip.compress(bytes(1000))), 1000)) == 1000
    with pytest.raises(TooLarge):
        gunzip(memoryview(gzip.compress(bytes(1001))), 1000)


# --- acks --------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), st.booleans()),
        st.tuples(st.just("settle"), st.booleans()),
        st.tuples(st.just("commit"), st.integers(0, 30)),
        st.tuples(st.just("refuse"), st.none()),
    )
)


@given(steps)
def test_F32_F33_the_window_against_a_model(steps):
    """Model: a list of (seq, ack). Each ack leaves once, in the frames' order, when all up to its frame is stored."""
    window = AckWindow()
    model: list[tuple[int, bytes]] = []
    sent, issued, committed, refused = b"", 0, 0, False
    expected = b""
    for number, (step, value) in enumerate(steps):
        ack = b"<%d>" % number if value else b""
        if step == "issue":
            issued += 1
            assert window.issue(ack) == issued
            model.append((issued, ack))
        elif step == "settle":
            model.append((issued, ack))
            sent += window.settle(ack)
        elif step == "commit":
            seq = min(value, issued)
            sent += window.commit(seq)
            committed = max(committed, seq)
        else:
            window.refuse()
            refused = True
        if refused:
            model.clear()
        while model and model[0][0] <= committed:
            expected += model.pop(0)[1]
        assert sent == expected
        assert window.waiting == sum(len(ack) for _, ack in model)
        assert window.idle == (refused or committed == issued)


def test_one_commit_frees_all_acks_for_one_write():
    """Numbers may be left out."""
    window = AckWindow()
    for name in (b"a", b"", b"b", b"c"):
        window.issue(name)
    assert window.commit(3) == b"ab"
    assert window.commit(2) == b""
    assert window.commit(4) == b"c"


# --- JSON text ---------------------------------------------------------------------------------------

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(
    st.lists(st.lists(values), max_size=4),
    st.sampled_from(["", " ", "\n"]),
    st.booleans(),
    st.lists(st.integers(0, 500)),
)
def test_F3_text_in_any_split(arrays, between, ascii_only, cuts):
    """Values one behind the other are found whatever the reads, and survive the way to msgpack."""
    text = between.join(json.dumps(array, ensure_ascii=ascii_only) for array in arrays).encode("utf-8", "surrogatepass")
    edges = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    reader = TextReader(1 << 20)
    found = []
    for a, b in itertools.pairwise(edges):
        block = reader.take(text[a:b])
        start = 0
        for stop in block.ends if block else []:
            found.append(msgpack.unpackb(to_msgpack(block.data[start:stop]), unicode_errors="surrogatepass"))
            start = stop
    assert found == arrays
    assert reader.partial == 0


@pytest.mark.parametrize("text", [b"]", b"[}", b"[1,", b"[" * 501, b'["\\'])
def test_F27_bad_text_is_broken_or_incomplete(text):
    """Never an exception from the reader; what looks whole but is none is BadData."""
    reader = TextReader(1 << 20)
    block = reader.take(text)
    if block is None:
        assert reader.partial
    elif not block.broken:
        with pytest.raises(BadData):
            to_msgpack(block.data)


def test_text_over_the_limit_is_broken():
    """Half a value of more than the limit, white space not counted."""
    reader = TextReader(1000)
    assert reader.take(b" " * 5000) is None
    block = reader.take(b'["' + b"x" * 1000)
    assert block is not None
    assert "more than 1000 bytes" in block.broken


def test_integers_beyond_64_bits_become_floats():
    """As most readers of JSON take them; however many digits."""
    assert msgpack.unpackb(to_msgpack(memoryview(b"[18446744073709551616, -1%s]" % (b"0" * 5000)))) == [
        2**64,
        -float("inf"),
    ]


# --- options and identity ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"\xa5chunk", b"\xd9\x05chunk", b"\xda\x00\x05chunk", b"\xc4\x05chunk"])
@pytest.mark.parametrize("head", [b"\x81", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01"])
def test_F2_F31_the_chunk_is_found_in_any_width_and_kept_byte_for_byte(head, key):
    """Also where it is no text."""
    for chunk in (
        b"\xa1c",
        b"\xd9\x01c",
        b"\xdb\x00\x00\x00\x01c",
        b"\xa0",
        b"\x05",
        b"\xc4\x02\xff\xfe",
        b"\x92\x01\x80",
    ):
        assert read_option(memoryview(head + key + chunk)).chunk == chunk


def test_F12_F22_what_an_option_may_be():
    """Nothing, nil, a map with unknown keys of any type; nil as the chunk asks for no ack."""
    for raw in (b"", b"\xc0", b"\x80", b"\x82\x05\x06\x92\x01\x02\xc0", b"\x81\xa5chunk\xc0", b"\x81\xa4size\xa3lie"):
        assert read_option(memoryview(raw)).chunk == b""
    with pytest.raises(BadData, match="1001 entries"):
        read_option(memoryview(msgpack.packb({n: n for n in range(1001)})))


def identity(frame: bytes):
    decoded = decode(read_frame(memoryview(frame), 0), 1, Limits(unpacked=1 << 20))
    return decoded.chunk_id


def test_F38_the_same_frame_has_the_same_chunk_id():
    """Equal when resent; another tag, chunk or payload makes another one; without a chunk there is none."""
    payload = event({"v": 1}) * 3
    frames = [
        packed("t", payload, {"chunk": "a"}),
        packed("u", payload, {"chunk": "a"}),
        packed("t", payload, {"chunk": "b"}),
        packed("t", payload[:-1] + b"\x02", {"chunk": "a"}),
        packed("t", payload * 2, {"chunk": "a"}),
        packed("t", gzip.compress(payload, mtime=0), {"chunk": "a", "compressed": "gzip"}),
        message("t", {"v": 1}, {"chunk": "a"}),
        message("t", {"v": 2}, {"chunk": "a"}),
    ]
    ids = [identity(frame) for frame in frames]
    assert all(len(found) == 16 for found in ids)
    assert len(set(ids)) == len(frames)
    assert ids == [identity(frame) for frame in frames]
    assert identity(packed("t", payload, {"chunk": "a", "size": 99})) == ids[0]
    assert identity(packed("t", payload)) == b""
    assert identity(forward("t", [event({"v": 1})] * 3, {"chunk": "a"})) == ids[0]


def test_the_checksum_is_handed_on_only_for_what_is_stored_as_it_came():
    """crc32c of the stored bytes (RFC 3720: that of 32 zero bytes is 8a9136aa), or none."""
    decoded = decode(read_frame(memoryview(packed("t", event({}), {"chunk": "a"})), 0), 1, Limits(1 << 20))
    assert decoded.events.crc is not None
    for frame in (packed("t", event({}) + b"\x05", {"chunk": "a"}), packed("t", event({}))):
        assert decode(read_frame(memoryview(frame), 0), 1, Limits(1 << 20)).events.crc is None


def test_F18_message_metadata_travel_in_the_event():
    """The option `metadata` of Message mode becomes the header form of the other modes."""
    decoded = decode(read_frame(memoryview(message("t", {"v": 1}, {"metadata": {"k": "v"}})), 0), 1, Limits(1 << 20))
    time = event({})[1:11]
    assert decoded.events.data == b"\x92\x92" + time + msgpack.packb({"k": "v"}) + msgpack.packb({"v": 1})
    decoded = decode(read_frame(memoryview(message("t", {"v": 1}, {"metadata": 5})), 0), 1, Limits(1 << 20))
    assert decoded.events.count == 0
    assert [r.reason for r in decoded.rejected] == ["the metadata are an integer, not a map"]


# --- taking turns ------------------------------------------------------------------------------------


async def test_connections_leave_the_loop_to_others():
    """The first question of a pass is answered no, later ones yes when the time is up; the next pass starts anew."""
    turn = Turn(seconds=0.0)
    assert not turn.over()
    assert turn.over()
    assert turn.over()
    await asyncio.sleep(0)
    assert not turn.over()


# --- log lines and addresses -------------------------------------------------------------------------


def test_log_lines_are_limited_and_on_one_line(caplog):
    """A burst, then one per period; what was left out is told, control characters are escaped."""
    now = 0.0
    throttle = Throttle(logging.getLogger("forward-test"), burst=3, period=5.0, clock=lambda: now)
    for n in range(10):
        throttle.warning(f"line {n}")
    now = 6.0
    throttle.warning("evil\n\x1b[31m\udcff")
    assert [r.getMessage() for r in caplog.records] == [
        "line 0",
        "line 1",
        "line 2",
        "evil\\n\\x1b[31m\\udcff (7 similar lines left out)",
    ]


@pytest.mark.parametrize(
    "text", ["24224", "host", "host:", ":24224", "host:x", "host:70000", "::1:24224", "h:-1", "h:²"]
)
def test_addresses_that_are_none(text):
    """Each with a hint how to write it."""
    with pytest.raises(ValueError, match="like"):
        parse_address(text)


def test_an_open_address_needs_a_decision():
    """Other machines may reach us only if the user says so; the error carries the hint."""
    assert ForwardConfig(listen=["127.0.0.1:1", "[::1]:2", "localhost:3"]).listen[1] == "[::1]:2"
    assert ForwardConfig(listen="0.0.0.0:24224", insecure=True).listen == ("0.0.0.0:24224",)
    for address in ("0.0.0.0:24224", "[::]:24224", "192.168.1.5:24224", "turbine7:24224"):
        with pytest.raises(ValueError, match="insecure: true") as raised:
            ForwardConfig(listen=address)
        assert isinstance(raised.value.errors()[0]["ctx"]["error"], ConfigError)
        assert raised.value.errors()[0]["loc"] == ("listen",)
