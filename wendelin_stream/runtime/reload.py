"""What a new configuration changes: pure, so that a reload touches only that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wendelin_stream.config import Config, PipelineSpec
from wendelin_stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Changes:
    """Names to stop and names to start; a changed one is in both."""

    stop: frozenset[str]
    start: frozenset[str]

    def with_again(self, names: frozenset[str]) -> Changes:
        """The same, and those of `names` that stay are stopped and started."""
        return Changes(self.stop | names, self.start | (names - self.stop))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """What differs between two sections."""
    stop = {name for name in old if new.get(name) != old[name]}
    start = {name for name in new if old.get(name) != new[name]}
    return Changes(frozenset(stop), frozenset(start))


def pipeline_changes(old: Config, new: Config) -> Changes:
    """Pipelines that differ, or that use a model which differs."""
    plain = changes(old.pipelines, new.pipelines)
    models = changes(old.models, new.models)
    touched = models.stop | models.start
    using = {name for name, spec in new.pipelines.items() if name in old.pipelines and used_models(spec) & touched}
    return Changes(plain.stop | using, plain.start | using)


def used_models(spec: PipelineSpec) -> frozenset[str]:
    """Names of the models that a pipeline's operators refer to (their option `model`)."""
    names = (getattr(step.options, "model", None) for step in spec.do)
    return frozenset(name for name in names if isinstance(name, str))


def refuse_fixed(old: Config, new: Config) -> None:
    """Raise ConfigError if the new configuration wants what only a restart can give."""
    if new.store != old.store:
        raise ConfigError("the store section cannot change while the daemon runs", where="store", hint="restart it")


def told(sources: Changes, pipelines: Changes) -> str:
    """One line about what a reload stopped and started."""
    words = ("sources stopped", "sources started", "pipelines stopped", "pipelines started")
    names = (sources.stop, sources.start, pipelines.stop, pipelines.start)
    parts = [f"{word}: {', '.join(sorted(group))}" for word, group in zip(words, names, strict=True) if group]
    return "; ".join(parts) or "nothing changed"
