"""Acknowledgements leave in order, and a failure takes everything behind it along."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.errors import Retry
from wendelin_stream.runtime.acks import AckWindow, Delivery


def fill(window: AckWindow, count: int) -> list[Delivery]:
    return [window.add(seq, size=1) for seq in range(count)]


@given(st.permutations(range(8)))
def test_commits_grow_and_never_overtake_an_earlier_unit(order: list[int]) -> None:
    """Whatever finishes first, a commit names only units before which all is durable; in the end all are named."""
    window = AckWindow("peer")
    deliveries = fill(window, 8)
    finished: set[int] = set()
    last = -1
    for number in order:
        deliveries[number].waits = 0
        finished.add(number)
        committed, refused = window.release()
        assert refused is None
        if committed is not None:
            assert committed > last
            assert set(range(committed + 1)) <= finished
            last = committed
    assert last == 7
    assert len(window) == 0


@given(st.permutations(range(6)), st.sets(st.integers(0, 5), min_size=1))
def test_a_refusal_comes_once_for_all_behind_it_and_only_when_they_are_settled(order: list[int], bad: set[int]) -> None:
    """The sender starts again from the last commit; nothing of it may still be on its way to the disk then."""
    window = AckWindow("peer")
    deliveries = fill(window, 6)
    answers = []
    for number in order:
        deliveries[number].waits = 0
        if number in bad:
            deliveries[number].fail(Retry("no space"))
        answers.append(window.release())
    commits = [committed for committed, _ in answers if committed is not None]
    refusals = [refused for _, refused in answers if refused is not None]
    first = min(bad)
    assert [seq for seq, _ in refusals] == [first]
    assert answers[-1][1] is not None, "refused before the last one was settled"
    assert max(commits, default=-1) == first - 1
    assert len(window) == 0


def test_a_window_with_a_failure_is_broken_for_good() -> None:
    """What comes in behind a failure must not be stored, or the origin's order would be lost, also while the source is
    being told: the next unit after that gets a new window."""
    window = AckWindow("peer")
    one, two = fill(window, 2)
    one.fail(Retry("no space"))
    one.waits = 0
    assert window.broken
    assert window.release() == (None, None)
    two.waits = 0
    assert window.release()[1] is not None
    assert window.broken
