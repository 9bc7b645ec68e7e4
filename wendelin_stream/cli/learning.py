"""What the demo does with its healthy first minutes: a model of normal, and the pipeline that scores by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from wendelin_stream.batch import NS
from wendelin_stream.client import Stream, connect


def features_between(store: Path, streams: Sequence[str], start: int, stop: int) -> list[NDArray[np.float64]]:
    """The rows of each features stream from `start` to before `stop` (ns UTC): (n, features) each."""
    workspace = connect(store)
    found = []
    for name in streams:
        if name not in workspace:
            found.append(np.empty((0, 0)))
            continue
        with workspace[name] as stream:
            chosen = stream.sel(np.datetime64(start, "ns"), np.datetime64(stop, "ns"))
            found.append(np.array(chosen.array, dtype=np.float64))
    return found


def fit(rows: NDArray[np.float64]) -> Any:
    """A model of healthy rows (n, features): scaler and PCA; its log-likelihood falls with what is unusual.

    M. E. Tipping, C. M. Bishop, "Probabilistic principal component analysis", J. R. Stat. Soc. B 61 (1999) 611-622.
    """
    from sklearn.decomposition import PCA  # seconds to import: while the daemon is at work already
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), PCA(n_components=0.9, svd_solver="full")).fit(rows)


def write_health(store: Path, estimator: Any) -> Path:
    """Save the model, and the configuration file that scores every features stream by it. Returns that file."""
    from wendelin_stream.models import save_model

    model = store / "health.skops"
    digest = save_model(estimator, model)
    config = {
        "models": {"drivetrain": {"path": model.name, "sha256": digest}},
        "pipelines": {
            "health": {
                "from": "park.*.drivetrain.acc.features",
                "do": [{"predict": {"model": "drivetrain"}}],
                "into": "{stream}.health",
            }
        },
    }
    return write_config(store, "# Written by `wendelin-stream demo` from its healthy time.\n" + yaml.safe_dump(config))


def write_config(store: Path, text: str) -> Path:
    """Put ``health.yaml`` into the store's folder, whole or not at all."""
    path = store / "health.yaml"
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
    return path


def latest(store: Path, streams: Sequence[str]) -> dict[str, float]:
    """The newest value of each stream that is there and has one."""
    workspace = connect(store)
    values = {}
    for name in streams:
        if name in workspace:
            with workspace[name] as stream:
                if len(stream):
                    values[name] = float(stream.array[-1].reshape(-1)[0])
    return values


def all_scored(store: Path, streams: Sequence[str], end: int) -> bool:
    """Whether each features stream reaches `end` (ns UTC) to its last whole second, and its health stream too."""
    workspace = connect(store)
    for name in (each for features in streams for each in (features, f"{features}.health")):
        if name not in workspace:
            return False
        with workspace[name] as stream:
            last = stream.reader.last_time()
        if last is None or last <= end - 2 * NS:
            return False
    return True


def newest_time(store: Path) -> int | None:
    """Latest time of anything in the store, ns UTC; None for a store that is new or empty."""
    if not (store / "streams").is_dir():
        return None
    times = []
    for name in connect(store):
        with Stream(store, name) as stream:
            times.append(stream.reader.last_time())
    return max((time for time in times if time is not None), default=None)
