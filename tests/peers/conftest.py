"""A running daemon for the tests that send to it with other people's clients."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = """
store: {{path: {store}, keep_free: 0 B}}
sources:
  fluent: {{type: forward, listen: "127.0.0.1:{port}"}}
policies:
  everything: {{match: "**"}}
"""


@dataclass(frozen=True)
class Daemon:
    """Where to send, and where it ends up."""

    port: int
    store: Path


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Daemon]:
    """`wendelin-stream run` as a process of its own, told to be READY as systemd is; must stop cleanly within 5 s."""
    folder = tmp_path_factory.mktemp("daemon")
    running = Daemon(free_port(), folder / "store")
    (folder / "config.yaml").write_text(CONFIG.format(store=running.store, port=running.port))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (folder / "log").open("w+b") as log:
        notify.bind("")  # the kernel picks an abstract name
        notify.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-m", "wendelin_stream", "run", "--config", folder / "config.yaml"],
            env=os.environ | {"NOTIFY_SOCKET": "@" + notify.getsockname()[1:].decode()},
            stdout=log,
            stderr=log,
        )
        try:
            while b"READY=1" not in notify.recv(4096).split(b"\n"):
                continue
            yield running
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0, (folder / "log").read_text()
        except TimeoutError:
            pytest.fail("the daemon is not READY: " + (folder / "log").read_text())
        finally:
            process.kill()
            process.wait()
