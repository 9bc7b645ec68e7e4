"""From plain data, and the places where it was written, to a `Config`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wendelin_stream import plugin
from wendelin_stream.config.explain import known_keys, show, unknown_key
from wendelin_stream.config.model import (
    CodecSpec,
    Config,
    ModelSpec,
    OperatorSpec,
    PipelineSpec,
    Policy,
    SourceSpec,
    StoreSection,
)
from wendelin_stream.config.options import OptionReader
from wendelin_stream.config.place import Place, nearest
from wendelin_stream.plugin import Options
from wendelin_stream.store import StoreConfig

Spec = TypeVar("Spec", SourceSpec, Policy, PipelineSpec, ModelSpec)
ReadSpec = Callable[[str, dict[str, Any], Place], Spec | None]

SECTIONS = tuple(Config.model_fields)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class _StorePath(Options):
    path: Path


class Reader(OptionReader):
    """Reads one configuration, merged from its files."""

    def __init__(self, data: Mapping[str, Any], root: Place) -> None:
        super().__init__()
        self.data, self.root = data, root

    def config(self, store: Path | None) -> Config | None:
        """All of it, or None if there are errors; then `errors` has all of them. `store` replaces ``store.path``."""
        self.errors += [unknown_key(self.root.at(key), SECTIONS) for key in self.data if key not in SECTIONS]
        section = self._store(store)
        sources = self._section("sources", self._source)
        policies = self._section("policies", self._policy)
        pipelines = self._section("pipelines", self._pipeline)
        models = self._section("models", self._model)
        if self.errors or section is None:
            return None
        return Config(store=section, sources=sources, policies=policies, pipelines=pipelines, models=models)

    def _store(self, override: Path | None) -> StoreSection | None:
        place, data = self.root.at("store"), self.data.get("store")
        if data is not None and not isinstance(data, Mapping):
            self.problem(place, f"must be a mapping like {{path: /var/lib/data}}, not {show(data)}")
            return None
        data = data or {}
        rest = {key: value for key, value in data.items() if key != "path"}
        config = self.options(StoreConfig, rest, place, also=("path",))
        path = override
        if "path" in data:
            written = self.options(_StorePath, {"path": data["path"]}, place)
            path = path or (written.path if written else None)
        elif override is None and "path" not in (nearest(key, ("path", *known_keys(StoreConfig))) for key in rest):
            self.problem(place.at("path"), "is missing", "the folder for data streams")
        if config is None or path is None:
            return None
        section = StoreSection(path=path, config=config)
        section.written(place)
        return section

    def _section(self, name: str, read: ReadSpec[Spec]) -> dict[str, Spec]:
        data, section = self.data.get(name), {}
        if data is not None and not isinstance(data, Mapping):
            self.problem(self.root.at(name), f"must be a mapping from names, not {show(data)}")
            return {}
        for key, value in (data or {}).items():
            place = self.root.at(name, key)
            if not _NAME.match(key):
                self.problem(place, "a name must be 1 to 64 of A-Z a-z 0-9 _ -")
            elif not isinstance(value, dict):
                self.problem(place, f"must be a mapping of options, not {show(value)}")
            elif (spec := read(key, value, place)) is not None:
                spec.written(place)
                section[key] = spec
        return section

    def _source(self, name: str, data: dict[str, Any], place: Place) -> SourceSpec | None:
        kind = data.get("type")
        if not isinstance(kind, str):
            what = f"must be a type of source, not {show(kind)}" if "type" in data else "is missing"
            self.problem(place.at("type"), what, f"known: {', '.join(plugin.plugins('sources'))}")
            return None
        rest = {key: value for key, value in data.items() if key != "type"}
        options = self.plugin("sources", kind, rest, place, type_key="type")
        return None if options is None else SourceSpec(name=name, type=kind, options=options)

    def _policy(self, name: str, data: dict[str, Any], place: Place) -> Policy | None:
        given: dict[str, Any] = {"name": name}
        if data.get("codec") is not None:
            given["codec"] = self.choice("codecs", data["codec"], place.at("codec"), CodecSpec)
        return self.options(Policy, data, place, hidden=("name",), given=given)

    def _pipeline(self, name: str, data: dict[str, Any], place: Place) -> PipelineSpec | None:
        given: dict[str, Any] = {"name": name}
        if "do" in data:
            given["do"] = self._steps(data["do"], place.at("do"))
        return self.options(PipelineSpec, data, place, hidden=("name",), given=given)

    def _steps(self, data: object, place: Place) -> tuple[OperatorSpec, ...] | None:
        if not isinstance(data, list) or not data:
            self.problem(place, f"must be a list of operators, like '- welch: {{...}}', not {show(data)}")
            return None
        steps = [self.choice("operators", item, place.at(number), OperatorSpec) for number, item in enumerate(data)]
        known = tuple(step for step in steps if step is not None)
        return known if len(known) == len(steps) else None

    def _model(self, name: str, data: dict[str, Any], place: Place) -> ModelSpec | None:
        return self.options(ModelSpec, data, place, hidden=("name",), given={"name": name})
