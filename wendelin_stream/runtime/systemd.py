"""What the daemon tells systemd: sd_notify(3), without a library.

Every method does nothing when the process was not started by systemd as ``Type=notify``, and never raises because
systemd went away: a daemon does not stop because nobody listens to its news.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends state changes to the service manager.

    environ: where NOTIFY_SOCKET (a path, or ``@`` and an abstract name), WATCHDOG_USEC and WATCHDOG_PID are read.
    Messages are datagrams that are sent at once and never wait; systemd reads them in order.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._watchdog = _watchdog_seconds(environ)

    @property
    def active(self) -> bool:
        """Whether there is somebody to tell."""
        return self._address.startswith(("/", "\0"))

    def ready(self, status: str = "") -> None:
        """Recovered and listening; or, after `reloading`, reloaded."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """A reload has begun; `ready` tells its end, whether the new configuration was taken or not."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """The way down has begun."""
        self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(*_status(text))

    def extend_timeout(self, usec: int) -> None:
        """Ask for `usec` microseconds from now for the start or stop under way: a long recovery, a slow disk."""
        self._send(f"EXTEND_TIMEOUT_USEC={usec}")

    def watchdog(self) -> None:
        """Alive. Call it only after a check that the loop and the writer thread both got on."""
        self._send("WATCHDOG=1")

    def watchdog_interval(self) -> float | None:
        """Seconds after which systemd kills us if it hears no `watchdog`; None: it does not watch us."""
        return self._watchdog if self.active and self._watchdog else None

    def _send(self, *lines: str) -> None:
        if not self.active or not lines:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """0 if systemd does not watch this process."""
    try:
        ours = int(environ.get("WATCHDOG_PID") or os.getpid()) == os.getpid()
        return int(environ["WATCHDOG_USEC"]) / 1e6 if ours else 0.0
    except (KeyError, ValueError):
        return 0.0
