"""How the daemon is doing, in words: systemd's STATUS=, and the report on SIGUSR1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wendelin_stream.runtime.door import Counters
from wendelin_stream.runtime.doors import DoorRunner
from wendelin_stream.runtime.instances import PipelineRunner
from wendelin_stream.units import format_size


def status_line(counters: Mapping[str, Counters], pipelines: Mapping[str, PipelineRunner], rate: float) -> str:
    """What comes in (bytes per second), what was set aside, and the largest lag."""
    rejected = sum(one.rejected for one in counters.values())
    lag = max((i.progress.lag_rows for p in pipelines.values() for i in p.instances.values()), default=0)
    parked = sum(i.health.state == "parked" for p in pipelines.values() for i in p.instances.values())
    text = f"{format_size(max(0, int(rate)))}/s in, largest lag {lag} rows"
    if rejected:
        text += f", {rejected} set aside"
    return text + (f", {parked} pipelines parked" if parked else "")


def report(
    doors: Mapping[str, DoorRunner], counters: Mapping[str, Counters], pipelines: Mapping[str, PipelineRunner]
) -> Iterator[str]:
    """One line per source and per pipeline instance."""
    for name, door in doors.items():
        one = counters.get(name, Counters())
        yield (
            f"source {name}: {door.health.state}, {one.units} units, {format_size(one.bytes)}, "
            f"{one.rejected} set aside, {one.duplicates} repeats, {one.refused} refused {door.health.error}"
        )
    for name, runner in pipelines.items():
        for instance in runner.instances.values():
            at = instance.progress
            yield (
                f"pipeline {name} on {instance.source}: {instance.health.state}, {at.rows_in} rows in, "
                f"{at.rows_out} out, {at.lag_rows} behind {instance.health.error}"
            )
