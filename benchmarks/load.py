"""The sending side of the ingest benchmark: a process of its own, frames encoded before the clock starts.

    python -m benchmarks.load PORT CONNECTIONS FRAMES small|binary acks|eof

Sends as fast as TCP takes it and prints the seconds until the last acknowledgement (acks), or until the sink says that
everything is on disk (eof: the bare sink, which does not read frames).
"""

from __future__ import annotations

import base64
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgpack

EVENTS = {"small": 1000, "binary": 16}


def payload(kind: str) -> bytes:
    """The packed events of one frame: 1000 small ones, or 16 of 64 KiB."""
    stamp = msgpack.ExtType(0, (1_700_000_000).to_bytes(4, "big") + (5).to_bytes(4, "big"))
    record = {"sensor": "t01.acc", "v": 1.5} if kind == "small" else {"data": bytes(range(256)) * 256}
    return msgpack.packb([stamp, record]) * EVENTS[kind]


def frames(kind: str, connection: int, count: int) -> list[list[bytes]]:
    """PackedForward frames as pieces, so that the payload is in memory once; every chunk id differs."""
    body = payload(kind)
    head = b"\x93" + msgpack.packb(f"bench.{connection}") + b"\xc6" + len(body).to_bytes(4, "big")
    made = []
    for number in range(count):
        chunk = base64.b64encode(connection.to_bytes(8, "big") + number.to_bytes(8, "big")).decode()
        made.append([head, body, msgpack.packb({"size": EVENTS[kind], "chunk": chunk})])
    return made


def send_all(sock: socket.socket, pieces: list[list[bytes]]) -> None:
    for frame in pieces:
        rest = [memoryview(piece) for piece in frame]
        while rest:
            sent = sock.sendmsg(rest)
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][sent:]


def read_acks(sock: socket.socket, count: int) -> None:
    unpacker = msgpack.Unpacker()
    while count:
        data = sock.recv(1 << 16)
        if not data:
            raise SystemExit(f"closed with {count} acknowledgements missing")
        unpacker.feed(data)
        count -= sum(1 for _ in unpacker)


def one_connection(port: int, pieces: list[list[bytes]], acks: bool, start: threading.Barrier) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        start.wait()
        if acks:
            sender = threading.Thread(target=send_all, args=(sock, pieces))
            sender.start()
            read_acks(sock, len(pieces))
            sender.join()
        else:
            send_all(sock, pieces)
            sock.shutdown(socket.SHUT_WR)
            if sock.recv(4) != b"done":
                raise SystemExit("the sink did not take everything")


def main() -> None:
    port, connections, count = (int(arg) for arg in sys.argv[1:4])
    kind, mode = sys.argv[4:6]
    start = threading.Barrier(connections + 1)
    with ThreadPoolExecutor(connections) as pool:
        made = [frames(kind, connection, count) for connection in range(connections)]
        running = [pool.submit(one_connection, port, pieces, mode == "acks", start) for pieces in made]
        start.wait()
        begun = time.perf_counter()
        for one in running:
            one.result()
        print(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
