"""Several processes at one stream: readers while it grows, a second writer, and a writer that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.store.store_kit import SMALL, VIBRATION, number, rows, samples
from wendelin_stream.errors import Locked
from wendelin_stream.store import Chunk, Flag, Store, StreamReader

ROOT = Path(__file__).parents[2]


def python(code, *args, **kwargs):
    """A Python process that knows this checkout."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], env=env, text=True, **kwargs)


FOLLOW = """
import sys, time
import numpy as np
from pathlib import Path
from tests.store.store_kit import samples
from wendelin_stream.store import Flag, StreamReader
seen, looks, deadline = 0, 0, time.monotonic() + 40
with StreamReader.open(Path(sys.argv[1]), "a") as reader:
    print("ready", flush=True)
    while seen < int(sys.argv[2]) and time.monotonic() < deadline:
        reader.refresh()
        looks += 1
        if reader.rows == seen:
            time.sleep(0.0002)
            continue
        new = reader.array[seen:]
        np.testing.assert_array_equal(new, samples(seen, len(new)))
        assert new.tobytes() == reader.read(seen * 8, len(new) * 8)
        last = reader.index(reader.records - 1)
        assert not int(last["flags"][0]) & Flag.MORE, "half a chunk"
        assert int(last["offset"][0]) + int(last["length"][0]) == reader.end
        seen = reader.rows
    np.testing.assert_array_equal(reader.array, samples(0, seen))
print(seen, looks, flush=True)
"""


def test_S21_readers_in_other_processes_see_whole_chunks_and_each_byte_right(store_path):
    """Two followers check every row while chunks of several parts are appended over many segments."""
    total = 200_000
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "rows", VIBRATION)
        followers = [python(FOLLOW, store_path, total, stdout=subprocess.PIPE) for _ in range(2)]
        for follower in followers:
            assert follower.stdout.readline() == "ready\n"
        first, ticket = 0, None
        sizes = np.random.default_rng(7).integers(1, 400, 10_000)
        for size in sizes.tolist():
            a, b = min(size, total - first), min(2 * size, max(0, total - first - size))
            ticket = writer.append(Chunk([rows(first, a), rows(first + a, b)]))
            first += a + b
            if first % 16 == 0:
                ticket.wait(10)
            if first == total:
                break
        ticket.wait(10)
        for follower in followers:
            out, _ = follower.communicate(timeout=45)
            seen, looks = map(int, out.split())
            assert follower.returncode == 0
            assert seen == total
            assert looks > 5


HOLD = """
import sys
from pathlib import Path
from wendelin_stream.store import Store
with Store(Path(sys.argv[1])) as store:
    store.writer("a", "bytes")
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_S6_a_second_process_is_locked_out_and_told_by_whom(store_path):
    """The message names the process; when that one ends, the stream is free."""
    holder = python(HOLD, store_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == "holding\n"
    with Store(store_path, SMALL) as store:
        with pytest.raises(
            Locked, match=f"stream a is being written by process {holder.pid} on host {os.uname().nodename}"
        ):
            store.writer("a")
        holder.communicate(timeout=20)
        assert store.writer("a").end == 0


def test_S6_a_child_that_is_started_meanwhile_does_not_inherit_the_lock(store_path):
    """All descriptors are closed on exec, also where the child gets all that may be inherited."""
    with Store(store_path, SMALL) as store, store.writer("a", "bytes").reader():
        idle = "import sys; print('ready', flush=True); sys.stdin.read()"
        child = python(idle, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout.readline() == "ready\n"
        open_there = [str(path.readlink()) for path in Path(f"/proc/{child.pid}/fd").iterdir()]
    with Store(store_path, SMALL) as store:
        assert store.writer("a").end == 0
    assert child.poll() is None
    assert not any(str(store_path) in name for name in open_there)
    child.communicate(timeout=20)


WRITE = """
import os, sys, threading
from pathlib import Path
from tests.store.store_kit import SMALL, VIBRATION, number, rows
from wendelin_stream.errors import Locked
from wendelin_stream.store import Chunk, Store

store = Store(Path(sys.argv[1]), SMALL)
writer = store.writer("a", "rows", VIBRATION)
room = threading.Semaphore(64)

def told(ticket):
    assert ticket.error is None
    os.write(1, b"%d\\n" % ticket.chunk.position)
    room.release()

k = int(sys.argv[2])
while True:
    room.acquire()
    first = k * (k - 1) // 2 * 3
    parts = [rows(first + k * part, k, row=first + k * part) for part in range(3)]
    writer.append(Chunk(parts, number(k), producer=1, position=k), told)
    k += 1
"""


def test_kill_9_of_a_writer_loses_nothing_acknowledged_and_leaves_nothing_half(store_path):
    """Ten times: let it write, kill it anywhere, look at what it acknowledged through a pipe and at what is there.

    Chunk k has 3 k rows in three parts; chunks go on from where recovery says that the stream is.
    """
    at, rng = 1, np.random.default_rng(3)
    for _ in range(10):
        child = python(WRITE, store_path, at, stdout=subprocess.PIPE)
        acked = [int(child.stdout.readline()) for _ in range(int(rng.integers(1, 40)))]
        time.sleep(float(rng.uniform(0, 0.003)))  # so that it dies in any of its steps
        child.send_signal(signal.SIGKILL)
        acked += [int(line) for line in child.stdout.read().splitlines()]
        child.wait()
        child.stdout.close()
        assert acked == list(range(at, at + len(acked)))
        with Store(store_path, SMALL) as store:
            writer = store.writer("a")
            found = writer.position(1)
            assert found >= acked[-1]
            assert writer.append(Chunk([rows(0, 1)], number(acked[-1]))).wait(10).duplicate
            with writer.reader() as reader:
                assert reader.rows == found * (found + 1) // 2 * 3
                np.testing.assert_array_equal(reader.array, samples(0, reader.rows))
                assert not int(reader.index()[-1]["flags"]) & Flag.MORE
                assert reader.records == 3 * found
        at = found + 1
    with StreamReader.open(store_path, "a") as reader:
        assert len(set(reader.index()["writer_epoch"].tolist())) > 1
