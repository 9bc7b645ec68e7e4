"""The daemon as systemd and senders see it: ready, reloaded, watched, stopped, and told what is wrong."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_kit import CONFIG, Daemon, Feeder, ack, chunk, until, whole
from wendelin_stream import connect
from wendelin_stream.testing.daemon import DaemonProcess
from wendelin_stream.testing.forward import event, forward, message, packed

STREAMS = ("park.a.acc", "park.b.acc")
FreePort = Callable[[], int]


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "wendelin_stream", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def answer(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if the other side closes."""
    got = b""
    while len(got) < size and (piece := connection.recv(size - len(got))):
        got += piece
    return got


# --- ready


def test_it_is_ready_only_when_it_listens(tmp_path: Path, free_port: FreePort) -> None:
    """A sender that starts after us (After=wendelin-stream.service) never finds a closed port."""
    with Daemon(tmp_path, free_port()) as daemon, socket.create_connection(("127.0.0.1", daemon.port), 1) as sender:
        sender.sendall(packed("log.a", event({"n": 1}), {"chunk": chunk(1)}))
        assert answer(sender, len(ack(chunk(1)))) == ack(chunk(1))


def test_an_address_in_use_ends_the_start_with_78(tmp_path: Path, free_port: FreePort) -> None:
    """And says which, where it is written, and what to do. It never says READY."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        daemon = Daemon(tmp_path, other.getsockname()[1])
        result = program("run", "--config", daemon.config)
    assert result.returncode == 78
    assert f"127.0.0.1:{daemon.port} is in use" in result.stderr
    assert "ss -ltnup" in result.stderr


def test_a_mistake_in_the_configuration_ends_the_start_with_78(tmp_path: Path, free_port: FreePort) -> None:
    """File, line, place, reason; no traceback, and nothing is made on disk but the folder."""
    daemon = Daemon(tmp_path, free_port(), CONFIG.replace("25.6 kHz", "25.6 kHertz").replace("overlap", "overlapp"))
    result = program("run", "--config", daemon.config)
    assert result.returncode == 78
    assert f"{daemon.config}:6: policies.acc.codec.pcm.rate: " in result.stderr
    assert "unknown unit 'kHertz'" in result.stderr
    assert f"{daemon.config}:11: " in result.stderr
    assert "did you mean 'overlap'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "store").exists()


def test_a_second_daemon_on_the_same_store_ends_with_75(tmp_path: Path, free_port: FreePort) -> None:
    """It names the first one, which goes on."""
    with Daemon(tmp_path, free_port()) as daemon:
        other = tmp_path / "other.yaml"
        other.write_text(daemon.config.read_text().replace(str(daemon.port), str(free_port())))
        result = program("run", "--config", other)
        assert result.returncode == 75
        assert f"is being written by process {daemon.pid} on host {socket.gethostname()}" in result.stderr
        with socket.create_connection(("127.0.0.1", daemon.port), 1) as sender:
            sender.sendall(packed("log.a", event({"n": 1}), {"chunk": chunk(1)}))
            assert answer(sender, len(ack(chunk(1)))) == ack(chunk(1))


def test_an_import_into_a_stream_of_the_daemon_is_turned_away(tmp_path: Path, free_port: FreePort) -> None:
    """Two writers would break it: the message names the daemon, the stream stays as it is."""
    recording = tmp_path / "recording.npy"
    np.save(recording, np.zeros((100, 2), np.float32))
    with Daemon(tmp_path, free_port()) as daemon:
        feeder = Feeder(daemon.port, "park.a.acc")
        asyncio.run(feeder.run(3))
        result = program("import", recording, "park.a.acc", "--store", tmp_path / "store")
        assert result.returncode == 75
        assert f"stream park.a.acc is being written by process {daemon.pid}" in result.stderr
    assert daemon.array("park.a.acc").tobytes() == whole("park.a.acc", 3)


# --- what is sent is what is read


def test_F16_events_of_all_modes_are_read_back_byte_for_byte(tmp_path: Path, free_port: FreePort) -> None:
    """Message, Forward, PackedForward, and compressed in two members with an event across their border."""
    records = [{"text": "grün", "bin": b"\x00\xff"}, {"n": 2**63, "list": [1, None, True, 1.5]}, {"map": {"a": {}}}]
    plain = [event(record, 1_700_000_000 + n, n) for n, record in enumerate(records * 3)]
    whole_stream = b"".join(plain)
    halves = whole_stream[: len(plain[0]) + 7], whole_stream[len(plain[0]) + 7 :]
    one = event({"k": "v"})
    frames = {
        "log.message": (message("log.message", {"k": "v"}, {"chunk": chunk(1)}), one),
        "log.forward": (forward("log.forward", plain, {"chunk": chunk(2)}), whole_stream),
        "log.packed": (packed("log.packed", whole_stream, {"chunk": chunk(3)}), whole_stream),
        "log.gzip": (
            packed("log.gzip", b"".join(map(gzip.compress, halves)), {"chunk": chunk(4), "compressed": "gzip"}),
            whole_stream,
        ),
    }
    with Daemon(tmp_path, free_port()) as daemon, socket.create_connection(("127.0.0.1", daemon.port), 5) as sender:
        sender.sendall(b"".join(frame for frame, _ in frames.values()))
        acks = b"".join(ack(chunk(n)) for n in (1, 2, 3, 4))
        assert answer(sender, len(acks)) == acks
        for stream, (_, expected) in frames.items():
            assert daemon.array(stream).tobytes() == expected, stream
        with connect(tmp_path / "store")["log.forward"] as stream:
            assert [one.record for one in stream.events()] == records * 3


# --- stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_F37_a_stop_under_load_takes_less_than_five_seconds_and_loses_nothing(
    tmp_path: Path, free_port: FreePort, number: signal.Signals
) -> None:
    """Exit code 0; what was acknowledged is there, nothing twice, in order; the derived streams are whole."""

    async def load(daemon: Daemon) -> list[Feeder]:
        feeders = [Feeder(daemon.port, stream) for stream in STREAMS]
        tasks = [asyncio.create_task(feeder.run()) for feeder in feeders]
        while min(feeder.acked for feeder in feeders) < 200:
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        assert await asyncio.to_thread(daemon.stop, 5.0, number) == 0
        print(f"stopped in {time.monotonic() - begun:.2f} s")
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return feeders

    daemon = Daemon(tmp_path, free_port()).start()
    for feeder in asyncio.run(load(daemon)):
        stored = daemon.array(feeder.stream).tobytes()
        count = len(stored) // (8 * 256)
        assert stored == whole(feeder.stream, count)
        assert feeder.acked <= count <= feeder.sent
        spectra = daemon.array(f"{feeder.stream}.spectrum")
        assert len(spectra) == (count * 256 // 256 - 1) // 2
    assert "everything that was acknowledged is on disk" in daemon.log()


def test_a_second_signal_ends_it_at_once(tmp_path: Path, free_port: FreePort) -> None:
    """Somebody who presses Ctrl-C twice means it; what was acknowledged is on disk all the same."""
    slow = CONFIG.replace("nperseg: 512, overlap: 50 %, average: 2", "nperseg: 16384, overlap: 99.9 %")
    daemon = Daemon(tmp_path, free_port(), slow).start()
    feeder = Feeder(daemon.port, "park.a.acc")
    asyncio.run(feeder.run(2000))
    daemon.signal(signal.SIGINT)
    daemon.wait_for("STOPPING=1")
    begun = time.monotonic()
    assert daemon.stop(2.0, signal.SIGINT) == 1
    assert time.monotonic() - begun < 1
    assert "stopped at once; nothing that was acknowledged is lost" in daemon.log()
    assert daemon.array("park.a.acc").tobytes() == whole("park.a.acc", 2000)


@pytest.mark.slow
def test_a_step_that_is_cut_off_by_the_stop_is_made_after_the_next_start(tmp_path: Path, free_port: FreePort) -> None:
    """A pipeline far behind: the stop does not wait for it, the next run goes on, and the result is that of one run."""
    slow = CONFIG.replace("nperseg: 512, overlap: 50 %, average: 2", "nperseg: 16384, overlap: 99.5 %, average: 50")
    port = free_port()
    daemon = Daemon(tmp_path, port, slow).start()
    asyncio.run(Feeder(port, "park.a.acc").run(1500))
    assert daemon.stop() == 0
    (tmp_path / "calm").mkdir()
    count = (1500 * 256 - 16384) // 82 + 1
    with Daemon(tmp_path, port, slow) as daemon:
        until(lambda: spectra(daemon) == count // 50, "the rest of the spectra")
        again = daemon.array("park.a.acc.spectrum").tobytes()
    with Daemon(tmp_path / "calm", port, slow) as calm:
        asyncio.run(Feeder(port, "park.a.acc").run(1500))
        until(lambda: spectra(calm) == count // 50, "all spectra")
        assert calm.array("park.a.acc.spectrum").tobytes() == again


def spectra(daemon: Daemon) -> int:
    if "park.a.acc.spectrum" not in connect(daemon.folder / "store"):
        return 0
    return len(daemon.array("park.a.acc.spectrum"))


@pytest.mark.slow
def test_a_store_that_hangs_at_the_end_does_not_keep_the_process(tmp_path: Path, free_port: FreePort) -> None:
    """A disk that never answers: after 4.5 s the process ends as kill -9 would, and says so."""
    daemon = Daemon(tmp_path, free_port())
    hangs = "import time; from wendelin_stream.store import Store; Store.close = lambda self: time.sleep(60)"
    daemon._argv[1:3] = ["-c", f"{hangs}; from wendelin_stream.cli import main; main()"]
    daemon.start()
    begun = time.monotonic()
    assert daemon.stop(6.0) == 1
    assert 4 < time.monotonic() - begun < 5.5
    assert "not everything came to an end in time; nothing that was acknowledged is lost" in daemon.log()


# --- reload


def test_SIGHUP_starts_what_is_new_and_leaves_connections_alone(tmp_path: Path, free_port: FreePort) -> None:
    """RELOADING=1 with the time, READY=1; the sender of before goes on, the new source and pipeline are there."""
    second = free_port()
    more = CONFIG.replace("policies:", f'  more: {{{{type: forward, listen: "127.0.0.1:{second}"}}}}\npolicies:')
    more += '  level: {{from: park.*.acc, do: [{{features: {{window: 0.01 s}}}}], into: "{{stream}}.level"}}\n'
    with Daemon(tmp_path, free_port()) as daemon, socket.create_connection(("127.0.0.1", daemon.port), 5) as sender:
        sender.sendall(packed("log.a", event({"n": 1}), {"chunk": chunk(1)}))
        assert answer(sender, len(ack(chunk(1)))) == ack(chunk(1))
        asyncio.run(Feeder(daemon.port, "park.a.acc").run(20))
        before = time.monotonic_ns() // 1000
        daemon.write(more)
        daemon.signal(signal.SIGHUP)
        told = daemon.wait_for("READY=1")
        at = told.index("RELOADING=1")
        stamp = int(told[at + 1].removeprefix("MONOTONIC_USEC="))
        assert before <= stamp <= time.monotonic_ns() // 1000
        sender.sendall(packed("log.a", event({"n": 2}), {"chunk": chunk(2)}))
        assert answer(sender, len(ack(chunk(2)))) == ack(chunk(2))
        with socket.create_connection(("127.0.0.1", second), 5) as other:
            other.sendall(packed("log.b", event({"n": 3}), {"chunk": chunk(3)}))
            assert answer(other, len(ack(chunk(3)))) == ack(chunk(3))
        until(lambda: "park.a.acc.level" in connect(tmp_path / "store"), "the new pipeline's stream")
        until(lambda: len(daemon.array("park.a.acc.level")) == 20, "rows of what was there before")
        assert "sources started: more; pipelines started: level" in daemon.log()


def test_SIGHUP_with_a_mistake_changes_nothing(tmp_path: Path, free_port: FreePort) -> None:
    """The log says file, line and reason; READY=1 comes all the same, as the daemon is; the sender goes on."""
    with Daemon(tmp_path, free_port()) as daemon, socket.create_connection(("127.0.0.1", daemon.port), 5) as sender:
        daemon.write(CONFIG.replace("type: forward", "type: forwart"))
        daemon.signal(signal.SIGHUP)
        assert "RELOADING=1" in daemon.wait_for("READY=1")
        log = daemon.log()
        assert f"the old one runs on: {daemon.config}:4: sources.fluent.type: " in log
        assert "did you mean 'forward'?" in log
        sender.sendall(packed("log.a", event({"n": 1}), {"chunk": chunk(1)}))
        assert answer(sender, len(ack(chunk(1)))) == ack(chunk(1))


# --- news


def test_SIGUSR1_tells_how_it_is_doing(tmp_path: Path, free_port: FreePort) -> None:
    """Sources with units, bytes and what was set aside; pipelines with rows and lag."""
    with Daemon(tmp_path, free_port()) as daemon:
        asyncio.run(Feeder(daemon.port, "park.a.acc").run(20))
        until(lambda: spectra(daemon) == 9, "spectra")
        daemon.signal(signal.SIGUSR1)
        log = daemon.logged("pipeline spectrum on park.a.acc")
        assert re.search(r"source fluent: running, \d+ units, [\d.]+ kB, 0 set aside, 0 repeats, 0 refused", log)
        assert re.search(r"pipeline spectrum on park.a.acc: running, 5120 rows in, 9 out, 0 behind", log)


def test_the_watchdog_is_fed_when_systemd_asks_for_it(tmp_path: Path, free_port: FreePort) -> None:
    """WATCHDOG_USEC is set: WATCHDOG=1 comes several times within it, also from an idle daemon."""
    daemon = Daemon(tmp_path, free_port()).start(WATCHDOG_USEC="300000")
    begun = time.monotonic()
    for _ in range(6):
        daemon.wait_for("WATCHDOG=1", 2)
    assert time.monotonic() - begun < 1.5
    assert daemon.stop() == 0


# --- disks


def test_S19_below_keep_free_nothing_is_taken_and_nothing_is_lost(tmp_path: Path, free_port: FreePort) -> None:
    """The sender gets no answer but a closed connection; with room again it is acknowledged, and there once."""
    frame = packed("log.a", event({"n": 1}), {"chunk": chunk(1)})
    port = free_port()
    with Daemon(tmp_path, port) as daemon:
        asyncio.run(Feeder(port, "park.a.acc").run(2))
    with Daemon(tmp_path, port, keep_free="1000 TB") as daemon:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), 5) as sender:
                sender.sendall(frame)
                assert answer(sender, 100) == b""
        assert "less than keep_free (1000 TB)" in daemon.log()
    with Daemon(tmp_path, port) as daemon, socket.create_connection(("127.0.0.1", port), 5) as sender:
        sender.sendall(frame * 2)
        assert answer(sender, 2 * len(ack(chunk(1)))) == 2 * ack(chunk(1))
        assert daemon.array("log.a").tobytes() == event({"n": 1})
        assert daemon.array("park.a.acc").tobytes() == whole("park.a.acc", 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A file system of 16 MiB that a test may fill up; mounting it needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        why = f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}; run the tests as root"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_S17_a_disk_that_runs_full_refuses_and_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path, free_port: FreePort
) -> None:
    """Full for real, in the middle of work; a file is removed, and without a restart all comes in, once, in order."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(9 << 20))
    text = CONFIG.replace("{folder}/store", f"{small_disk}/store").replace("keep_free:", "segment: 1 MiB, keep_free:")

    async def story(daemon: Daemon) -> int:
        feeder = Feeder(daemon.port, "park.a.acc")
        feeding = asyncio.create_task(feeder.run())
        while "No space left on device" not in daemon.log():
            await asyncio.sleep(0.02)
        stuck = -1
        while feeder.acked != stuck:  # a small chunk may fit where a large one did not
            stuck = feeder.acked
            await asyncio.sleep(0.5)
        assert feeder.client.unacked
        ballast.unlink()
        while feeder.acked < stuck + 300:
            await asyncio.sleep(0.01)
        feeder.enough.set()
        await feeding
        return feeder.sent

    with Daemon(tmp_path, free_port(), text) as daemon:
        count = asyncio.run(story(daemon))
        with connect(small_disk / "store")["park.a.acc"] as stream:
            assert stream.array.tobytes() == whole("park.a.acc", count)
            assert not stream.reader.index()["flags"].any()
        with connect(small_disk / "store")["park.a.acc.spectrum"] as spectrum:
            until(lambda: spectrum.reader.refresh() and len(spectrum) == (count - 1) // 2, "all spectra")


def test_the_process_kit_says_why_a_daemon_does_not_start(tmp_path: Path) -> None:
    """At once, and not after half a minute."""
    (tmp_path / "config.yaml").write_text("nonsense: 1")
    begun = time.monotonic()
    with pytest.raises(AssertionError, match="it ended without READY=1") as caught:
        DaemonProcess(tmp_path / "config.yaml", log=tmp_path / "log").start()
    assert "nonsense" in str(caught.value)
    assert time.monotonic() - begun < 10
