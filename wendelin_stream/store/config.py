"""Options of a store, as the user writes them."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from wendelin_stream.plugin import Options
from wendelin_stream.units import Duration, Size


class StoreConfig(Options):
    """When data is made durable, how files are cut, and how much of the disk is left alone."""

    policy: Literal["group", "each", "os"] = Field(
        default="group",
        description="group: sync several appends at once; each: sync at once; os: acknowledge before the sync, "
        "UNSAFE: a power cut loses acknowledged data.",
    )
    sync: Duration = Field(default=Fraction(1, 50), description="How long an append waits for others (policy group).")
    group: Size = Field(default=4 * 2**20, description="Bytes that are synced at once without waiting any longer.")
    segment: Size = Field(
        default=64 * 2**20, gt=0, description="Size of a data file; rounded up to whole rows and whole pages."
    )
    keep_free: Size = Field(default=10**9, description="Free space below which nothing more is taken; 0: never mind.")
    dedupe: int = Field(default=1_000_000, ge=0, description="How many chunk ids a stream remembers to drop repeats.")
