"""Events of any sizes are walked through the walker's windows, to their number and no further."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.errors import BadData
from wendelin_stream.sources.forward import events as events_module
from wendelin_stream.sources.forward.events import walk
from wendelin_stream.testing.forward import event

OPTION = b"\x81\xa5chunk\xa1x"


@given(
    sizes=st.lists(st.integers(0, 400), max_size=40),
    window=st.integers(1, 500),
    stretch=st.integers(1, 50),
)
def test_F10_the_walk_of_an_array_stops_behind_its_last_event(sizes: list[int], window: int, stretch: int) -> None:
    """Wherever a window or a stretch ends; behind the events comes the option, which is none of them."""
    data = [event({"d": bytes(size)}) for size in sizes]
    ends = [sum(map(len, data[:k])) for k in range(len(data) + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "_WINDOW", window)
        patch.setattr(events_module, "STRETCH", stretch)
        stretches = [bounds.tolist() for bounds in walk(memoryview(b"".join(data) + OPTION), len(data))]
        whole = [bounds.tolist() for bounds in walk(memoryview(b"".join(data)))]
        with pytest.raises(BadData, match="ends inside the event"):
            list(walk(memoryview(b"".join(data)), len(data) + 1))
    for found in (stretches, whole):
        assert [0, *(end for bounds in found for end in bounds[1:])] == ends
        assert all(len(bounds) <= stretch + 1 for bounds in found)


def test_a_large_array_of_events_of_different_sizes() -> None:
    """A megabyte, in windows of the real size."""
    data = [event({"d": bytes(1000 + number % 7)}) for number in range(1000)]
    found = list(walk(memoryview(b"".join(data) + OPTION), 1000))
    assert sum(len(bounds) - 1 for bounds in found) == 1000
    assert found[-1][-1] == sum(map(len, data))
