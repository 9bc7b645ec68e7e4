"""The forward sender against scripted receivers: every frame arrives, whatever the connection does."""

import asyncio
import base64
from contextlib import asynccontextmanager

import msgpack
import pytest

from wendelin_stream.client.forward import ForwardClient, Unacked, packed_forward
from wendelin_stream.errors import BadData


class Receiver:
    """Takes frames; what it does with frame number n of its life is a script: `ack`, `drop`, `wrong` or `silent`."""

    def __init__(self, script=()):
        self.script = list(script)
        self.frames, self.connections = [], 0
        self.got = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()

    async def serve(self, reader, writer):
        self.connections += 1
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 24)
        try:
            while data := await reader.read(1 << 16):
                unpacker.feed(data)
                for tag, packed, option in unpacker:
                    self.frames.append((tag, packed, option))
                    self.got.set()
                    await self.hold.wait()
                    action = self.script.pop(0) if self.script else "ack"
                    if action == "drop":
                        return
                    if action != "silent":
                        answer = "nonsense" if action == "wrong" else option["chunk"]
                        writer.write(msgpack.packb({"ack": answer}))
                        await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def receiving(script=(), **options):
    receiver = Receiver(script)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with ForwardClient("127.0.0.1", port, backoff=(0.001, 0.01), **options) as client:
            yield receiver, client
    finally:
        receiver.hold.set()
        server.close()
        await server.wait_closed()


def events(n):
    return [(1_700_000_000_123_456_789 + n, {"n": n, "data": bytes([n])})]


def test_a_frame_is_packed_forward_with_event_time_and_a_chunk():
    """F10, F17: [tag, bin, {size, chunk}], EventTime as d7 00, chunk the base64 of 16 bytes, bytes equal each time."""
    chunk, frame = packed_forward("park.t01", [*events(1), *events(2)], bytes(range(16)))
    assert packed_forward("park.t01", [*events(1), *events(2)], bytes(range(16))) == (chunk, frame)
    tag, packed, option = msgpack.unpackb(frame)
    assert (tag, option) == ("park.t01", {"size": 2, "chunk": chunk})
    assert base64.b64decode(chunk) == bytes(range(16))
    assert packed[:3] == b"\x92\xd7\x00"
    unpacker = msgpack.Unpacker()
    unpacker.feed(packed)
    assert [record for _, record in unpacker] == [events(1)[0][1], events(2)[0][1]]


def test_unacked_counts_its_bytes_and_knows_no_stranger():
    """The window's core: bytes in and out, an unknown acknowledgement and a repeated chunk are errors."""
    window = Unacked()
    window.add("a", b"12345")
    window.add("b", b"67")
    assert (len(window), window.size, window.oldest()) == (2, 7, "a")
    assert (window.ack("a"), window.size, window.oldest(), "a" in window) == (5, 2, "b", False)
    for stranger in ("a", None, b"b"):
        with pytest.raises(BadData, match="was not sent"):
            window.ack(stranger)
    with pytest.raises(BadData, match="on its way"):
        window.add("b", b"")


async def test_all_frames_arrive_in_order_and_are_acknowledged():
    """Sent as fast as the window allows; drain returns when the last ack is in."""
    async with receiving(window=4096) as (receiver, client):
        for n in range(200):
            await client.send("t", events(n))
        await client.drain()
        assert client.unacked == 0
        assert client.counters.sent == client.counters.acked == 200
        assert client.counters.sent_bytes == client.counters.acked_bytes
        assert client.counters.connections == 1
        assert len({option["chunk"] for *_, option in receiver.frames}) == 200
        assert [frame[1][-1] for frame in receiver.frames] == list(range(200))


async def test_send_waits_while_the_window_is_full():
    """A receiver that does not acknowledge stops the sender at the window's size, and only until it does."""
    async with receiving(window=100) as (receiver, client):
        receiver.hold.clear()
        await client.send("t", [(1, {"data": bytes(200)})])
        blocked = asyncio.ensure_future(client.send("t", events(2)))
        await receiver.got.wait()
        assert not blocked.done()
        receiver.hold.set()
        await blocked
        await client.drain()
        assert len(receiver.frames) == 2


@pytest.mark.parametrize("fault", ["drop", "wrong", "silent"])
async def test_unacknowledged_frames_go_out_again_unchanged(fault):
    """The receiver hangs up, answers nonsense or nothing: the same bytes and chunk ids come again, none is lost."""
    options = {"timeout": 0.05} if fault == "silent" else {}
    async with receiving(["ack", fault, *(["silent"] * 3 if fault == "silent" else [])], **options) as (
        receiver,
        client,
    ):
        for n in range(5):
            await client.send("t", events(n))
        await client.drain()
        assert client.counters.acked == 5
        assert client.counters.connections >= 2
        assert client.counters.resent >= 1
        seen = {}
        for _, packed, option in receiver.frames:
            assert seen.setdefault(option["chunk"], packed) == packed
        assert len(seen) == 5


async def test_a_receiver_that_comes_later_gets_everything():
    """Nobody listens at first: frames wait, the trouble is named, and then they arrive."""
    receiver = Receiver()
    probe = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    async with ForwardClient("127.0.0.1", port, backoff=(0.001, 0.01)) as client:
        await client.send("t", events(1))
        while not client.trouble:
            await asyncio.sleep(0.001)
        assert client.unacked == 1
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
        await client.drain()
        assert client.unacked == 0
    server.close()
    await server.wait_closed()
