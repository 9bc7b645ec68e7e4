"""Whatever happens to files, process and disk, in whatever order: every byte once."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c")

steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.integers(1, 6000)),
    st.tuples(st.just("rotate"), st.sampled_from(NAMES)),
    st.tuples(st.just("crank"), st.floats(0.1, 3.0)),
    st.tuples(st.just("store"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("refuse")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("lose positions")),
    st.tuples(st.just("header"), st.sampled_from(NAMES)),
)


class History:
    """Files with contents that tell every byte from its neighbours, and what a run of steps does to them."""

    def __init__(self, world):
        self.world = world
        self.written = {}  # path -> content
        self.count = 0

    def write(self, name, size):
        data = b"".join((self.count + k).to_bytes(4, "big") for k in range(size // 4 + 1))[:size]
        self.count += size
        self.world.write(name, data)
        self.written[name] = self.written.get(name, b"") + data

    def rotate(self, name):
        if name in self.written:
            target = f"{name}.{len(self.written)}"
            (self.world.files / name).rename(self.world.files / target)
            self.written[target] = self.written.pop(name)

    def header(self, name):
        """A recorder goes back and writes lengths at byte 4; what we have read of it stays as it was."""
        if name in self.written and self.world.options.mode == "bytes":
            with (self.world.files / name).open("r+b") as file:
                file.seek(4)
                file.write(self.written[name][4:8])

    def do(self, step):
        what, *how = step
        if what == "lose positions":
            (self.world.state / "positions.json").write_bytes(b'{"files": {"12')
            self.world.crash()
        elif what in ("write", "rotate", "header"):
            getattr(self, what)(*how)
        else:
            getattr(self.world, what)(*how)


def run(new_world, script, **options):
    with tempfile.TemporaryDirectory() as folder:
        world = new_world(Path(folder), block=1024, **options)
        try:
            history = History(world)
            for step in script:
                history.do(step)
            world.crank(0.1)  # a refusal is heard, and its delay begins
            world.crank(10.0)
            world.settle()
            assert sorted(world.contents) == sorted(
                content[: len(content) // world.row * world.row] for content in history.written.values()
            )
        finally:
            world.close()


@settings(max_examples=200)
@given(script=st.lists(steps, max_size=25), row=st.sampled_from([1, 6, 1000]))
def test_any_appends_restarts_and_commits_neither_lose_nor_repeat_a_byte(new_world, script, row):
    """The store says where it ends, so a crash between append and answer, or a lost position file, changes nothing."""
    run(new_world, script, row=row)


@given(script=st.lists(steps.filter(lambda step: step[0] != "lose positions"), max_size=25))
def test_the_position_file_alone_neither_loses_nor_repeats_what_was_answered(new_world, script):
    """The store knows no position (all went to the dead letter): answers that arrived and a clean stop are enough."""
    script = [("restart",) if step[0] == "crash" else step for step in script]
    script = [(*step[:2], True) if step[0] == "store" else step for step in script]
    run(new_world, script, position_known=False)


@pytest.mark.parametrize("row", [1, 6])
def test_a_restart_at_every_commit_point(new_world, row):
    """Kill -9 after each single append, before and after its answer."""
    for stored in range(8):
        for answer in (True, False):
            script = [("write", "a", 5000), ("write", "b", 2500), ("crank", 1.0), ("store", stored, answer), ("crash",)]
            run(new_world, [*script, ("write", "a", 10)], row=row)
