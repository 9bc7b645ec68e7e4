"""Who fails is started again or parked; nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from wendelin_stream.errors import ConfigError, Corrupt, Retry
from wendelin_stream.runtime import supervisor
from wendelin_stream.runtime.supervisor import Health, delay_after, supervise, verdict


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.0)


async def run_script(*outcomes: Exception | None) -> tuple[Health, int]:
    """Work that ends as scripted, one outcome a run."""
    script, runs = iter(outcomes), 0
    health = Health()

    async def work() -> None:
        nonlocal runs
        runs += 1
        outcome = next(script)
        if outcome is not None:
            raise outcome

    await supervise("work", work, health, asyncio.Event())
    return health, runs


async def test_retry_and_surprises_start_it_again() -> None:
    """Until it ends by itself."""
    health, runs = await run_script(Retry("disk full"), KeyError("surprise"), None)
    assert (health.state, runs, health.failures) == ("ended", 3, 2)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong"),
        Corrupt("broken"),
        ExceptionGroup("tasks", [Retry("x"), ExceptionGroup("inner", [Corrupt("broken")])]),
    ],
)
async def test_what_needs_a_human_is_parked_with_the_reason(error: Exception) -> None:
    """Trying again would only fill the log."""
    health, runs = await run_script(error)
    assert (health.state, runs) == ("parked", 1)
    assert health.error


def test_the_pause_doubles_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.5 s at first, a minute at most, +-25 %."""
    monkeypatch.undo()
    middle = [delay_after(n, 0.5) for n in (1, 2, 3, 8, 1000)]
    assert middle == [0.5, 1.0, 2.0, 60.0, 60.0]
    assert delay_after(1, 0.0) == 0.375
    assert verdict(OSError()) == "retry"


async def test_stop_ends_a_pause_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a minute for a daemon to stop."""
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 1000.0)
    monkeypatch.setattr(supervisor, "LONGEST_DELAY", 1000.0)
    stop, failed = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        failed.set()
        raise Retry("not now")

    task = asyncio.create_task(supervise("work", work, Health(), stop))
    await failed.wait()
    stop.set()
    await asyncio.wait_for(task, 5)
