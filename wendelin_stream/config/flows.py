"""Which streams there can be, what they hold, and which pipeline reads which: patterns in, patterns out. Pure."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.config.model import Config, PipelineSpec, Policy
from wendelin_stream.config.pattern import Pattern
from wendelin_stream.config.place import suggest
from wendelin_stream.errors import ConfigError

Stored = Mapping[str, tuple[Kind, Signal | None]]
"""What is in the store already: kind and signal by stream name."""


@dataclass(frozen=True)
class Flow:
    """Streams of the same kind that one thing writes.

    names: what they can be called.  origin: who writes them, for messages.
    typed: whether they hold rows.  signal: of what kind, None if only the data will tell.
    whole: whether these are all streams of that origin, not only those that a reader wants.
    """

    names: Pattern
    origin: str
    typed: bool = True
    signal: Signal | None = None
    whole: bool = True


def policy_flows(config: Config, signals: Mapping[str, Signal | None], wanted: Pattern) -> list[Flow]:
    """What policies may write of the `wanted` streams. An earlier policy that takes all such tags hides a later one."""
    flows: list[Flow] = []
    earlier: list[Policy] = []
    for policy in config.policies.values():
        names = wanted.narrow(policy.streams)
        if names and not (policy.stream.plain and any(before.match.covers(names) for before in earlier)):
            origin, whole = f"policy {policy.name!r}", wanted.covers(policy.streams)
            flows.append(Flow(names, origin, policy.codec is not None, signals.get(policy.name), whole))
        earlier.append(policy)
    return flows


def stored_flows(stored: Stored, wanted: Pattern) -> list[Flow]:
    """What is in the store of the `wanted` streams."""
    return [
        Flow(Pattern((name,)), f"stream {name!r} in the store", kind == "rows", signal)
        for name, (kind, signal) in stored.items()
        if wanted.matches(name)
    ]


def in_order_of_flow(config: Config) -> tuple[list[str], list[ConfigError]]:
    """Pipelines so that each comes after those it reads from. A circle is an error, and its pipelines are left out."""
    names = dict(config.pipelines)
    errors: list[ConfigError] = []
    while True:
        graph = {
            name: [other for other, writer in names.items() if writer.outputs.overlaps(reader.from_)]
            for name, reader in names.items()
        }
        try:
            return list(graphlib.TopologicalSorter(graph).static_order()), errors
        except graphlib.CycleError as error:
            circle = error.args[1][:-1]
            first = min(map(list(names).index, circle))
            at = circle.index(list(names)[first])
            circle = circle[at:] + circle[:at]
            errors.append(_circle([config.pipelines[name] for name in circle]))
            names = {name: spec for name, spec in names.items() if name not in circle}


def _circle(specs: list[PipelineSpec]) -> ConfigError:
    first, second = specs[0], specs[1 % len(specs)]
    way = " -> ".join(spec.name for spec in [*specs, first])
    hint = f"it can write {first.outputs}, which {second.name!r} reads as {second.from_}"
    return first.place.at("into").error(f"the pipeline reads what it writes: {way}", hint=hint)


def collisions(config: Config) -> list[ConfigError]:
    """Streams that two would write."""
    errors = []
    specs = list(config.pipelines.values())
    for spec in specs:
        into = spec.place.at("into")
        if spec.into.fixed and spec.from_.literal is None:
            what = f"all streams that match {str(spec.from_)!r} would be written into {str(spec.into)!r}"
            errors.append(into.error(what, hint="put {stream} into the name"))
        same = [policy for policy in config.policies.values() if spec.outputs.covers(policy.streams)]
        errors += [into.error(f"policy {policy.name!r} writes {str(policy.streams)!r} too") for policy in same]
    for first, second in combinations(specs, 2):
        if first.outputs.overlaps(second.outputs):
            what = f"pipeline {first.name!r} can write the same streams: {first.outputs} and {second.outputs}"
            errors.append(second.place.at("into").error(what, hint="give them different names"))
    return errors


def policies_against(stored: Stored, config: Config, signals: Mapping[str, Signal | None]) -> list[ConfigError]:
    """Streams in the store that hold something else than the policy that feeds them would write now.

    Only where that is plain: a policy with a codec, named without ``**``, for streams that no pipeline writes.
    """
    errors = []
    for name, (kind, signal) in stored.items():
        policy = next((policy for policy in config.policies.values() if policy.streams.matches(name)), None)
        if policy is None or policy.codec is None or config.writer_of(name):
            continue
        if any("**" in parts for parts in policy.streams.alternatives):
            continue
        now = signals.get(policy.name)
        if kind != "rows" or (now is not None and signal != now):
            errors.append(exists_otherwise(policy, name, kind, signal, now))
    return errors


def exists_otherwise(
    spec: Policy | PipelineSpec, name: str, kind: Kind, present: Signal | None, new: Signal | None
) -> ConfigError:
    """The error for a stream that exists with something else than would be written into it."""
    before = describe(present) if present is not None else kind
    now = describe(new) if new is not None else "rows"
    key, option = ("codec", "stream") if isinstance(spec, Policy) else ("into", "into")
    return spec.place.at(key).error(
        f"stream {name!r} is there already and holds {before}; now it would be {now}",
        hint=f"write to a new name with '{option}:', or move the old stream out of the store",
    )


def nothing_matches(spec: PipelineSpec, known: list[str]) -> ConfigError:
    """The error for a pattern that no stream can match."""
    hint = suggest(str(spec.from_), known)
    return spec.place.at("from").error(
        f"nothing can match {str(spec.from_)!r}",
        hint=hint if known else "no policy and no pipeline writes a stream, and none is in the store",
    )


def describe(signal: Signal) -> str:
    """A signal in a few words."""
    rate = "" if signal.rate is None else f" at {float(signal.rate):g} per second"
    axes = "".join(f" x {axis.size} {axis.name}" for axis in signal.axes)
    dtype = signal.dtype.str if signal.dtype.names is None else "records"
    units = "/".join(dict.fromkeys(unit for unit in signal.units if unit))
    channels = ",".join(signal.channels) if len(signal.channels) <= 6 else f"{len(signal.channels)} channels"
    return f"{dtype} [{channels}]{axes}{f' {units}' if units else ''}{rate}"
