"""Operators of a pipeline: made, and asked what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from wendelin_stream.batch import Signal
from wendelin_stream.config.model import ModelSpec, OperatorSpec, PipelineSpec
from wendelin_stream.config.place import suggest
from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import Model, Operator, OperatorContext

LoadModel = Callable[[str, Path, str], Model]
"""(name, path, sha256) -> model. Raises ConfigError."""


def operator_context(models: Mapping[str, ModelSpec], load: LoadModel) -> OperatorContext:
    """What operators get: each model is loaded when it is first asked for, and once."""

    @cache
    def model(name: str) -> Model:
        if name not in models:
            raise ConfigError(
                f"model {name!r} is not declared under models:", where="model", hint=suggest(name, models)
            )
        spec = models[name]
        try:
            return load(name, spec.path, spec.sha256)
        except ConfigError as error:
            raise spec.place.locate(error) from error

    return OperatorContext(model)


def build_operators(spec: PipelineSpec, context: OperatorContext) -> list[Operator]:
    """New operators, first to last. Raises ConfigError that names pipeline, step and line."""
    operators = []
    for number, step in enumerate(spec.do):
        try:
            operators.append(step.make(context))
        except (ConfigError, ValueError) as error:
            raise _told(error, spec, number, step) from error
    return operators


def chain(operators: Sequence[Operator], signal: Signal, spec: PipelineSpec | None = None) -> Signal:
    """What comes out at the end for such an input. To be called once for each set of new operators.

    Raises ConfigError; with the `spec` that the operators were built from, it names pipeline, step and line.
    """
    for number, operator in enumerate(operators):
        try:
            signal = operator.output(signal)
        except (ConfigError, ValueError) as error:
            if spec is None:
                raise ConfigError(f"step {number + 1}: {error}") from error
            raise _told(error, spec, number, spec.do[number]) from error
    return signal


def _told(error: Exception, spec: PipelineSpec, number: int, step: OperatorSpec) -> ConfigError:
    return spec.place.at("do", number, step.type).locate(error)
