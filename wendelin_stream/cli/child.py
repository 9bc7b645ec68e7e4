"""The demo's daemon: a child process, watched and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from wendelin_stream.errors import WendelinStreamError

STARTING = 60.0
"""Seconds that a start may take; recovery of a big store is part of it."""
LINES = 15
"""Lines of the log that a crash is reported with."""


class ChildDied(WendelinStreamError):
    """The daemon ended by itself. `code` is its exit code; the text has the end of its log."""

    def __init__(self, code: int, log: Path, lines: Sequence[str]) -> None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        super().__init__("\n".join([f"the daemon {how}; the end of {log}:", *lines]))
        self.code = code


class Daemon:
    """``wendelin-stream run`` with some arguments, its output appended to a log file."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._arguments, self._log = arguments, log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, host: str, port: int) -> None:
        """Start it and wait until its forward port accepts. Raises ChildDied if it does not come so far."""
        with self._log.open("ab") as log:
            self._begin = log.tell()
            command = [sys.executable, "-m", "wendelin_stream", "run", *self._arguments]
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we end it in order
            )
        accepting = asyncio.create_task(_accepts(host, port))
        died = asyncio.create_task(self.died())
        try:
            await asyncio.wait([accepting, died], timeout=STARTING, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                died.result()
            if not accepting.done():
                raise WendelinStreamError(f"the daemon did not open {host}:{port} in {STARTING:.0f} s: see {self._log}")
        finally:
            accepting.cancel()
            died.cancel()
            await asyncio.gather(accepting, died, return_exceptions=True)

    async def died(self) -> None:
        """Wait until it ends by itself, then raise ChildDied."""
        assert self._process is not None
        code = await self._process.wait()
        raise ChildDied(code, self._log, self._tail())

    def reload(self) -> None:
        """Have it read its configuration again."""
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    async def stop(self, limit: float) -> int:
        """End it in order, after `limit` seconds at once. Returns its exit code."""
        if self._process is None:
            return 0
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(limit):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _tail(self) -> list[str]:
        with self._log.open("rb") as log:
            log.seek(max(self._begin, os.fstat(log.fileno()).st_size - 64_000))
            return list(deque(log.read().decode(errors="replace").splitlines(), maxlen=LINES))


async def _accepts(host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        return
