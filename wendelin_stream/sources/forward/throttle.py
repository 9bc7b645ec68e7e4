"""Log lines that a bad peer cannot turn into a flood."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class Throttle:
    """Lets `burst` lines through at once and one per `period` seconds on average; tells how many were left out."""

    def __init__(
        self, log: logging.Logger, *, burst: int = 20, period: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._burst, self._period, self._clock = log, burst, period, clock
        self._tokens = float(burst)
        self._since = clock()
        self._left_out = 0

    def warning(self, text: str) -> None:
        """Log the text as a warning, control characters escaped, unless there were too many."""
        self._line(logging.WARNING, text)

    def info(self, text: str) -> None:
        """The same, less loud."""
        self._line(logging.INFO, text)

    def _line(self, level: int, text: str) -> None:
        if not self._log.isEnabledFor(level):
            return
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._since) / self._period)
        self._since = now
        if self._tokens < 1:
            self._left_out += 1
            return
        self._tokens -= 1
        more = f" ({self._left_out} similar lines left out)" if self._left_out else ""
        self._left_out = 0
        self._log.log(level, "%s%s", printable(text), more)


def printable(text: str) -> str:
    """The text on one line: what is not printable is escaped, surrogates too."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:500])
