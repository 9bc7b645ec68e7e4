"""The byte budget: bounded, fair, and nothing leaks from it."""

from __future__ import annotations

import asyncio

import pytest

from wendelin_stream.runtime.budget import Budget


async def test_it_blocks_when_full_and_serves_in_order() -> None:
    """A small unit does not overtake a big one that waits: no sender is starved."""
    budget = Budget(100)
    await budget.take(80)
    order = []

    async def want(name: str, size: int) -> None:
        await budget.take(size)
        order.append(name)

    big, small = asyncio.create_task(want("big", 50)), asyncio.create_task(want("small", 10))
    await asyncio.sleep(0)
    assert order == []
    budget.give(80)
    await asyncio.gather(big, small)
    assert order == ["big", "small"]
    assert budget.used == 60


async def test_a_unit_larger_than_the_budget_passes_alone() -> None:
    """Otherwise it would wait for ever."""
    budget = Budget(10)
    await budget.take(1000)
    waiting = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(1000)
    await waiting
    assert budget.used == 1


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    """Also when its turn had come in the same round of the loop."""
    budget = Budget(10)
    await budget.take(10)
    first, second = asyncio.create_task(budget.take(10)), asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert budget.used == 10
    third = asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    budget.give(10)
    assert budget.used == 0
