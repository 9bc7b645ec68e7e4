"""The conformance kit for operators.

Subclass `OperatorTests`, say how your operator is made and what it is fed, and pytest does the rest::

    class TestWelch(OperatorTests):
        signal = Signal(np.dtype("<f4"), ("x",), ("m/s2",), Fraction(25_600))

        def make(self) -> Operator:
            return Welch(Welch.Config(nperseg=256))

What it proves: any cut of the input into batches gives the same rows, times and positions, bit for bit; so does
a snapshot at any place, and for a `Bounded` operator a new one that is fed from `pending`; a gap forgets and is handed
on once; the input is not written to; the output is what was declared.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wendelin_stream.batch import NS, Batch, Gap, Item, Signal, ticks
from wendelin_stream.plugin import Bounded, Operator

START = 1_700_000_000_123_456_789
STRIDE = 3
POSITION = 10_000

Row = tuple[bytes, int, int, int]
"""The bytes of an output row, its time, the position it stems from, and the stride to the next."""

many_inputs = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
borders = st.lists(st.floats(0, 1, allow_nan=False), max_size=6).map(sorted)
"""Places in the input, as shares of its length."""


class OperatorTests:
    """Subclass it with a name that begins with ``Test``; see the module."""

    signal: ClassVar[Signal]
    """What the operator is fed; with a rate."""

    count: ClassVar[int] = 2000
    """Rows it is fed: enough for several rows of output, and for one after a quarter of them."""

    def make(self) -> Operator:
        """A new operator, always of the same options."""
        raise NotImplementedError

    def rows(self) -> NDArray[Any]:
        """The input, (count, *signal.shape): noise, always the same. Override for an operator that needs another."""
        noise = np.random.default_rng(20).normal(0.5, 100.0, (self.count, *self.signal.shape))
        return noise.astype(self.signal.dtype)

    # --- the tests --------------------------------------------------------------------------------

    def test_output_is_what_was_declared(self) -> None:
        """Every batch has the declared signal: dtype, shape of a row, channels, rate."""
        operator = self.make()
        declared = operator.output(self.signal)
        batches = [item for item in _feed(operator, self._input()) if isinstance(item, Batch)]
        assert batches, "the kit's input gives no output: raise `count`"
        for batch in batches:
            assert batch.signal == declared
            assert batch.rows.dtype == declared.dtype
            assert batch.rows.shape == (len(batch), *declared.shape)
            assert len(batch) >= 1

    @many_inputs
    @given(cuts=borders, records=borders, gap=st.floats(0, 1))
    def test_any_cut_gives_the_same_output(self, cuts: list[float], records: list[float], gap: float) -> None:
        """Rows, times and positions are equal bit for bit, whether the input comes in records or in pieces of them."""
        items = self._input(records, gap)
        assert _flat(self._run(_cut(items, cuts))) == _flat(self._run(items))

    def test_one_row_at_a_time_gives_the_same_output(self) -> None:
        """The finest cut of all, over records with a time base each, and a gap."""
        items = self._input([0.1, 0.35, 0.351, 0.7], gap=0.5)
        single = [piece for item in items for piece in _singles(item)]
        assert _flat(self._run(single)) == _flat(self._run(items))

    @many_inputs
    @given(at=st.floats(0, 1), records=borders, gap=st.floats(0, 1))
    def test_snapshot_restores_anywhere(self, at: float, records: list[float], gap: float) -> None:
        """An operator that is restored from a snapshot goes on as if nothing had happened. The snapshot survives
        a file of `np.savez` without pickle."""
        items = self._input(records, gap)
        before, after = _split(items, round(at * self.count))
        first, second = self._started(), self._started()
        head = list(_feed(first, before))
        second.restore(_through_a_file(first.snapshot()))
        assert _flat(head + list(_feed(second, after))) == _flat(self._run(items))

    @many_inputs
    @given(at=st.floats(0, 1), records=borders, gap=st.floats(0, 1))
    def test_resumes_from_pending(self, at: float, records: list[float], gap: float) -> None:
        """A new operator that is fed again from `pending` on yields nothing for what was seen, and then goes on as
        the old one would. Without `pending` it starts behind what was seen."""
        if not isinstance(self.make(), Bounded):
            pytest.skip("this operator's memory is no stretch of its input: it needs its snapshot")
        items = self._input(records, gap)
        before, after = _split(items, round(at * self.count))
        first, second = self._started(), self._started()
        head = list(_feed(first, before))
        assert isinstance(first, Bounded)
        pending = first.pending()
        again = [] if pending is None else _split(before, (pending - POSITION) // STRIDE)[1]
        assert [item for item in _feed(second, again) if isinstance(item, Batch)] == []
        assert _flat(head + list(_feed(second, after))) == _flat(self._run(items))

    @many_inputs
    @given(at=st.floats(0, 1), records=borders)
    def test_a_gap_forgets_and_is_handed_on_once(self, at: float, records: list[float]) -> None:
        """Behind a gap the output is that of an operator that never saw what was before."""
        items = self._input(records, gap=at)
        found = self._run(items)
        gaps = [item for item in items if isinstance(item, Gap)]
        assert [item for item in found if isinstance(item, Gap)] == gaps
        place = items.index(gaps[0])
        assert _flat(found[found.index(gaps[0]) + 1 :]) == _flat(self._run(items[place + 1 :]))

    def test_positions_lead_back_to_the_rows(self) -> None:
        """A new operator that is fed from the position of an output row on yields that row first."""
        items = self._input([0.3], gap=0.0)
        flat = [row for row in _flat(self._run(items)) if not isinstance(row, Gap)]
        for row in flat[:: max(1, len(flat) // 5)]:
            tail = _split(items, (row[2] - POSITION) // STRIDE)[1]
            assert next(found for found in _flat(self._run(tail)) if not isinstance(found, Gap)) == row

    def test_input_is_not_written_to(self) -> None:
        """The rows are a view of files: they are the same after as before. (In all tests they are read-only.)"""
        rows = self.rows()
        kept = rows.copy()
        operator = self._started()
        list(operator.on_batch(Batch(self.signal, rows)))
        np.testing.assert_array_equal(rows, kept)

    # --- helpers ----------------------------------------------------------------------------------

    def _started(self) -> Operator:
        operator = self.make()
        operator.output(self.signal)
        return operator

    def _run(self, items: Iterable[Item]) -> list[Item]:
        return list(_feed(self._started(), items))

    def _input(self, records: Sequence[float] = (), gap: float | None = None) -> list[Item]:
        """The rows in records at `records`, each with a time base that is some microseconds off the one before
        (clocks jitter), and a hole in time at `gap`."""
        rows, rate = self.rows(), self.signal.rate
        assert rate is not None
        rows.setflags(write=False)
        hole = None if gap is None else round(gap * self.count)
        places = sorted({0, self.count, *(round(r * self.count) for r in records), *([] if hole is None else [hole])})
        items: list[Item] = []
        late = 0
        for n, (start, stop) in enumerate(pairwise(places)):
            position = POSITION + start * STRIDE
            if start == hole:
                end = START + ticks(start, rate) + late
                late += 5 * NS
                items.append(Gap(end, end + 5 * NS, position))
            anchor = START + late + (n * 7919) % 5000 * 1000
            base = (anchor, start) if n % 2 == 0 else (anchor + ticks(start, rate), 0)
            items.append(Batch(self.signal, rows[start:stop], *base, position, STRIDE))
        if hole == self.count:
            end = START + ticks(self.count, rate) + late
            items.append(Gap(end, end + NS, POSITION + self.count * STRIDE))
        return items


def _feed(operator: Operator, items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        yield from operator.on_gap(item) if isinstance(item, Gap) else operator.on_batch(item)


def _flat(items: Iterable[Item]) -> list[Row | Gap]:
    """Row by row, so that it does not matter how the output is cut."""
    rows: list[Row | Gap] = []
    for item in items:
        if isinstance(item, Gap):
            rows.append(item)
        else:
            places = range(item.position, item.position + len(item) * item.stride, item.stride)
            rows += [(item.rows[k].tobytes(), item.time(k), place, item.stride) for k, place in enumerate(places)]
    return rows


def _singles(item: Item) -> list[Item]:
    return [item] if isinstance(item, Gap) else [item.cut(k, k + 1) for k in range(len(item))]


def _split(items: Iterable[Item], at: int) -> tuple[list[Item], list[Item]]:
    """What comes before input row `at`, and the rest; a gap belongs to the row behind it."""
    before: list[Item] = []
    after: list[Item] = []
    for item in items:
        start = (item.position - POSITION) // STRIDE
        rows = 0 if isinstance(item, Gap) else len(item)
        if start >= at:
            after.append(item)
        elif isinstance(item, Gap) or start + rows <= at:
            before.append(item)
        else:
            before.append(item.cut(0, at - start))
            after.append(item.cut(at - start))
    return before, after


def _cut(items: list[Item], shares: Iterable[float]) -> list[Item]:
    """The same input with further borders, as shares of all rows."""
    total = sum(len(item) for item in items if isinstance(item, Batch))
    pieces: list[Item] = []
    for share in shares:
        before, items = _split(items, round(share * total))
        pieces += before
    return pieces + items


def _through_a_file(state: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    file = io.BytesIO()
    np.savez(file, **state)  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)
