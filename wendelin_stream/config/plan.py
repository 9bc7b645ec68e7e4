"""The check beyond syntax: plugins, models, patterns and signals through all pipelines, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.config.flows import (
    Flow,
    Stored,
    collisions,
    describe,
    exists_otherwise,
    in_order_of_flow,
    nothing_matches,
    policies_against,
    policy_flows,
    stored_flows,
)
from wendelin_stream.config.model import Config, PipelineSpec
from wendelin_stream.config.place import in_order
from wendelin_stream.config.steps import LoadModel, build_operators, chain, operator_context
from wendelin_stream.errors import ConfigError, Corrupt
from wendelin_stream.plugin import Model, Operator, OperatorContext
from wendelin_stream.store import StreamReader, stream_names


@dataclass
class Plan:
    """What a configuration comes to. errors: all that is wrong beyond syntax. outputs: by pipeline, what it writes."""

    errors: list[ConfigError] = field(default_factory=list)
    outputs: dict[str, list[Flow]] = field(default_factory=dict)


def verify(config: Config, stored: Stored, load_model: LoadModel) -> list[ConfigError]:
    """Everything that can be known to be wrong before the start; empty if nothing is. See `plan`."""
    return plan(config, stored, load_model).errors


def plan(config: Config, stored: Stored, load_model: LoadModel) -> Plan:
    """Follow every signal that is known through every pipeline.

    Pure but for `load_model`, which is called once for each declared model. `stored` is what `stored_streams` gives.
    """
    result = Plan()
    context = _models(config, load_model, result)
    signals = _policy_signals(config, result)
    result.errors += collisions(config)
    result.errors += policies_against(stored, config, signals)
    order, circles = in_order_of_flow(config)
    result.errors += circles
    for name in order:
        spec = config.pipelines[name]
        inputs = _inputs(config, spec, stored, signals, result)
        if inputs is not None:
            result.outputs[name] = _through(spec, inputs, context, result)
            result.errors += _against(stored, spec, result.outputs[name])
    result.errors = in_order(result.errors)
    return result


def stored_streams(path: Path) -> dict[str, tuple[Kind, Signal | None]]:
    """Kind and signal of each stream of a store; none if there is no store yet.

    A stream that is damaged is left out: it stops by itself when it is opened for writing, the others go on.
    """
    found = {}
    for name in stream_names(path) if (path / "streams").is_dir() else []:
        try:
            with StreamReader.open(path, name) as reader:
                found[name] = (reader.kind, reader.signal)
        except Corrupt:
            continue
    return found


def _models(config: Config, load_model: LoadModel, result: Plan) -> OperatorContext:
    """Load every declared model, also one that nobody uses yet."""
    loaded: dict[str, Model] = {}
    failed: dict[str, ConfigError] = {}
    for name, spec in config.models.items():
        try:
            loaded[name] = load_model(name, spec.path, spec.sha256)
        except ConfigError as error:
            failed[name] = spec.place.locate(error)
    result.errors += failed.values()

    def model(name: str, _path: Path, _sha256: str) -> Model:
        if name in failed:
            raise failed[name]
        return loaded[name]

    return operator_context(config.models, model)


def _policy_signals(config: Config, result: Plan) -> dict[str, Signal | None]:
    """What policies' streams hold, where the codec knows it without data."""
    signals: dict[str, Signal | None] = {}
    for name, policy in config.policies.items():
        try:
            signal = getattr(policy.make_codec(), "signal", None)
        except (ConfigError, ValueError) as error:
            result.errors.append(policy.place.at("codec").locate(error))
        else:
            signals[name] = signal if isinstance(signal, Signal) else None
    return signals


def _inputs(
    config: Config, spec: PipelineSpec, stored: Stored, signals: Mapping[str, Signal | None], result: Plan
) -> list[Flow] | None:
    """What a pipeline may read; None and an error if that is nothing, or nothing that operators can work on.

    A policy without codec is an error if the pipeline wants all its streams or nothing else. If it wants only some,
    among others, they may never come to be: a catch-all forbids no pattern.
    """
    wanted = spec.from_
    fresh = {name: present for name, present in stored.items() if config.writer_of(name) is None}
    flows = [*policy_flows(config, signals, wanted), *_upstream(config, spec, result)]
    flows += [flow for flow in stored_flows(fresh, wanted) if flow.typed]
    if not flows:
        known = [policy.streams for policy in config.policies.values()]
        known += [other.outputs for other in config.pipelines.values() if other is not spec]
        result.errors.append(nothing_matches(spec, [*map(str, known), *stored]))
        return None
    typed = [flow for flow in flows if flow.typed]
    untyped = [flow for flow in flows if not flow.typed and (flow.whole or not typed)]
    for flow in untyped:
        what = f"{flow.names} of {flow.origin} holds events or bytes; operators need rows"
        result.errors.append(spec.place.at("from").error(what, hint="give the policy a codec, or narrow the pattern"))
    return None if untyped else typed


def _upstream(config: Config, spec: PipelineSpec, result: Plan) -> list[Flow]:
    """What other pipelines write of that; unknown where they have errors of their own."""
    flows = []
    for name, other in config.pipelines.items():
        unknown = [Flow(other.outputs, f"pipeline {name!r}")]
        for flow in result.outputs.get(name, unknown if other is not spec else []):
            names = spec.from_.narrow(flow.names)
            if names is not None:
                flows.append(replace(flow, names=names))
    return flows


def _through(spec: PipelineSpec, inputs: Sequence[Flow], context: OperatorContext, result: Plan) -> list[Flow]:
    """What comes out for each input."""
    outputs = []
    for flow in inputs:
        signal = None
        try:
            operators = build_operators(spec, context)
        except ConfigError as error:
            result.errors.append(error)
        else:
            if flow.signal is not None:
                signal = _output(spec, operators, flow, flow.signal, result)
        outputs.append(Flow(spec.into.names(flow.names), f"pipeline {spec.name!r}", signal=signal))
    return list(dict.fromkeys(outputs))


def _output(
    spec: PipelineSpec, operators: Sequence[Operator], flow: Flow, signal: Signal, result: Plan
) -> Signal | None:
    try:
        return chain(operators, signal, spec)
    except ConfigError as error:
        reads = f"the pipeline reads {flow.names} of {flow.origin}: {describe(signal)}"
        hint = f"{error.hint}; {reads}" if error.hint else reads
        told = ConfigError(error.what, where=error.where, source=error.source, line=error.line, hint=hint)
        result.errors.append(told)
        return None


def _against(stored: Stored, spec: PipelineSpec, outputs: Sequence[Flow]) -> list[ConfigError]:
    """Streams in the store that hold something else than the pipeline would write now."""
    errors = []
    for name, (kind, present) in stored.items():
        signals = [flow.signal for flow in outputs if flow.names.matches(name)]
        unknown = not signals or None in signals
        if signals and (kind != "rows" or not (unknown or present in signals)):
            errors.append(exists_otherwise(spec, name, kind, present, signals[0]))
    return errors
