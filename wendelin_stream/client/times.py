"""Times as people write them, as nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from wendelin_stream.errors import ConfigError
from wendelin_stream.units import parse_time

Time = str | datetime | np.datetime64
"""A moment: ISO 8601 text, `datetime` or `numpy.datetime64` (pandas' Timestamp too); UTC unless it says otherwise."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(moment: Time | Any) -> int:
    """ns since 1970 UTC. Raises ConfigError for anything that is no time, bare numbers included."""
    if hasattr(moment, "to_datetime64"):  # pandas, whose datetimes have nanoseconds
        moment = moment.to_datetime64()
    if isinstance(moment, np.datetime64):
        if np.isnat(moment):
            raise ConfigError("NaT is no time")
        return int(moment.astype("<M8[ns]").astype(np.int64))
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        since = aware - EPOCH
        return ((since.days * 86400 + since.seconds) * 10**6 + since.microseconds) * 1000
    if isinstance(moment, str):
        try:
            return parse_time(moment)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    raise ConfigError(f"{moment!r} is no time", hint="write it like '2026-11-01T10:00:00', or use isel() for rows")
