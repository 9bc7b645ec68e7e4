"""The conformance kit is itself tested: an operator with one fault fails the test that is there for it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from wendelin_stream.batch import Batch, Signal
from wendelin_stream.operators.features import Features
from wendelin_stream.testing.operators import OperatorTests

SIGNAL = Signal(np.dtype("<f8"), ("x",), ("g",), Fraction(25_600))


class Good(Features):
    def __init__(self):
        super().__init__(Features.Config(window=100, hop=60, stats=["mean", "peak"]))


class FramesFromBatchBorders(Good):
    def on_batch(self, batch):
        self._buffer.clear()
        self._timeline.clear()
        self._start = 0
        return super().on_batch(batch)


class SumsDependOnTheBatch(Good):
    def on_batch(self, batch):
        for item in super().on_batch(batch):
            yield replace(item, rows=item.rows * (1 + len(batch) * 2.0**-52))


class TimesOfTheLatestBatch(Good):
    def on_batch(self, batch):
        return [replace(item, anchor=batch.time(0), index=0) for item in super().on_batch(batch)]


class PositionsOfTheLatestBatch(Good):
    def on_batch(self, batch):
        return [replace(item, position=batch.position) for item in super().on_batch(batch)]


class StrideOfTheInput(Good):
    def on_batch(self, batch):
        return [replace(item, stride=item.stride // 60) for item in super().on_batch(batch)]


class RemembersOverGaps(Good):
    def on_gap(self, gap):
        return [gap]


class SwallowsGaps(Good):
    def on_gap(self, gap):
        super().on_gap(gap)
        return []


class RepeatsGaps(Good):
    def on_gap(self, gap):
        return [*super().on_gap(gap), gap]


class ForgetsTimesInSnapshots(Good):
    def snapshot(self):
        return {**super().snapshot(), "origins": np.zeros((1, 4), np.int64)}


class KeepsObjectsInSnapshots(Good):
    def snapshot(self):
        return {**super().snapshot(), "more": np.array([None])}


class PendsNothing(Good):
    def pending(self):
        return None


class PendsTooMuch(Good):
    def pending(self):
        pending = super().pending()
        return pending if pending is None else max(10_000, pending - 180)


class WritesToTheInput(Good):
    def on_batch(self, batch):
        batch.rows[:] = 0
        return super().on_batch(batch)


class DeclaresAnotherDtype(Good):
    def output(self, signal):
        return replace(super().output(signal), dtype=np.dtype("<f4"))


class DeclaresAnotherRate(Good):
    def output(self, signal):
        return replace(super().output(signal), rate=Fraction(1))


FAULTS = {
    FramesFromBatchBorders: "any_cut_gives_the_same_output",
    SumsDependOnTheBatch: "one_row_at_a_time_gives_the_same_output",
    TimesOfTheLatestBatch: "one_row_at_a_time_gives_the_same_output",
    PositionsOfTheLatestBatch: "positions_lead_back_to_the_rows",
    StrideOfTheInput: "positions_lead_back_to_the_rows",
    RemembersOverGaps: "a_gap_forgets_and_is_handed_on_once",
    SwallowsGaps: "a_gap_forgets_and_is_handed_on_once",
    RepeatsGaps: "a_gap_forgets_and_is_handed_on_once",
    ForgetsTimesInSnapshots: "snapshot_restores_anywhere",
    KeepsObjectsInSnapshots: "snapshot_restores_anywhere",
    PendsNothing: "resumes_from_pending",
    PendsTooMuch: "resumes_from_pending",
    WritesToTheInput: "input_is_not_written_to",
    DeclaresAnotherDtype: "output_is_what_was_declared",
    DeclaresAnotherRate: "output_is_what_was_declared",
}


def kit(operator):
    class Kit(OperatorTests):
        signal = SIGNAL
        count = 700

        def make(self):
            return operator()

    return Kit()


@pytest.mark.parametrize("test", sorted(set(FAULTS.values())))
def test_a_good_operator_passes(test):
    """What the faults below are added to has none."""
    getattr(kit(Good), f"test_{test}")()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(fault):
    """Each fault fails the test that is named for it."""
    with pytest.raises((AssertionError, ValueError, ExceptionGroup)):
        getattr(kit(fault), f"test_{FAULTS[fault]}")()


def test_too_little_input_is_said():
    """A kit whose operator never gives a row would prove nothing."""
    quiet = kit(Good)
    quiet.count = 50
    with pytest.raises(AssertionError, match="raise `count`"):
        quiet.test_output_is_what_was_declared()


def test_a_batch_of_the_kit_is_read_only():
    """Rows in a pipeline are views of files."""
    batch = next(item for item in kit(Good)._input() if isinstance(item, Batch))
    assert not batch.rows.flags.writeable
