"""Senders over real sockets: acks in order, bounds, deadlines, and what is left when they are gone."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from random import Random

import msgpack
import pytest
import uvloop

from wendelin_stream.errors import ConfigError, Retry
from wendelin_stream.plugin import SourceContext
from wendelin_stream.sources.forward import ForwardConfig, ForwardSource
from wendelin_stream.sources.forward.decode import decode
from wendelin_stream.testing.forward import Client, Ingest, event, event_time, forward, message, packed

LOGGER = "wendelin_stream.sources.forward"


def ack(chunk) -> bytes:
    return b"\x81\xa3ack" + msgpack.packb(chunk)


def numbered(count: int) -> list[bytes]:
    return [message("t", {"n": n}, {"chunk": f"c{n}"}) for n in range(count)]


# --- acks --------------------------------------------------------------------------------------------


async def test_F31_F33_pipelined_frames_are_acked_in_order(serve, connect):
    """All modes mixed in one write; each ack carries its chunk, in the frames' order."""
    async with serve() as ingest, await connect(ingest) as client:
        stream, expected = b"", b""
        for n in range(60):
            option = {"chunk": f"c{n}"}
            kind = n % 4
            stream += [
                message("t", {"n": n}, option),
                packed("t", event({"n": n}) * 3, option),
                forward("t", [event({"n": n})] * 2, option),
                message("t", {"n": n}) * 10 + packed("t", b"", option),
            ][kind]
            expected += ack(f"c{n}")
        await client.send(stream)
        assert await client.receive(len(expected)) == expected
        assert ingest.events == 15 * (1 + 3 + 2 + 10)


async def test_F32_no_ack_before_the_commit(serve, connect):
    """Stored but not yet durable: silence. The commit frees all acks, the one of a frame without events too."""
    async with serve(commits=False) as ingest, await connect(ingest) as client:
        await client.send(b"".join(numbered(20)) + packed("t", b"", {"chunk": "empty"}))
        await ingest.until_events(20)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.receive(1), 0.05)
        await ingest.commit_all()
        expected = b"".join(ack(f"c{n}") for n in range(20)) + ack("empty")
        assert await client.receive(len(expected)) == expected


