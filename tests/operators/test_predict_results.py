"""`predict` gives what the estimator gives offline, whatever came together in one call, and says what does not fit."""

import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_info

from wendelin_stream.batch import Axis, Batch, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.models import load_model, save_model
from wendelin_stream.operators.predict import Predict
from wendelin_stream.plugin import OperatorContext, Paced

rng = np.random.default_rng(11)
X = rng.normal(size=(400, 5))
NAMED = np.where(X[:, 0] > 0, "worn", "good")
NUMBERED = (X[:, 0] > 0).astype(int)
TARGET = X @ np.arange(5.0)

SIGNAL = Signal(np.dtype("<f8"), tuple("abcde"), rate=Fraction(1, 2), attrs={"site": "north"})


@dataclass
class Loaded:
    estimator: Any
    name: str = "gearbox"
    digest: str = "0123abcd"


def start(estimator, signal=SIGNAL, **options):
    model = Loaded(estimator)
    operator = Predict(Predict.Config(model="gearbox", **options), OperatorContext(lambda name: model))
    return operator, operator.output(signal)


def run(estimator, rows=X, signal=SIGNAL, **options):
    operator, declared = start(estimator, signal, **options)
    (batch,) = operator.on_batch(Batch(signal, rows, 5, 6, 7, 1))
    assert (batch.anchor, batch.index, batch.position, batch.stride) == (5, 6, 7, 1)
    return batch.rows, declared


AUTO = {
    "classifier": (LogisticRegression().fit(X, NAMED), "predict_proba", ("good", "worn")),
    "classifier without probabilities": (RidgeClassifier().fit(X, NAMED), "decision_function", ("score",)),
    "forest": (IsolationForest(n_estimators=20, random_state=0).fit(X), "novelty", ("score",)),
    "density": (GaussianMixture(2, random_state=0).fit(X), "novelty", ("score",)),
    "scaled density": (make_pipeline(StandardScaler(), PCA(2)).fit(X), "novelty", ("score",)),
    "outliers": (LocalOutlierFactor(novelty=True).fit(X), "novelty", ("score",)),
    "regressor": (LinearRegression().fit(X, TARGET), "predict", ("prediction",)),
    "many outputs": (LinearRegression().fit(X, X[:, :2]), "predict", ("prediction0", "prediction1")),
    "clusters": (KMeans(2, n_init=1, random_state=0).fit(X), "predict", ("prediction",)),
    "scaler": (StandardScaler().fit(X), "transform", ("x0", "x1", "x2", "x3", "x4")),
}


@pytest.mark.parametrize("kind", AUTO)
@pytest.mark.parametrize("max_rows", [64, 7])
def test_equals_the_estimator_offline(kind, max_rows):
    """The same rows through the estimator by hand: equal to 1e-12 without padding, identical with the same padding."""
    estimator, method, channels = AUTO[kind]
    call = (lambda rows: -estimator.score_samples(rows)) if method == "novelty" else getattr(estimator, method)
    found, declared = run(estimator, max_rows=max_rows)
    assert declared.channels == channels
    assert declared.attrs["model"]["method"] == method
    np.testing.assert_allclose(found, call(X).reshape(len(X), -1), rtol=1e-12, atol=1e-12)
    for k in (0, 1, 50, 399):
        block = np.zeros((max_rows, 5))
        place = (7 + k) % max_rows
        block[place] = X[k]
        np.testing.assert_array_equal(found[k], np.ravel(call(block)[place]))


def test_a_rows_place_in_the_call_is_its_number_in_the_stream():
    """Matrix products differ in the last bits with the place of a row, for 7 rows a call: that is why the place must
    not depend on where the input was cut. (If this fails, BLAS has become better, and the reason has gone.)"""
    weights, row = rng.normal(size=(333, 2)), rng.normal(size=333)
    results = set()
    for place in range(7):
        block = np.zeros((7, 333))
        block[place] = row
        results.add((block @ weights)[place].tobytes())
    assert len(results) > 1


def test_novelty_rises_with_abnormality():
    """Further off is higher, for every model that knows novelty."""
    far = np.vstack([np.zeros(5), np.full(5, 3.0), np.full(5, 9.0)])
    for kind in ("forest", "density", "scaled density", "outliers"):
        scores = run(AUTO[kind][0], far)[0][:, 0]
        assert scores[0] < scores[2], kind


def test_output_names_the_model():
    """Rate as the input's, and in the attributes: name, digest and method, beside what was there already."""
    _, declared = run(AUTO["forest"][0])
    assert declared.rate == SIGNAL.rate
    assert declared.attrs == {
        "site": "north",
        "model": {"name": "gearbox", "sha256": "0123abcd", "method": "novelty"},
    }


