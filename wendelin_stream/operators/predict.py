"""A trained scikit-learn estimator, run online."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.base import is_classifier, is_regressor
from sklearn.utils import get_tags
from threadpoolctl import ThreadpoolController

from wendelin_stream.batch import Batch, Gap, Item, Signal
from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import Model, OperatorContext, Options
from wendelin_stream.units import Duration

Method = Literal["predict", "predict_proba", "decision_function", "transform", "novelty"]
FloatArray = NDArray[np.float64]


class PredictConfig(Options):
    """Options of `predict`."""

    model: str = Field(min_length=1, description="name of a model, as declared under `models`")
    method: Literal["auto"] | Method = Field(
        "auto",
        description="what the model is asked for. `auto`: class probabilities of a classifier, novelty of an outlier "
        "detector or density model, else its prediction, else what it transforms rows to. `novelty` is "
        "-score_samples: it rises with abnormality",
    )
    max_rows: int = Field(64, ge=1, le=2**16, description="rows of one call of the model, always filled up to it")
    max_wait: Duration = Field(Fraction(1, 5), description="how long a row may wait for others to fill a call")


class Predict:
    """One row of float64 for every input row.

    The model is always called with `max_rows` rows, a row's place among them is its number in the stream modulo
    `max_rows`, and the other places hold zeros or other rows: matrix products depend in the last bits on how many
    rows they have, and on which place a row has, but not on what the other rows hold. So a row's result does not
    depend on which rows came with it. BLAS and OpenMP run in one thread for the same reason, from then on in the
    whole process.

    Rows with a NaN or an infinity are not shown to the model and give NaN, unless it says that it takes NaN (its
    `allow_nan` tag; then only infinities are kept from it).
    """

    Config = PredictConfig

    def __init__(self, config: PredictConfig, context: OperatorContext = OperatorContext()) -> None:  # noqa: B008
        self._config = config
        self._model = context.model(config.model)

    @property
    def max_rows(self) -> int:
        """Rows that fill one call of the model."""
        return self._config.max_rows

    @property
    def max_wait(self) -> Fraction:
        """Seconds that a row may wait for more."""
        return self._config.max_wait

    def output(self, signal: Signal) -> Signal:
        """What the model says of each row: float64 at the input's rate; `attrs` name the model and its digest.

        Channels: the classes (`predict_proba`, `decision_function` of many classes), ``score`` (`novelty`,
        `decision_function`), ``prediction`` (`predict`), the model's feature names (`transform`).
        Raises ConfigError if the rows do not fit the model or the model does not have the method.
        """
        estimator = self._model.estimator
        _check_input(self._model, signal)
        method = _choose(self._model) if self._config.method == "auto" else self._config.method
        self._call = _method(self._model, method)
        self._takes_nan = bool(get_tags(estimator).input_tags.allow_nan)
        self._names = hasattr(estimator, "feature_names_in_")
        self._block = np.zeros((self._config.max_rows, len(signal.channels)))
        self._threads = ThreadpoolController()
        width = self._try_out(method)
        model = {"name": self._model.name, "sha256": self._model.digest, "method": method}
        self._signal = Signal(
            dtype=np.dtype(np.float64),
            channels=_channels(estimator, method, width),
            rate=signal.rate,
            attrs={**signal.attrs, "model": model},
        )
        return self._signal

    def on_batch(self, batch: Batch) -> Iterable[Item]:
        """One batch of as many rows, at the same times."""
        first = batch.position // batch.stride
        parts = [
            self._predict(batch.rows[start : start + self.max_rows], first + start)
            for start in range(0, len(batch), self.max_rows)
        ]
        rows = np.concatenate(parts)
        rows.setflags(write=False)
        return [Batch(self._signal, rows, batch.anchor, batch.index, batch.position, batch.stride)]

    def on_gap(self, gap: Gap) -> Iterable[Item]:
        """Rows do not depend on each other: nothing to forget."""
        return [gap]

    def pending(self) -> None:
        """No row waits."""

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """No state."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """No state."""

    def _predict(self, rows: NDArray[Any], number: int) -> FloatArray:
        """Results of at most `max_rows` rows, the first of which has that number in the stream."""
        places = (number + np.arange(len(rows))) % self.max_rows
        rows = np.asarray(rows, dtype=np.float64)
        hidden = np.isinf(rows) if self._takes_nan else ~np.isfinite(rows)
        hidden = hidden.any(axis=1)
        self._block[:] = 0.0
        self._block[places] = np.where(hidden[:, np.newaxis], 0.0, rows)
        results = self._run(self._block)[places]
        results[hidden] = np.nan
        return results

    def _try_out(self, method: Method) -> int:
        """How many numbers the model gives for a row. Raises ConfigError if it does not run."""
        try:
            return int(self._run(self._block).shape[1])
        except (ValueError, TypeError) as error:  # not fitted, sparse or several tables of results, ...
            what = f"{method} of model {self._model.name!r} gives no rows of numbers: {error}"
            raise ConfigError(what, where="model") from error

    def _run(self, block: FloatArray) -> FloatArray:
        """The model's results for a full block: (max_rows, width), float64."""
        self._threads.limit(limits=1)
        with _unnamed(self._names), np.errstate(all="ignore"):
            results = np.asarray(self._call(block), dtype=np.float64)
        if len(results) != len(block) or results.ndim > 2:
            raise ValueError(f"{len(block)} rows gave results of shape {results.shape}")
        return results.reshape(len(block), -1)


