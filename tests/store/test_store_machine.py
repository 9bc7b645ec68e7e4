"""A stream against a list: appends, repeats, failures, crashes with a torn tail, in any order."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.store.store_kit import SMALL, Disk, crash, number, written
from wendelin_stream.errors import Retry
from wendelin_stream.store import Chunk, Part, Store
from wendelin_stream.store.format import RECORD_BYTES

sizes = st.lists(st.lists(st.sampled_from([0, 1, 9, 100, 30_000]), max_size=2), min_size=1, max_size=3)
"""Bytes of each payload piece of each part of a chunk; three large ones reach into the next segment."""


class StreamMachine(RuleBasedStateMachine):
    """`acked` is what must be there; `pending` was handed over and may be there, as a prefix, chunk by chunk."""

    @initialize()
    def start(self):
        self.path = Path(tempfile.mkdtemp())
        self.acked, self.pending, self.ids = [], [], 0
        self.open()

    def open(self):
        self.disk = Disk()
        self.store = Store(self.path, SMALL, fs=self.disk)
        self.writer = self.store.writer("a", "bytes")
        self.view = self.writer.reader()

    def chunk(self, parts):
        self.ids += 1
        fill = bytes([self.ids % 256])
        data = [Part([fill * size for size in part]) for part in parts]
        return Chunk(data, number(self.ids), producer=1, position=self.ids)

    @precondition(lambda self: not self.pending)
    @rule(parts=sizes)
    def append(self, parts):
        chunk = self.chunk(parts)
        ticket = self.writer.append(chunk).wait(10)
        self.acked.append(chunk)
        assert not ticket.duplicate
        assert ticket.end == len(content(self.acked))

    @rule(parts=sizes)
    def append_without_sync(self, parts):
        """It reaches the files, but neither the platter nor a reader."""
        self.disk.syncs.clear()
        chunk = self.chunk(parts)
        before = self.disk.writes
        self.writer.append(chunk)
        written(self.disk, before + writes(parts))
        self.pending.append(chunk)

    @precondition(lambda self: self.pending)
    @rule()
    def sync(self):
        self.disk.syncs.set()
        self.writer.append(self.pending[-1]).wait(10)
        self.acked, self.pending = self.acked + self.pending, []

    @precondition(lambda self: self.acked)
    @rule(data=st.data())
    def send_again(self, data):
        """What was acknowledged is acknowledged again, whatever is pending, and stored once."""
        chunk = data.draw(st.sampled_from(self.acked))
        assert self.writer.append(chunk).wait(10).duplicate

    @precondition(lambda self: not self.pending)
    @rule(parts=sizes, nth=st.integers(1, 3), code=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def fail(self, parts, nth, code):
        """A write fails somewhere: nothing is visible, and the next append takes the same place."""
        chunk, start = self.chunk(parts), self.disk.calls["pwritev"]
        failing = start + min(nth, writes(parts))
        self.disk.fail = lambda op, call: code if op == "pwritev" and call == failing else None
        try:
            self.writer.append(chunk).wait(10)
        except Retry:
            self.disk.fail = lambda op, call: None
            assert not self.writer.known(chunk.chunk_id)
            assert not self.writer.append(chunk).wait(10).duplicate
        self.disk.fail = lambda op, call: None
        self.acked.append(chunk)

    @precondition(lambda self: not self.pending)
    @rule()
    def reopen(self):
        self.view.close()
        self.store.close()
        self.open()

    @rule(data=st.data())
    def crash(self, data):
        """Kill it, tear what was not synced, start again: the acknowledged and a prefix of the rest are there."""
        self.view.close()
        crash(self.store, self.disk)
        self.tear(data)
        self.open()
        maybe = [self.acked + self.pending[:n] for n in range(len(self.pending) + 1)]
        found = [chunks for chunks in maybe if records(chunks) == self.view.records]
        assert found, "neither all that was acknowledged, nor with it some of the rest, each whole"
        self.acked, self.pending = found[0], []

    def tear(self, data):
        """Lose bytes of the unsynced tail: zeros or rubbish in the index or in the payload."""
        where = data.draw(st.sampled_from(["nothing", "index", "data"]))
        first, count, unit = {
            "nothing": (0, 0, 1),
            "index": (records(self.acked), records(self.pending), RECORD_BYTES),
            "data": (len(content(self.acked)), len(content(self.pending)), 1),
        }[where]
        if count == 0:
            return
        low = first * unit + data.draw(st.integers(0, count * unit - 1))
        high = data.draw(st.integers(low, (first + count) * unit))
        fill = data.draw(st.sampled_from([b"\0", b"\xff", b"W"]))
        folder, size = self.path / "streams/a" / where, 65_536 if where == "data" else 2**23
        for path in folder.iterdir():
            base = int(path.stem) * unit
            lo, hi = max(low, base) - base, min(high, base + size) - base
            if lo < hi:
                with open(path, "r+b") as file:
                    file.seek(lo)
                    file.write(fill * (hi - lo))

    @invariant()
    def readers_see_exactly_the_acknowledged(self):
        self.view.refresh()
        want = content(self.acked)
        assert self.view.read(0, 10**9) == want
        assert self.view.array.tobytes() == want
        assert self.view.records == self.writer.records == records(self.acked)
        assert self.writer.end == len(want)
        if self.acked:
            assert self.writer.position(1) == self.acked[-1].position

    def teardown(self):
        if hasattr(self, "store"):
            self.view.close()
            crash(self.store, self.disk)
            shutil.rmtree(self.path)


def content(chunks):
    return b"".join(bytes(piece) for chunk in chunks for part in chunk.parts for piece in part.data)


def records(chunks):
    return sum(len(chunk.parts) for chunk in chunks)


def writes(parts):
    """At least that many writes for one chunk: payload, if there is any, and index."""
    return 2 if any(map(any, parts)) else 1


TestStream = StreamMachine.TestCase
TestStream.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
