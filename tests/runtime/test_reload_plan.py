"""A reload touches what changed and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.runtime.reload import changes

sections = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


@given(sections, sections)
def test_stop_and_start_lead_from_the_old_to_the_new(old: dict[str, int], new: dict[str, int]) -> None:
    """Applying the changes to what runs gives what should run; what is equal on both sides is never touched."""
    plan = changes(old, new)
    running = {name: spec for name, spec in old.items() if name not in plan.stop}
    assert not running.keys() & plan.start
    running |= {name: new[name] for name in plan.start}
    assert running == new
    same = {name for name in old if new.get(name) == old[name]}
    assert not same & (plan.stop | plan.start)
