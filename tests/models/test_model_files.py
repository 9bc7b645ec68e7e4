"""Model files: loaded by digest, with trusted types only, equal to what was saved."""

import hashlib
import os
import pickle
import zipfile

import numpy as np
import pytest
import sklearn
import skops.io
from sklearn import (
    calibration,
    covariance,
    decomposition,
    ensemble,
    gaussian_process,
    linear_model,
    mixture,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import Pipeline, make_pipeline

from wendelin_stream.errors import ConfigError
from wendelin_stream.models import files, load_model, save_model

rng = np.random.default_rng(5)
X = rng.normal(size=(150, 4))
LABELS = np.where(X[:, 0] + X[:, 1] > 0, "faulty", "healthy")
NUMBERS = X @ np.arange(1.0, 5.0) + rng.normal(size=150)

FAMILIES = {
    "scaler": preprocessing.StandardScaler().fit(X),
    "pca": make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(2)).fit(X),
    "isolation forest": ensemble.IsolationForest(n_estimators=10, random_state=0).fit(X),
    "isolation forest, 2 jobs": ensemble.IsolationForest(n_estimators=10, random_state=0, n_jobs=2).fit(X),
    "local outlier factor": neighbors.LocalOutlierFactor(novelty=True).fit(X),
    "ball tree": neighbors.LocalOutlierFactor(novelty=True, algorithm="ball_tree", metric="manhattan").fit(X),
    "one-class svm": make_pipeline(preprocessing.RobustScaler(), svm.OneClassSVM()).fit(X),
    "sgd one-class svm": linear_model.SGDOneClassSVM(random_state=0).fit(X),
    "elliptic envelope": covariance.EllipticEnvelope(random_state=0).fit(X),
    "gaussian mixture": mixture.GaussianMixture(2, random_state=0).fit(X),
    "kernel density": neighbors.KernelDensity().fit(X),
    "logistic regression": linear_model.LogisticRegression().fit(X, LABELS),
    "linear regression": linear_model.LinearRegression().fit(X, NUMBERS),
    "ridge, selected": make_pipeline(SelectKBest(k=2), linear_model.RidgeClassifier()).fit(X, LABELS),
    "sgd": linear_model.SGDClassifier(loss="log_loss", random_state=0).fit(X, LABELS),
    "naive bayes": naive_bayes.GaussianNB().fit(X, LABELS),
    "svc": svm.SVC().fit(X, LABELS),
    "calibrated svc": calibration.CalibratedClassifierCV(svm.LinearSVC(random_state=0)).fit(X, LABELS),
    "nearest neighbours": neighbors.KNeighborsClassifier().fit(X, LABELS),
    "tree": tree.DecisionTreeClassifier(random_state=0).fit(X, LABELS),
    "random forest": ensemble.RandomForestClassifier(5, random_state=0, n_jobs=2).fit(X, LABELS),
    "extra trees": ensemble.ExtraTreesRegressor(5, random_state=0).fit(X, NUMBERS),
    "gradient boosting": ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0).fit(X, LABELS),
    "hist gradient boosting": ensemble.HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(X, NUMBERS),
    "mlp": neural_network.MLPRegressor(solver="sgd", max_iter=9, tol=1e9, n_iter_no_change=1).fit(X, NUMBERS / 99),
    "gaussian process": gaussian_process.GaussianProcessRegressor(
        gaussian_process.kernels.RBF() + gaussian_process.kernels.WhiteKernel(), optimizer=None
    ).fit(X, NUMBERS),
}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_estimators_comes_back_equal(family, tmp_path):
    """Saved and loaded, each kind of estimator that we name gives the very same numbers."""
    estimator, path = FAMILIES[family], tmp_path / "m.skops"
    model = load_model("m", path, save_model(estimator, path))
    methods = [m for m in ("predict", "predict_proba", "score_samples", "transform") if hasattr(estimator, m)]
    assert methods
    for method in methods:
        np.testing.assert_array_equal(getattr(model.estimator, method)(X), getattr(estimator, method)(X))


def test_the_digest_is_the_files(tmp_path):
    """What is checked is the sha256 of the bytes on disk; the name is the configured one; upper case is fine."""
    path = tmp_path / "m.skops"
    digest = save_model(FAMILIES["scaler"], path)
    model = load_model("gearbox", path, digest.upper())
    assert (model.name, model.digest) == ("gearbox", digest)


