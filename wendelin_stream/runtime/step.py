"""One step of a pipeline: rows of a stream through operators to the chunk that is appended. Runs in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from wendelin_stream.batch import Batch, Gap, Item, Signal
from wendelin_stream.plugin import Bounded, Operator, Paced
from wendelin_stream.runtime.routing import rows_part
from wendelin_stream.runtime.snapshots import Snapshots
from wendelin_stream.store import Chunk, Flag, Part, StreamReader

STEP_BYTES = 8 << 20
"""Input that one step takes at most: bounds memory, and the work that a crash repeats. Output ends it too, if there is
so much of it at the end of an input record."""

STEP_RECORDS = 4096
"""Input records that one step takes at most: bounds the time that it takes where records are small."""

SNAPSHOT_EVERY = 1.0
"""Seconds between two steps where each needs a snapshot."""


def run_chain(operators: Sequence[Operator], items: Iterable[Item]) -> Iterator[Item]:
    """Drive items through all operators, in order."""
    for operator in operators:
        items = _through(operator, items)
    return iter(items)


def _through(operator: Operator, items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        yield from operator.on_gap(item) if isinstance(item, Gap) else operator.on_batch(item)


def bounded(operators: Sequence[Operator]) -> bool:
    """Whether all of them can be brought back by feeding them their latest input again."""
    return all(isinstance(operator, Bounded) for operator in operators)


def resume_row(operators: Sequence[Operator], consumed: int) -> int:
    """The input row from which fresh operators, fed again up to `consumed`, yield nothing and stand as these do."""
    pending = [operator.pending() if isinstance(operator, Bounded) else None for operator in operators]
    return min([row for row in pending if row is not None], default=consumed)


def to_parts(items: Iterable[Item], after_gap: bool) -> tuple[list[Part], bool]:
    """Records of the output, and whether a gap waits for the next row to stand before.

    Rows that continue the record before them exactly (same anchor, next index) share it.
    """
    runs: list[tuple[Flag, list[Batch]]] = []
    joins = False
    for item in items:
        if isinstance(item, Gap):
            after_gap, joins = True, False
        elif joins and _continues(runs[-1][1][-1], item):
            runs[-1][1].append(item)
        else:
            runs.append((Flag.GAP if after_gap else Flag(0), [item]))
            after_gap, joins = False, True
    return [_record(batches, flag) for flag, batches in runs], after_gap


def _continues(last: Batch, item: Batch) -> bool:
    return item.signal.rate is not None and (item.anchor, item.index) == (last.anchor, last.index + len(last))


def _record(batches: Sequence[Batch], flag: Flag) -> Part:
    parts = [rows_part(batch, flag) for batch in batches]
    data = [piece for part in parts for piece in part.data]
    first, count = parts[0], sum(part.count for part in parts)
    return Part(data, count, first.t_first, parts[-1].t_last, first.row, flag)


def pacing_of(operators: Sequence[Operator]) -> tuple[float, int]:
    """How long to let rows gather before a step (s), and how many make waiting useless."""
    paced = [operator for operator in operators if isinstance(operator, Paced)]
    if not bounded(operators):
        return SNAPSHOT_EVERY, 1 << 62
    if not paced:
        return 0.0, 1
    return max(float(operator.max_wait) for operator in paced), max(operator.max_rows for operator in paced)


def step_rows(signal: Signal, pacing: tuple[float, int]) -> int:
    """Rows that one step takes at most: bounded in bytes, and in calls of an operator that works by the batch."""
    by_bytes = max(1, STEP_BYTES // signal.row_bytes)
    max_wait, max_rows = pacing
    return min(by_bytes, 16 * max_rows) if max_wait else by_bytes


class Abandoned(Exception):
    """The step is not needed any more."""


class Step:
    """Takes rows from the reader, from `row` on, and returns what to append. One call at a time, in a worker thread."""

    def __init__(self, reader: StreamReader, operators: Sequence[Operator], row: int, max_rows: int) -> None:
        self._reader = reader
        self._operators = operators
        self._after_gap, self._gap_row = False, row
        self._snapshots: Snapshots | None = None
        self._abandoned = False
        self._size = 0
        self.max_rows = max_rows
        self.row = row
        self.rows_in = 0
        self.rows_out = 0

    def run(self, producer: int) -> Chunk | None:
        """One step over at most `max_rows` rows; None if nothing came out. Raises Abandoned after `abandon`."""
        self._size = 0
        items = self._counted(run_chain(self._operators, self._take()))
        parts, self._after_gap = to_parts(items, self._after_gap)
        if not parts:
            return None
        self.rows_out += sum(part.count for part in parts)
        if self._snapshots is not None:
            self._snapshots.save(self.row, self._operators, self._after_gap)
            return Chunk(parts, producer=producer, position=self.row)
        resume = resume_row(self._operators, self.row)
        if self._after_gap:
            resume = min(resume, self._gap_row)  # the gap must be met again, or its flag would be lost
        return Chunk(parts, producer=producer, position=resume)

    def use(self, snapshots: Snapshots, resume: bool) -> None:
        """Checkpoint with snapshots, beginning with the one of the row to resume from. Raises Corrupt if it is gone."""
        self._snapshots = snapshots
        if resume:
            self._after_gap = snapshots.restore(self.row, self._operators)
        else:
            snapshots.clear()

    def abandon(self) -> None:
        """End the step that runs, as soon as an operator asks for the next item. From any thread."""
        self._abandoned = True

    def _take(self) -> Iterator[Item]:
        records = 0
        for item in self._reader.items(self.row, self.max_rows):
            if self._abandoned:
                raise Abandoned
            yield item
            if isinstance(item, Gap):
                self._gap_row = item.position
                continue
            self.row = item.position + len(item)
            self.rows_in += len(item)
            records += 1
            if records >= STEP_RECORDS or self._size >= STEP_BYTES:
                return

    def _counted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if isinstance(item, Batch):
                self._size += item.rows.nbytes
            yield item