@contextmanager
def _unnamed(fitted_with_names: bool) -> Iterator[None]:
    """No warning that arrays have no feature names: `_check_input` has compared them with the channels."""
    if not fitted_with_names:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
        yield


def _check_input(model: Model, signal: Signal) -> None:
    """Raise ConfigError unless the signal's rows are what the model was trained on."""
    if signal.rate is None or signal.axes or signal.dtype.kind not in "fiu":
        raise ConfigError(
            f"model {model.name!r} needs rows of plain numbers, one per channel, at a rate",
            hint="put `features` before `predict`",
        )
    channels, expected = list(signal.channels), getattr(model.estimator, "n_features_in_", None)
    if expected is not None and expected != len(channels):
        raise ConfigError(
            f"model {model.name!r} was trained on {expected} features, this stream has {len(channels)} channels",
            where="model",
        )
    names = [str(name) for name in getattr(model.estimator, "feature_names_in_", channels)]
    if names != channels:
        place = next(i for i, (name, channel) in enumerate(zip(names, channels, strict=True)) if name != channel)
        raise ConfigError(
            f"model {model.name!r} was trained on {names[place]!r} where this stream has {channels[place]!r} "
            f"(channel {place + 1} of {len(channels)})",
            where="model",
        )


def _choose(model: Model) -> Method:
    """What `auto` means for a model."""
    estimator = model.estimator
    if is_classifier(estimator):
        return "predict_proba" if hasattr(estimator, "predict_proba") else "decision_function"
    if hasattr(estimator, "score_samples") and not is_regressor(estimator):
        return "novelty"
    for method in ("predict", "transform"):
        if hasattr(estimator, method):
            return method
    raise ConfigError(f"model {model.name!r}, a {type(estimator).__name__}, cannot judge new rows", where="model")


def _method(model: Model, method: Method) -> Callable[[FloatArray], Any]:
    """The bound method of the estimator. Raises ConfigError if it has none, or one that gives no numbers."""
    estimator, name = model.estimator, "score_samples" if method == "novelty" else method
    call = getattr(estimator, name, None)
    if call is None:
        raise ConfigError(f"model {model.name!r}, a {type(estimator).__name__}, has no {name}", where="method")
    if method == "predict" and np.asarray(getattr(estimator, "classes_", 0)).dtype.kind not in "biuf":
        raise ConfigError(
            f"the classes of model {model.name!r} are no numbers: {', '.join(map(str, estimator.classes_))}",
            where="method",
            hint="use predict_proba: one channel per class",
        )
    return (lambda rows: -call(rows)) if method == "novelty" else call


def _channels(estimator: Any, method: Method, width: int) -> tuple[str, ...]:
    classes = [str(name) for name in getattr(estimator, "classes_", ())]
    if method in ("predict_proba", "decision_function") and len(classes) == width:
        return tuple(classes)
    if method == "transform" and hasattr(estimator, "get_feature_names_out"):
        return tuple(map(str, estimator.get_feature_names_out()))
    name = {"predict": "prediction", "transform": "feature"}.get(method, "score")
    return (name,) if width == 1 else tuple(f"{name}{i}" for i in range(width))
