"""The daemon as a process: its lock on the store, its event loop, its turns."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from wendelin_stream.config import Config
from wendelin_stream.errors import ConfigError
from wendelin_stream.runtime.daemon import Daemon
from wendelin_stream.runtime.logs import set_up_logging
from wendelin_stream.store import FileSystem, take_lock


def run(load: Callable[[], Config]) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP loads again. Returns the exit code.

    Raises ConfigError (and ConfigErrors), Locked or Corrupt if it cannot start.
    """
    set_up_logging()
    config = load()
    quick_turns()
    many_files()
    with one_daemon(config.store.path), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Daemon(config, load).run())
    return 0


def quick_turns() -> None:
    """Let the event loop's thread have its turn within some ms, whatever the other threads compute.

    They hand the interpreter over after 1 ms instead of 5, and the collector of cyclic garbage passes over all that
    was loaded so far: to look through it takes 50 ms, in which no thread runs.
    """
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()


def many_files() -> None:
    """Take as many descriptors as the system grants: a stream holds up to four, a sender one, and shells grant 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def one_daemon(store: Path) -> Iterator[None]:
    """Hold the store's daemon lock. Raises Locked if a daemon runs on it, ConfigError if the folder cannot be made."""
    files = FileSystem()
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = take_lock(files, store / "daemon.lock", f"the store {store}")
    except OSError as error:
        raise ConfigError(f"cannot use {store}: {error.strerror}", where="store.path") from error
    try:
        yield
    finally:
        files.close(lock)