def test_another_file_is_refused_with_both_digests(tmp_path):
    """A file that was exchanged is never unpacked; the message has what the user needs to decide."""
    path = tmp_path / "m.skops"
    digest = save_model(FAMILIES["scaler"], path)
    with pytest.raises(ConfigError, match=rf"models\.m: .*m\.skops has sha256 {digest}, expected {'0' * 64}"):
        load_model("m", path, "0" * 64)


def test_types_outside_the_list_are_named(tmp_path):
    """skops can hold any class of any package; we load those of the list, and say which one is not in it."""
    path = tmp_path / "m.skops"
    data = skops.io.dumps(Pipeline([("own", OwnScaler())]))
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"not trusted: .*OwnScaler"):
        load_model("m", path, sha256(path))
    with pytest.raises(ConfigError, match=r"not trusted: .*OwnScaler"):
        save_model(OwnScaler(), path)


class OwnScaler(preprocessing.StandardScaler):
    pass


def test_pickle_is_no_model(tmp_path):
    """Nothing of a pickle is run, though its digest is right."""
    path = tmp_path / "m.pkl"
    data = pickle.dumps(Bomb(tmp_path / "exploded"))
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="no model that can be read"):
        load_model("m", path, sha256(path))
    assert not (tmp_path / "exploded").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_torn_file_is_no_model(tmp_path):
    """Cut anywhere, or a zip without a model, it is an error of the configuration and no crash."""
    path = tmp_path / "m.skops"
    save_model(FAMILIES["pca"], path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="no model"):
        load_model("m", path, sha256(path))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme", "hello")
    with pytest.raises(ConfigError, match="no model"):
        load_model("m", path, sha256(path))


def test_a_missing_file_is_named(tmp_path):
    """The user reads which model and which file."""
    with pytest.raises(ConfigError, match=r"models\.m: .*none\.skops cannot be read: No such file"):
        load_model("m", tmp_path / "none.skops", "0" * 64)


def test_size_is_bounded_packed_and_unpacked(tmp_path, monkeypatch):
    """Neither a huge file nor a small one that unpacks to much is taken into memory."""
    path = tmp_path / "m.skops"
    data = skops.io.dumps(preprocessing.StandardScaler().fit(np.zeros((2, 20_000))), compression=zipfile.ZIP_DEFLATED)
    path.write_bytes(data)
    digest = sha256(path)
    monkeypatch.setattr(files, "MAX_BYTES", len(data))
    with pytest.raises(ConfigError, match="unpacks to"):
        load_model("m", path, digest)
    monkeypatch.setattr(files, "MAX_BYTES", len(data) - 1)
    with pytest.raises(ConfigError, match="larger than"):
        load_model("m", path, digest)


def test_jobs_become_one(tmp_path):
    """Jobs that add up in the order in which they end would make the last bits depend on the scheduler."""
    path = tmp_path / "m.skops"
    pipeline = make_pipeline(preprocessing.StandardScaler(), ensemble.IsolationForest(n_estimators=3, n_jobs=2)).fit(X)
    model = load_model("m", path, save_model(pipeline, path))
    assert model.estimator.get_params()["isolationforest__n_jobs"] == 1


def test_another_version_is_a_line_in_the_log(tmp_path, caplog):
    """An estimator of another scikit-learn works as a rule: the daemon starts, and says so."""
    path = tmp_path / "m.skops"
    save_model(FAMILIES["scaler"], path)
    with zipfile.ZipFile(path) as file:
        parts = {part: file.read(part) for part in file.namelist()}
    parts["schema.json"] = parts["schema.json"].replace(sklearn.__version__.encode(), b"0.99.1")
    with zipfile.ZipFile(path, "w") as file:
        for part, data in parts.items():
            file.writestr(part, data)
    load_model("m", path, sha256(path))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].message.startswith(
        "model m: Trying to unpickle estimator StandardScaler from version 0.99.1"
    )


def test_a_model_is_replaced_whole(tmp_path, monkeypatch):
    """If writing fails, the old model is still there and no draft is left."""
    path = tmp_path / "m.skops"
    digest = save_model(FAMILIES["scaler"], path)

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_model(FAMILIES["pca"], path)
    assert load_model("m", path, digest).digest == digest
    assert list(tmp_path.iterdir()) == [path]
