"""A running daemon for the tests that send to it with other people's clients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wendelin_stream.testing.daemon import DaemonProcess

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
    """`wendelin-stream run` as a process of its own, READY; it must stop cleanly within 5 s."""
    folder = tmp_path_factory.mktemp("daemon")
    running = Daemon(free_port(), folder / "store")
    (folder / "config.yaml").write_text(CONFIG.format(store=running.store, port=running.port))
    with DaemonProcess(folder / "config.yaml", log=folder / "log"):
        yield running
