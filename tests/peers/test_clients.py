"""Fluentd's own client libraries send to the running daemon; every event is read back byte for byte.

A client script prints the bytes that it put on the wire. From those the expected events are cut out here, without
our own code, and compared with what another process, this one, reads from the store.
"""

import base64
import gzip
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from wendelin_stream.errors import ConfigError
from wendelin_stream.store import StreamReader

HERE = Path(__file__).parent
TAGS = (f"peer.case{n}" for n in itertools.count())  # each test sends to a stream of its own


def sent_by(*command: str) -> dict:
    """What a client script says that it sent. It fails if an acknowledgement is missing."""
    run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout, object_hook=lambda d: base64.b64decode(d["base64"]) if "base64" in d else d)


def elements(data: bytes) -> Iterator[bytes]:
    """The bytes of each msgpack object in `data`."""
    walker = msgpack.Unpacker()
    walker.feed(data)
    start = 0
    while start < len(data):
        walker.skip()
        yield data[start : walker.tell()]
        start = walker.tell()


def parts(array: bytes) -> list[bytes]:
    """The bytes of each element of one msgpack array."""
    head = msgpack.Unpacker()
    head.feed(array)
    head.read_array_header()
    return list(elements(array[head.tell() :]))


def events_on_wire(wire: bytes) -> list[bytes]:
    """Each event of the frames in `wire` as ``[time, record]``, in the sender's own bytes."""
    events = []
    for frame in elements(wire):
        _, second, *rest = parts(frame)
        body = msgpack.unpackb(second, raw=True, strict_map_key=False)
        if isinstance(body, list):
            events += parts(second)
        elif isinstance(body, bytes):
            packed = rest and msgpack.unpackb(rest[0]).get("compressed") == "gzip"
            events += elements(gzip.decompress(body) if packed else body)
        else:
            events.append(b"\x92" + second + rest[0])
    return events


def read_back(store: Path, tag: str, size: int, patience: float) -> tuple[bytes, int]:
    """All bytes of the stream and the number of events, once it holds `size` bytes or `patience` seconds are over."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with StreamReader.open(store, tag) as reader:
                if reader.end >= size or time.monotonic() > deadline:
                    return reader.read(0, reader.end), int(reader.index()["count"].sum())
        except ConfigError:  # nothing has come so far
            assert time.monotonic() < deadline, f"there is no stream {tag}"
        time.sleep(0.01)


def meant(event: bytes) -> dict:
    """An event as the client scripts print it."""
    stamp, record = msgpack.unpackb(event, strict_map_key=False)
    if isinstance(stamp, int):
        return {"time": [stamp, None], "record": record}
    assert stamp.code == 0
    return {"time": [int.from_bytes(stamp.data[:4]), int.from_bytes(stamp.data[4:])], "record": record}


def check(sent: dict, store: Path, tag: str, acked: bool) -> None:
    expected = events_on_wire(sent["wire"])
    size = sum(map(len, expected))
    stored, count = read_back(store, tag, size, patience=0 if acked else 20)
    assert stored == b"".join(expected)
    assert count == len(expected) == 15
    assert [meant(event) for event in elements(stored)] == sent["events"]


MODES = ("Message", "Forward", "PackedForward", "CompressedPackedForward")
NPM = [("@fluent-org/logger", mode) for mode in MODES] + [("fluent-logger", m) for m in MODES if m != "Forward"]


@pytest.mark.parametrize("acked", [True, False], ids=["ack", "no-ack"])
@pytest.mark.parametrize("stamp", ["seconds", "eventtime"])
@pytest.mark.parametrize(("client", "mode"), NPM)
def test_npm_client(daemon, need, client: str, mode: str, stamp: str, acked: bool) -> None:
    """Both npm clients in all their modes. What was acknowledged can be read at once, without waiting."""
    tag = next(TAGS)
    ack = ["--ack"] if acked else []
    sent = sent_by(
        need("node"), "send.js", client, "--port", str(daemon.port), "--tag", tag, "--mode", mode, "--time", stamp, *ack
    )
    check(sent, daemon.store, tag, acked)


@pytest.mark.parametrize("stamp", ["seconds", "eventtime"])
def test_pypi_client(daemon, stamp: str) -> None:
    """The PyPI client, which knows no acknowledgements: all of it is there a moment later."""
    tag = next(TAGS)
    sent = sent_by(sys.executable, "send.py", "--port", str(daemon.port), "--tag", tag, "--time", stamp)
    check(sent, daemon.store, tag, acked=False)
