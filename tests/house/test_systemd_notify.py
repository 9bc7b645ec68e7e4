"""What the daemon tells systemd, received as systemd receives it: on a datagram socket."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wendelin_stream.runtime.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Notifier, Callable[[], list[str]]]]:
    """A notifier and the far side: a function that receives one message as a list of its lines."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
        far.settimeout(5)
        if request.param == "path":
            name = str(tmp_path / "notify")
            far.bind(name)
        else:
            far.bind("")
            name = "@" + far.getsockname()[1:].decode()
        yield Notifier({"NOTIFY_SOCKET": name}), lambda: far.recv(4096).decode().split("\n")


def test_each_state_is_one_message_in_the_words_of_sd_notify(manager) -> None:
    """Start, status, watchdog, reload and stop, on both kinds of address; messages arrive in order."""
    notifier, received = manager
    notifier.extend_timeout(2_500_000)
    notifier.ready("2 sources, 1 pipeline")
    notifier.status("25.6 kHz\nlag  0.1 s")
    notifier.watchdog()
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.ready()
    notifier.stopping("draining")
    assert received() == ["EXTEND_TIMEOUT_USEC=2500000"]
    assert received() == ["READY=1", "STATUS=2 sources, 1 pipeline"]
    assert received() == ["STATUS=25.6 kHz lag 0.1 s"]
    assert received() == ["WATCHDOG=1"]
    reloading, stamp = received()
    assert reloading == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert received() == ["READY=1"]
    assert received() == ["STOPPING=1", "STATUS=draining"]


@pytest.mark.parametrize(
    "name", [None, "", "relative", "vsock:2:1234", "/nowhere/at/all", "@wendelin-nobody", "/" * 200]
)
def test_nobody_there_is_no_error(name: str | None) -> None:
    """Started by hand, under a manager that we cannot reach, or one that went away: nothing happens."""
    notifier = Notifier({} if name is None else {"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    notifier.status("still here")
    notifier.extend_timeout(1)
    notifier.watchdog()


def test_a_manager_that_does_not_read_never_blocks_us(tmp_path: Path) -> None:
    """The far side's buffer fills up; further messages are dropped at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
        far.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            notifier.watchdog()
        assert far.recv(100) == b"WATCHDOG=1"


def test_status_survives_any_text(manager) -> None:
    """A surrogate escape, as in a stream name from the wire, does not stop the news."""
    notifier, received = manager
    notifier.status("stream \udcff is late")
    assert received() == ["STATUS=stream ? is late"]


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_interval_is_what_systemd_allows(environ: dict[str, str], interval: float | None) -> None:
    """Only if systemd watches this very process, and not one that handed its environment down."""
    assert Notifier(environ | {"NOTIFY_SOCKET": "/run/systemd/notify"}).watchdog_interval() == interval


def test_no_watchdog_without_a_manager() -> None:
    """WATCHDOG_USEC alone, left over in an environment, starts nothing."""
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_interval() is None