async def test_F29_a_refused_frame(serve, connect, caplog):
    """Earlier acks go out first, nothing of it or behind it is stored, one line tells peer, tag, offset and reason."""
    good = message("t", {"n": 1}, {"chunk": "good"})
    bad = packed("evil\ntag", event({})[:-1], {"chunk": "bad"})
    async with serve(commits=False) as ingest, await connect(ingest) as client:
        await client.send(good + bad + message("t", {"n": 2}, {"chunk": "late"}))
        await ingest.until_events(1)
        await ingest.commit_all()
        assert await client.until_closed() == ack("good")
        assert ingest.events == 1
        (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert f"'evil\\ntag' at byte {len(good)}: ends inside the event at byte 0" in line
        assert line.startswith("127.0.0.1:")
        assert "\n" not in line


async def test_F29_F36_a_unit_that_could_not_be_stored(serve, connect):
    """The runtime refuses the second of three frames: one ack, then the connection closes."""

    def judge(received):
        return Retry("disk full") if b"\xa1n\x01" in bytes(received.body.data) else None

    async with serve(judge=judge) as ingest, await connect(ingest) as client:
        await client.send(numbered(1)[0])
        assert await client.receive(len(ack("c0"))) == ack("c0")
        await client.send(b"".join(numbered(3)[1:]))
        assert await client.until_closed() == b""


async def test_a_sender_that_ends_its_side_still_gets_its_acks(serve, connect):
    """shutdown(SHUT_WR) behind the last frame, as simple clients do."""
    async with serve(commits=False) as ingest, await connect(ingest) as client:
        await client.send(numbered(1)[0])
        client.end()
        await ingest.until_events(1)
        await ingest.commit_all()
        assert await client.until_closed() == ack("c0")


async def test_what_came_whole_is_stored_though_its_sender_is_gone(serve, connect):
    """Commits and refusals for it raise nothing."""
    async with serve(commits=False) as ingest:
        client = await connect(ingest)
        await client.send(b"".join(numbered(50)))
        await client.close()
        await ingest.until_events(50)
        await ingest.commit_all()
        await ingest.source.refuse(ingest.units[0].origin, 99, Retry("late"))


async def test_a_sender_that_resets_its_connection(serve, connect, caplog):
    """Acks for somebody who is gone are dropped without a word, also from asyncio."""
    async with serve(commits=False) as ingest:
        client = await connect(ingest)
        await client.send(b"".join(numbered(50)))
        await ingest.until_events(50)
        client.reset()
        for unit in ingest.units:
            await ingest.source.commit(unit.origin, unit.seq)
        await ingest.source._nobody.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_each_connection_has_its_own_order(serve, connect):
    """20 senders by turns; seq grows within each, its events keep their order, one bad sender harms nobody."""
    async with serve() as ingest:
        clients = [await connect(ingest) for _ in range(20)]
        for n in range(10):
            for k, client in enumerate(clients):
                await client.send(message(f"tag{k}", {"n": n}, {"chunk": f"{k}-{n}"}))
            if n == 5:
                await clients[0].send(b"\xc1")
        for k, client in enumerate(clients[1:], 1):
            expected = b"".join(ack(f"{k}-{n}") for n in range(10))
            assert await client.receive(len(expected)) == expected
            assert ingest.stored(f"tag{k}") == b"".join(event({"n": n}) for n in range(10))
            seqs = [unit.seq for unit in ingest.units if unit.tag == f"tag{k}"]
            assert seqs == sorted(set(seqs))
        for client in clients:
            await client.close()


# --- bounds ------------------------------------------------------------------------------------------


async def test_F35_a_sender_that_never_reads_its_acks(serve, connect):
    """20 MB of acks nobody reads: everything is stored, then the connection closes; memory keeps to max_acks."""
    frames = [message("t", {"n": n}, {"chunk": f"{n:04000}"}) for n in range(5000)]
    async with serve(max_acks="64 KiB") as ingest:
        client = await connect(ingest)
        await client.send(b"".join(frames))
        await ingest.until_events(5000)
        connection = ingest.source._connections[ingest.units[0].origin]
        assert connection._transport.get_write_buffer_size() <= 64 << 10
        assert len(await client.until_closed()) < 5000 * 4000
        await client.close()


async def test_F36_a_slow_store_slows_the_reading(serve, connect):
    """Nothing is taken: the sender blocks, the source holds its buffer and a read. Then everything arrives."""
    frame = packed("t", event({"d": bytes(1000)}) * 30)
    async with serve(buffer="256 KiB") as ingest, await connect(ingest) as client:
        ingest.takes.clear()
        await client.send(frame)
        await ingest.until_events(1)
        sending = asyncio.create_task(client.send(frame * 1000))
        while not ingest.source.queue.full:
            await asyncio.sleep(0)
        assert not sending.done()
        assert 256 << 10 <= ingest.source.queue.held < (256 << 10) + 3 * (128 << 10)
        ingest.takes.set()
        await sending
        await ingest.until_events(1001 * 30)
        assert ingest.source.queue.held == 0


async def test_a_large_frame_is_dealt_with_in_a_thread_and_overtaken_by_nothing(serve, connect):
    """Many small events, and a gzip payload of some MiB, with small frames between them: order and acks as sent."""
    large = packed("t", event({"n": 1, "s": "x"}) * 300_000, {"chunk": "large"})
    zipped = packed("t", gzip.compress(event({"n": 2}) * 300_000, 1), {"chunk": "zipped", "compressed": "gzip"})
    async with serve() as ingest, await connect(ingest) as client:
        await client.send(numbered(1)[0] + large + numbered(2)[1] + zipped + numbered(3)[2])
        expected = b"".join(map(ack, ["c0", "large", "c1", "zipped", "c2"]))
        assert await client.receive(len(expected)) == expected
        assert [unit.body.count for unit in ingest.units] == [1, 300_000, 1, 300_000, 1]


async def test_a_fault_of_ours_costs_one_connection(serve, connect, monkeypatch, caplog):
    """The thread raises what nobody expects: no ack, the connection closes, another sender is served, all can end."""

    def faulty(unit, arrival, limits):
        if limits.events is None:
            raise ZeroDivisionError
        return decode(unit, arrival, limits)

    monkeypatch.setattr("wendelin_stream.sources.forward.connection.decode", faulty)
    large = packed("t", event({"n": 1, "s": "x"}) * 300_000, {"chunk": "large"})
    async with serve() as ingest, await connect(ingest) as client, await connect(ingest) as other:
        await client.send(numbered(1)[0] + large)
        assert await client.until_closed() == ack("c0")
        await other.send(numbered(1)[0])
        assert await other.receive(len(ack("c0"))) == ack("c0")
        await ingest.source.quiesce()
        await ingest._task
    assert [record.getMessage() for record in caplog.records if "ZeroDivisionError" in record.getMessage()]


async def test_F53_a_bomb_is_refused_and_others_notice_nothing(serve, connect):
    """8 MiB of zeros from 8 kB, with a limit of 4 MiB."""
    bomb = packed("t", gzip.compress(bytes(8 << 20)), {"chunk": "bomb", "compressed": "gzip"})
    async with serve(max_unpacked="4 MiB") as ingest, await connect(ingest) as client, await connect(ingest) as other:
        await client.send(bomb)
        await other.send(numbered(1)[0])
        assert await other.receive(len(ack("c0"))) == ack("c0")
        assert await client.until_closed() == b""
        assert ingest.events == 1


async def test_F54_the_frame_limit_is_an_option(serve, connect):
    """A frame over it closes the connection; by default 8 MiB pass."""
    frame = packed("t", event({"b": bytes(8 << 20)}), {"chunk": "c"})
    async with serve() as ingest, await connect(ingest) as client:
        await client.send(frame)
        assert await client.receive(len(ack("c"))) == ack("c")
    async with serve(max_frame="1 MiB") as ingest, await connect(ingest) as client:
        sending = asyncio.create_task(client.send(frame))
        assert await client.until_closed() == b""
        await asyncio.wait([sending])
        assert sending.exception() is None or isinstance(sending.exception(), ConnectionError)
        assert ingest.events == 0


async def test_a_frame_that_makes_no_progress_is_given_up(serve, connect):
    """Half a frame, then silence: closed after the time-out. A sender between two frames may be silent."""
    async with serve(frame_timeout="100 ms") as ingest, await connect(ingest) as client, await connect(ingest) as idle:
        await idle.send(numbered(1)[0])
        await client.send(numbered(1)[0] + numbered(2)[1][:-3])
        assert await client.until_closed() == ack("c0")
        await idle.send(numbered(2)[1])
        assert await idle.receive(len(ack("c0") * 2)) == ack("c0") + ack("c1")


async def test_there_may_be_too_many_senders(serve, connect):
    """The third of two is refused; when one goes there is room again."""
    async with serve(max_connections=2) as ingest, await connect(ingest) as first:
        second = await connect(ingest)
        await second.send(numbered(1)[0])
        await second.receive(len(ack("c0")))
        async with await connect(ingest) as third:
            assert await third.until_closed() == b""
        await second.close()
        await first.send(numbered(1)[0])
        await first.receive(len(ack("c0")))
        async with await connect(ingest) as fourth:
            await fourth.send(numbered(1)[0])
            assert await fourth.receive(len(ack("c0"))) == ack("c0")


async def test_F25_bad_input_only_holds_nothing_back(serve, connect):
    """10,000 frames that are all set aside: every one is acked, nothing stays held."""
    frame = message("t", 5, {"chunk": "c"})
    async with serve(buffer="64 KiB") as ingest, await connect(ingest) as client:
        sending = asyncio.create_task(client.send(frame * 10_000))
        assert await client.receive(len(ack("c")) * 10_000) == ack("c") * 10_000
        await sending
        assert len(ingest.rejected) == 10_000
        assert ingest.source.queue.held == 0


async def test_F27_garbage_closes_and_nothing_else(serve, connect, caplog):
    """300 senders of random bytes, some behind a good frame: no fault is reported, good senders are served."""
    random = Random(5)
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with serve(frame_timeout="200 ms") as ingest:
        for n in range(300):
            async with await connect(ingest) as client:
                head = random.choice([b"", b"\x93\xa1t", b"\x92\xa1t\xc4\xff", b"[", b"\x92\xa1t\xdc\x00\x09"])
                await client.send(numbered(1)[0] * (n % 2) + head + random.randbytes(random.randrange(1, 400)))
                client.end()
                await client.until_closed()
        async with await connect(ingest) as client:
            await client.send(numbered(1)[0])
            assert await client.receive(len(ack("c0"))) == ack("c0")
    assert faults == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# --- listening ---------------------------------------------------------------------------------------


async def test_F7_connect_and_close_leaves_nothing(serve, connect, caplog):
    """Fluentd's heartbeat: a hundred times, no line above debug, nobody remembered."""
    caplog.set_level(logging.INFO, LOGGER)
    async with serve() as ingest:
        for _ in range(100):
            await (await connect(ingest)).close()
        async with await connect(ingest) as client:
            await client.send(numbered(1)[0])
            await client.receive(len(ack("c0")))
        await ingest.source._nobody.wait()
        assert ingest.source._connections == {}
    assert [record.getMessage() for record in caplog.records if record.name == LOGGER] == []


async def test_F8_T20_any_datagram_is_answered_with_one_zero_byte(serve):
    """On the port of the TCP listener; an empty datagram too."""
    async with serve() as ingest:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(ingest.source.addresses[0])
            for datagram in (b"\0", b"hello" * 100, b""):
                sock.send(datagram)
                assert await loop.sock_recv(sock, 100) == b"\0"


async def test_an_address_in_use_is_named_and_nothing_stays_open(make_source, free_port):
    """ConfigError with what to do; the first of two addresses is released again."""
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        source = make_source(listen=[f"127.0.0.1:{free}", taken])
        with pytest.raises(ConfigError, match=f"{taken} is in use") as raised:
            await source.open()
        assert raised.value.where == "listen"
        assert "ss -ltnup" in raised.value.hint
    async with Ingest(make_source(listen=f"127.0.0.1:{free}")):
        pass


async def test_addresses_that_cannot_be_listened_on(make_source):
    """Not ours, or unknown: ConfigError that names it."""
    for address in ("203.0.113.1:0", "nobody.invalid:0"):
        with pytest.raises(ConfigError, match=address):
            await make_source(listen=address, insecure=True).open()


async def test_several_addresses(serve):
    """Each is bound and served."""
    async with serve(listen=["127.0.0.1:0", "127.0.0.2:0"]) as ingest:
        assert [host for host, _ in ingest.source.addresses] == ["127.0.0.1", "127.0.0.2"]
        for n, address in enumerate(ingest.source.addresses):
            async with await Client.connect(address) as client:
                await client.send(numbered(n + 1)[n])
                assert await client.receive(len(ack(f"c{n}"))) == ack(f"c{n}")


async def test_quiesce_takes_nothing_new_and_acks_what_was_taken(make_source):
    """Nobody can connect, nothing more is read; what was yielded is committed and acked; `read` ends."""
    async with Ingest(make_source(), commits=False) as ingest:
        address = ingest.source.addresses[0]
        async with await Client.connect(address) as client:
            await client.send(numbered(1)[0])
            await ingest.until_events(1)
            await ingest.source.quiesce()
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(address)
            await client.send(numbered(2)[1])
            await ingest._task
            await ingest.commit_all()
            assert await client.receive(len(ack("c0"))) == ack("c0")
            assert ingest.events == 1


@pytest.mark.leaks("uvloop keeps a pipe of its own")
def test_it_works_on_uvloop(tmp_path):
    """The daemon's loop: acks, a large frame, a refused one, JSON, an end of file."""

    async def main() -> None:
        source = ForwardSource(ForwardConfig(listen="127.0.0.1:0"), SourceContext("f", tmp_path))
        async with Ingest(source) as ingest:
            address = source.addresses[0]
            async with await Client.connect(address) as client:
                await client.send(b"".join(numbered(100)))
                expected = b"".join(ack(f"c{n}") for n in range(100))
                assert await client.receive(len(expected)) == expected
                await client.send(packed("t", event({"b": bytes(1 << 20)}) * 5, {"chunk": "big"}))
                assert await client.receive(len(ack("big"))) == ack("big")
                await client.send(numbered(1)[0] + b"\xc1")
                assert await client.until_closed() == ack("c0")
            async with await Client.connect(address) as client:
                await client.send(b'["t",1,{},{"chunk":"c"}]')
                client.end()
                assert await client.until_closed() == b'{"ack":"c"}'
            assert ingest.events == 107

    uvloop.run(main())


# --- what real senders write -------------------------------------------------------------------------

ENTRY = event({"message": "hello"})


def str32(data: bytes) -> bytes:
    return b"\xdb" + len(data).to_bytes(4, "big") + data


def map32(pairs: dict) -> bytes:
    return b"\xdf" + len(pairs).to_bytes(4, "big") + b"".join(map(msgpack.packb, [x for p in pairs.items() for x in p]))


FLUENTD_CHUNK = "Zg2I09EWMOR53EyOTh13YQ==\n"
STAMP = event_time(1_700_000_000, 5)
STAMPED32 = STAMP + map32({"message": "hello"})
HEADED32 = b"\xdd\x00\x00\x00\x02\xdd\x00\x00\x00\x02" + STAMP + map32({}) + map32({"message": "hello"})
SENDERS = {
    "fluentd-plain": (
        b"\x93\xa1t" + str32(ENTRY * 2) + msgpack.packb({"size": 2, "compressed": "text", "chunk": FLUENTD_CHUNK}),
        ENTRY * 2,
        ack(FLUENTD_CHUNK),
    ),
    "fluentd-gzip": (
        b"\x93\xa1t"
        + str32(gzip.compress(ENTRY) + gzip.compress(ENTRY))
        + msgpack.packb({"size": 2, "compressed": "gzip", "chunk": FLUENTD_CHUNK}),
        ENTRY * 2,
        ack(FLUENTD_CHUNK),
    ),
    "fluent-bit-forward": (
        b"\x93\xa1t\xdd\x00\x00\x00\x03" + HEADED32 * 3 + map32({"chunk": "a" * 24, "size": 3, "fluent_signal": 0}),
        HEADED32 * 3,
        ack("a" * 24),
    ),
    "fluent-bit-no-option": (b"\x92\xa1t\xdd\x00\x00\x00\x02" + HEADED32 * 2, HEADED32 * 2, b""),
    "fluent-bit-message": (
        b"\xdd\x00\x00\x00\x04\xa1t" + STAMPED32 + map32({"chunk": "m"}),
        b"\x92" + STAMPED32,
        ack("m"),
    ),
    "docker-nil-option": (b"\x94\xa1t" + ENTRY[1:] + b"\xc0", ENTRY, b""),
    "js-message-empty-option": (b"\x94\xa1t" + ENTRY[1:] + b"\x80", ENTRY, b""),
    "js-packed-extra-key": (
        packed("t", ENTRY, {"chunk": "j", "size": 19, "compressed": "text", "eventEntryDataSize": 1}),
        ENTRY,
        ack("j"),
    ),
}


@pytest.mark.parametrize("sender", SENDERS)
async def test_what_real_senders_write(sender, serve, connect):
    """Section 5: stored as it came, answered as they expect; once, and twelve times in one write."""
    frame, stored, reply = SENDERS[sender]
    async with serve() as ingest, await connect(ingest) as client:
        await client.send(frame)
        await client.send(frame * 12 + message("probe", {}, {"chunk": "probe"}))
        expected = reply * 13 + ack("probe")
        assert await client.receive(len(expected)) == expected
        assert ingest.stored("t") == stored * 13
        assert ingest.rejected == []