@pytest.mark.parametrize("method", ["predict", "decision_function", "transform", "novelty"])
def test_a_method_can_be_asked_for(method):
    """`auto` is only a default."""
    estimator = {"predict": AUTO["forest"][0], "decision_function": AUTO["forest"][0]}.get(
        method, AUTO["scaled density"][0]
    )
    found, _ = run(estimator, method=method)
    expected = -estimator.score_samples(X) if method == "novelty" else getattr(estimator, method)(X)
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=1e-12, atol=1e-12)


def test_rows_with_nan_give_nan_and_harm_nobody():
    """A feature of a dead channel is NaN: the model is not asked, and the rows beside it are as ever."""
    rows = X[:10].copy()
    rows[3, 2] = np.nan
    rows[6, 0] = np.inf
    found, _ = run(AUTO["density"][0], rows)
    clean, _ = run(AUTO["density"][0], X[:10])
    assert np.isnan(found[[3, 6]]).all()
    keep = [k for k in range(10) if k not in (3, 6)]
    np.testing.assert_array_equal(found[keep], clean[keep])


def test_a_model_that_takes_nan_gets_it():
    """Its tag `allow_nan` says so; infinities are kept from it all the same."""
    estimator = HistGradientBoostingClassifier(max_iter=3).fit(X, NUMBERED)
    rows = X[:4].copy()
    rows[1, 1], rows[2, 1] = np.nan, np.inf
    found, _ = run(estimator, rows)
    np.testing.assert_array_equal(found[:2], estimator.predict_proba(rows[:2]))
    assert np.isnan(found[2]).all()


def test_one_thread():
    """BLAS and OpenMP run in one thread: threads split matrix products, and so change last bits."""
    run(AUTO["density"][0])
    assert {library["num_threads"] for library in threadpool_info()} == {1}


def test_it_is_paced():
    """The runtime learns how long rows may wait, and how many make waiting useless."""
    operator, _ = start(AUTO["forest"][0], max_rows=32, max_wait="50 ms")
    assert isinstance(operator, Paced)
    assert (operator.max_rows, operator.max_wait) == (32, Fraction(1, 20))


def test_named_features_are_compared_with_the_channels():
    """A model that knows its features' names is not fed others in their place; matching ones raise no warning."""
    estimator = StandardScaler().fit(X)
    estimator.feature_names_in_ = np.array(list("abcde"), dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(estimator)
    estimator.feature_names_in_ = np.array(list("abxde"), dtype=object)
    with pytest.raises(ConfigError, match=r"trained on 'x' where this stream has 'c' \(channel 3 of 5\)"):
        start(estimator)


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (StandardScaler().fit(X[:, :3]), {}, "trained on 3 features, this stream has 5 channels"),
        (AUTO["classifier"][0], {"method": "predict"}, r"no numbers: good, worn \(use predict_proba"),
        (AUTO["regressor"][0], {"method": "predict_proba"}, "a LinearRegression, has no predict_proba"),
        (AUTO["scaler"][0], {"method": "novelty"}, "a StandardScaler, has no score_samples"),
        (LocalOutlierFactor().fit(X), {}, "a LocalOutlierFactor, cannot judge new rows"),
        (StandardScaler(), {}, "gives no rows of numbers: This StandardScaler instance is not fitted"),
        (OneHotEncoder(handle_unknown="ignore").fit(X), {}, "transform of model 'gearbox' gives no rows of numbers"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(estimator, options, message):
    """Found when the pipeline is checked, before anything runs; the message has both sides."""
    with pytest.raises(ConfigError, match=message):
        start(estimator, **options)


@pytest.mark.parametrize(
    "given",
    [
        Signal(np.dtype([("time", "<M8[ns]"), ("x", "<f8")]), ("x",)),
        Signal(np.dtype("<f8"), tuple("abcde"), rate=1, axes=(Axis("frequency", "Hz", 5, 0, 1),)),
    ],
)
def test_other_rows_are_refused(given):
    """Waveforms and spectra go through `features` first."""
    with pytest.raises(ConfigError, match="put `features` before `predict`"):
        start(AUTO["scaler"][0], given)


def test_an_undeclared_model_is_named():
    """Without a registry, as in a unit test, no model is declared."""
    with pytest.raises(ConfigError, match=r"model 'gear' is not declared \(add it under models:\)"):
        Predict(Predict.Config(model="gear"))


def test_a_model_from_a_file(tmp_path):
    """From the file to the score: what was saved gives the same numbers online."""
    path = tmp_path / "forest.skops"
    estimator = AUTO["forest"][0]
    model = load_model("forest", path, save_model(estimator, path))
    operator = Predict(Predict.Config(model="forest"), OperatorContext(lambda name: model))
    operator.output(SIGNAL)
    (batch,) = operator.on_batch(Batch(SIGNAL, X))
    np.testing.assert_array_equal(batch.rows[:, 0], -estimator.score_samples(X))
