"""Model files: written whole, read by digest, with a fixed list of types."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import skops.io
from skops.io.exceptions import UnsupportedTypeException

from wendelin_stream.errors import ConfigError
from wendelin_stream.models.trusted import TRUSTED
from wendelin_stream.units import format_size

log = logging.getLogger(__name__)

MAX_BYTES = 512 * 2**20
"""Largest file, and largest size of what it unpacks to."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A trained estimator (see `wendelin_stream.plugin.Model`).

    name: as configured.  digest: sha256 of the file, hex.  estimator: fitted, set to one job.
    """

    name: str
    digest: str
    estimator: Any


def load_model(name: str, path: Path, sha256: str) -> LoadedModel:
    """The estimator in the `.skops` file at `path`, if the file has the digest `sha256` (hex).

    Parallel estimators are set to ``n_jobs=1``: jobs add up in the order in which they end, and so change last bits.
    Other versions of scikit-learn than the one that wrote the file are warned of in the log.

    Raises ConfigError if the file is not there, too large, another one than the digest says, no model, or holds types
    that are not in `wendelin_stream.models.trusted`.
    """
    data = _read(name, path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise _error(
            name,
            f"{path} has sha256 {found}, expected {sha256.lower()}",
            "write the new digest into the configuration if you replaced the file on purpose",
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = _decode(name, path, data)
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        log.warning("model %s: %s", name, text)
    _single_job(estimator)
    return LoadedModel(name, found, estimator)


def save_model(estimator: Any, path: Path) -> str:
    """Write a fitted estimator to `path` (atomically, durably); returns the file's sha256 for the configuration.

    Raises ConfigError for an estimator that `load_model` would refuse. The same estimator written twice gives two
    digests: skops files hold object ids.
    """
    try:
        data = skops.io.dumps(estimator)
    except UnsupportedTypeException as error:
        raise _error(path.stem, str(error)) from error
    _check_types(path.stem, data)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return hashlib.sha256(data).hexdigest()


def _error(name: str, what: str, hint: str = "") -> ConfigError:
    return ConfigError(what, where=f"models.{name}", hint=hint)


def _read(name: str, path: Path) -> bytes:
    """The file, once and whole: what is checked is what is loaded."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _error(name, f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise _error(name, f"{path} is larger than {format_size(MAX_BYTES)}")
    return data


def _decode(name: str, path: Path, data: bytes) -> Any:
    try:
        with ZipFile(BytesIO(data)) as file:
            unpacked = sum(member.file_size for member in file.infolist())
        if unpacked > MAX_BYTES:
            raise _error(name, f"{path} unpacks to {format_size(unpacked)}, more than {format_size(MAX_BYTES)}")
        _check_types(name, data)
        return skops.io.loads(data, trusted=TRUSTED)
    except ConfigError:
        raise
    except (BadZipFile, ValueError, TypeError, LookupError, AttributeError, ImportError, OSError) as error:
        raise _error(
            name,
            f"{path} is no model that can be read here: {error}",
            "write it with skops.io.dump, or wendelin_stream.models.save_model",
        ) from error


def _check_types(name: str, data: bytes) -> None:
    untrusted = sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED))
    if untrusted:
        raise _error(name, f"the model holds types that are not trusted: {', '.join(untrusted)}")


def _single_job(estimator: Any) -> None:
    if hasattr(estimator, "get_params"):
        jobs = [key for key in estimator.get_params() if key == "n_jobs" or key.endswith("__n_jobs")]
        estimator.set_params(**dict.fromkeys(jobs, 1))
