"""Every registered operator passes the conformance kit, in more than one setting where that matters."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wendelin_stream.batch import Signal
from wendelin_stream.operators.features import Features
from wendelin_stream.operators.predict import Predict
from wendelin_stream.operators.welch import Welch
from wendelin_stream.plugin import Operator, OperatorContext, load, plugins
from wendelin_stream.testing.operators import OperatorTests

ONE = Signal(np.dtype("<f4"), ("x",), ("m/s2",), Fraction(25_600))
THREE = Signal(np.dtype("<i2"), ("x", "y", "z"), ("g", "g", "g"), Fraction(5_000_559, 1000))


class TestWelchConforms(OperatorTests):
    signal = ONE

    def make(self) -> Operator:
        return Welch(Welch.Config(nperseg=64, average=4))


class TestWelchOfManyChannelsConforms(OperatorTests):
    """An odd rate, whose rows never fall on whole nanoseconds, integers, overlap of three quarters."""

    signal = THREE

    def make(self) -> Operator:
        return Welch(Welch.Config(fmax="1500 Hz", lines=30, overlap="75 %", average=3, detrend="linear"))


class TestWelchMedianInSinglePrecisionConforms(OperatorTests):
    signal = ONE

    def make(self) -> Operator:
        return Welch(
            Welch.Config(nperseg=33, overlap=0, average=5, averaging="median", precision="single", dtype="<f4")
        )


class TestWelchInBlocksConforms(OperatorTests):
    """Blocks of two segments, so that a spectrum of five is put together from three blocks."""

    signal = THREE

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        monkeypatch.setattr("wendelin_stream.operators.welch.BLOCK", 128)

    def make(self) -> Operator:
        return Welch(Welch.Config(nperseg=64, average=5))


class TestFeaturesConform(OperatorTests):
    signal = THREE

    def make(self) -> Operator:
        return Features(Features.Config(window="50 ms"))


class TestOverlappingFeaturesConform(OperatorTests):
    signal = ONE

    def make(self) -> Operator:
        return Features(Features.Config(window=100, hop=33))


class TestPredictConforms(OperatorTests):
    """PCA's matrix products are the ones that differ in the last bits between calls of other sizes; seven rows a call
    are those where also the place in the call matters."""

    signal = THREE
    count = 300
    fitted = make_pipeline(StandardScaler(), PCA(2)).fit(np.random.default_rng(1).normal(0, 100, (500, 3)))

    def make(self) -> Operator:
        model = SimpleNamespace(name="m", digest="d", estimator=self.fitted)
        return Predict(Predict.Config(model="m", max_rows=7), OperatorContext(lambda name: model))


class TestPredictWithForestConforms(TestPredictConforms):
    count = 30
    fitted = IsolationForest(n_estimators=10, random_state=1).fit(np.random.default_rng(1).normal(0, 100, (500, 3)))


def test_every_registered_operator_is_here():
    """A new operator cannot be forgotten: each entry point is what some kit of this file makes."""
    kits = [kit for kit in globals().values() if isinstance(kit, type) and issubclass(kit, OperatorTests)]
    tested = {type(kit().make()) for kit in kits if kit is not OperatorTests}
    assert tested == {load("operators", name) for name in plugins("operators")}
