"""One owner for every task: what fails is started again after a while, or parked with the reason.

`Retry` and surprises: again, with back-off and jitter. `ConfigError`, `Corrupt`: parked, a human must act. The
siblings go on in every case.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from wendelin_stream.errors import ConfigError, Corrupt, Locked, Retry
from wendelin_stream.runtime.waits import pause

logger = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY, STEADY = 0.5, 60.0, 120.0
"""Seconds: the first and the longest pause, and the time of good work after which it starts from the first again."""


@dataclass(slots=True)
class Health:
    """How a supervised task is doing: `state` is running, waiting, parked or ended; `error` is the latest."""

    state: str = "running"
    error: str = ""
    failures: int = 0


def verdict(error: BaseException) -> str:
    """`park` where trying again cannot help, else `retry`. Of a group, one that parks decides."""
    if isinstance(error, BaseExceptionGroup):
        return "park" if any(verdict(one) == "park" for one in error.exceptions) else "retry"
    return "park" if isinstance(error, ConfigError | Corrupt | Locked) else "retry"


def delay_after(failures: int, jitter: float) -> float:
    """Seconds to wait after that many failures in a row: doubled each time, bounded, +-25 % by `jitter` in [0, 1)."""
    pause = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 20))
    return pause * (0.75 + 0.5 * jitter)


def plain(error: BaseException) -> str:
    """The error in one line; of a group, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def expected(error: BaseException) -> bool:
    """One of our own errors, whose text says all; a surprise is logged with its traceback."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return isinstance(error, ConfigError | Corrupt | Locked | Retry)


async def supervise(name: str, work: Callable[[], Awaitable[None]], health: Health, stop: asyncio.Event) -> None:
    """Run `work` until it returns, again after failures, until `stop`. Never raises but for cancellation."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        started = loop.time()
        try:
            health.state = "running"
            await work()
        except Exception as error:
            if loop.time() - started > STEADY:
                health.failures = 0
            health.failures += 1
            health.error = plain(error)
            surprise = None if expected(error) else error
            if verdict(error) == "park":
                health.state = "parked"
                logger.log(logging.ERROR, "%s stopped: %s", name, health.error, exc_info=surprise)
                return
            health.state = "waiting"
            delay = delay_after(health.failures, random.random())  # noqa: S311 - no secret
            logger.warning("%s failed, again in %.1f s: %s", name, delay, health.error, exc_info=surprise)
            await pause(stop, delay)
        else:
            health.state = "ended"
            return
