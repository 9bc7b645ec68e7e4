"""A daemon as a process of its own, told about as systemd is: for tests that kill it, reload it, or send to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGTERM, Signals
from types import TracebackType
from typing import Self

PATIENCE = 30.0


class DaemonProcess:
    """``wendelin-stream run`` with `configs`. As a context manager it is started, and stopped cleanly at the end.

    Its messages to systemd are read from a datagram socket; its log goes to `log`.
    """

    def __init__(self, *configs: Path, log: Path) -> None:
        self._argv = [sys.executable, "-m", "wendelin_stream", "run"]
        for config in configs:
            self._argv += ["--config", str(config)]
        self._log = log
        self._notify: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, **environment: str) -> Self:
        """Start it and return when it is READY. Raises AssertionError with its log if it is not."""
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind("")  # the kernel picks an abstract name
        address = "@" + self._notify.getsockname()[1:].decode()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._argv, env=os.environ | {"NOTIFY_SOCKET": address} | environment, stdout=log, stderr=log
            )
        try:
            self.wait_for("READY=1")
        except AssertionError:
            self.kill()
            raise
        return self

    def wait_for(self, message: str, timeout: float = PATIENCE) -> list[str]:
        """Read what it tells systemd until a datagram has that line; returns all lines read."""
        assert self._notify is not None
        assert self._process is not None
        self._notify.settimeout(0.1)
        lines: list[str] = []
        end = time.monotonic() + timeout
        while message not in lines:
            ended = self._process.poll() is not None
            try:
                lines += self._notify.recv(4096).decode().split("\n")
            except TimeoutError:
                if ended or time.monotonic() > end:
                    what = "it ended" if ended else f"{timeout} s passed"
                    raise AssertionError(f"{what} without {message}; the log:\n{self.log()}") from None
        return lines

    def log(self) -> str:
        """All it has logged so far."""
        return self._log.read_text(errors="replace")

    def signal(self, number: Signals) -> None:
        """Send it a signal, if it has not ended."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9: it gets no chance to do anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._close()

    def stop(self, timeout: float = 5.0, number: Signals = SIGTERM) -> int:
        """End it by a signal; the exit code. Raises AssertionError with its log after `timeout` seconds."""
        self.signal(number)
        return self.ended(timeout)

    def ended(self, timeout: float = 5.0) -> int:
        """Wait until it has ended; the exit code. Raises AssertionError with its log after `timeout` seconds."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not stopped after {timeout} s; the log:\n{self.log()}") from None
        finally:
            self._close()

    def _close(self) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"the daemon's log:\n{self.log()}")
        if self._notify is None:
            return  # killed or stopped already
        code = self.stop()
        if error is None and code != 0:
            raise AssertionError(f"exit code {code}; the log:\n{self.log()}")
