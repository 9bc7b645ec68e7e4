"""For every test: hypothesis profiles, a check that nothing leaks, and the fixtures that all rooms use.

A test that leaves a descriptor, thread, child process or asyncio task behind fails and says what it left. One that
must, says why: ``@pytest.mark.leaks("the library keeps a pool of its own")``.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

CI = bool(os.environ.get("CI"))

settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci" if CI else "dev")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaks(reason): skip the leak check, because of `reason`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Asynchronous tests get `no_task_left` right behind `nothing_leaks`, so that other fixtures end before it."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(inspect.unwrap(item.function)):
            item.fixturenames.insert(item.fixturenames.index("nothing_leaks") + 1, "no_task_left")


# --- leaks -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What this process holds just now."""

    descriptors: Counter[str]
    threads: frozenset[threading.Thread]
    children: frozenset[str]

    @classmethod
    def now(cls) -> Held:
        return cls(Counter(_descriptors()), frozenset(threading.enumerate()), frozenset(_children()))

    def more_than(self, before: Held) -> list[str]:
        """One line for each thing that is held now and was not `before`."""
        threads = [f"thread {thread.name}" for thread in self.threads - before.threads]
        children = [f"child process {_command(pid)}" for pid in self.children - before.children]
        return (
            [f"descriptor {name}" for name in (self.descriptors - before.descriptors).elements()] + threads + children
        )


def _descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208  (twice in every test: Path costs three times as much)
        try:
            yield os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        except FileNotFoundError:  # the one that listed the folder
            continue


def _children() -> Iterator[str]:
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                yield from file.read().split()
        except FileNotFoundError:  # a thread that has just ended
            continue


def _command(pid: str) -> str:
    try:
        return f"{pid}: {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')}"
    except OSError:
        return pid


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that leaves descriptors, threads or child processes; set up first, torn down last."""
    marker = request.node.get_closest_marker("leaks")
    if marker is not None:
        assert any(marker.args), "@pytest.mark.leaks needs a reason"
        yield
        return
    before = Held.now()
    yield
    if not Held.now().more_than(before):
        return
    gc.collect()  # what hangs on a reference cycle is garbage, not a leak; sockets among it warn by themselves
    for thread in Held.now().threads - before.threads:
        thread.join(timeout=1)  # it may be on its way out
    leaked = Held.now().more_than(before)
    if leaked:
        pytest.fail("the test left behind:\n  " + "\n  ".join(sorted(leaked)), pytrace=False)


@pytest.fixture
async def no_task_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fails the asynchronous test whose tasks run on after all its other fixtures are gone."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left and request.node.get_closest_marker("leaks") is None:
        names = "\n  ".join(sorted(f"task {task.get_name()}: {task.get_coro()}" for task in left))
        pytest.fail("the test left behind:\n  " + names, pytrace=False)


# --- fixtures --------------------------------------------------------------------------------------


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a test's store goes: an absolute path that does not exist yet."""
    return tmp_path / "store"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Call it for a TCP port on 127.0.0.1 that nobody listens on."""

    def port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return port


@pytest.fixture
def need() -> Callable[[str], str]:
    """``need("node")`` is the path of a program that the test runs for real.

    Without it the test fails in CI and is skipped elsewhere, with what to do.
    """

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            (pytest.fail if CI else pytest.skip)(f"{program} is not installed: `make install-tests` does it")
        return path

    return find
