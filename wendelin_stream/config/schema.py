"""The configuration as JSON Schema, options of all installed plugins included: for editors and for documentation."""

from __future__ import annotations

from itertools import chain
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from wendelin_stream import plugin
from wendelin_stream.config.model import CodecSpec, ModelSpec, OperatorSpec, PipelineSpec, Policy
from wendelin_stream.plugin import Group, Options
from wendelin_stream.store import StoreConfig

Schema = dict[str, Any]
Model = type[BaseModel]

_GROUPS: tuple[Group, ...] = ("sources", "codecs", "operators")
_PREFIX = "#/$defs/"


def json_schema() -> Schema:
    """What files may hold, as users write it (draft 2020-12). Each section may be absent."""
    configs = {group: {name: plugin.load(group, name).Config for name in plugin.plugins(group)} for group in _GROUPS}
    written: list[Model] = [StoreConfig, Policy, PipelineSpec, ModelSpec, *configs["sources"].values()]
    models = [*written, CodecSpec, OperatorSpec, Options, *chain(*(group.values() for group in configs.values()))]
    refs, definitions = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    names = {model: refs[model, "validation"]["$ref"].removeprefix(_PREFIX) for model in models}
    defs = definitions["$defs"]
    inline = {model: defs[names[model]] for model in written}

    def choice(group: Group) -> Schema:
        return _choice({name: _PREFIX + names[model] for name, model in configs[group].items()})

    path = {"type": "string", "description": "the folder for data streams"}
    steps = {"type": "array", "items": choice("operators"), "minItems": 1, "description": "operators, first to last"}
    sections = {
        "store": _with(inline[StoreConfig], path=path),
        "sources": _named({"anyOf": [_typed(name, inline[model]) for name, model in configs["sources"].items()]}),
        "policies": _named(_nameless(_with(inline[Policy], codec=choice("codecs")))),
        "pipelines": _named(_nameless(_with(inline[PipelineSpec], do=steps))),
        "models": _named(_nameless(inline[ModelSpec])),
    }
    replaced = {names[model] for model in (*written, CodecSpec, OperatorSpec, Options)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of wendelin_stream",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
        "$defs": {name: schema for name, schema in defs.items() if name not in replaced},
    }


def _choice(refs: dict[str, str]) -> Schema:
    """A plugin where only one can stand: its name, or its name with options."""
    options = {name: {"anyOf": [{"type": "null"}, {"$ref": ref}]} for name, ref in refs.items()}
    one = {"type": "object", "properties": options, "minProperties": 1, "maxProperties": 1}
    return {"anyOf": [{"enum": list(options)}, one | {"additionalProperties": False}]}


def _named(schema: Schema) -> Schema:
    """A section: things by name."""
    names = {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
    return {"type": ["object", "null"], "propertyNames": names, "additionalProperties": schema}


def _with(schema: Schema, **properties: Schema) -> Schema:
    return schema | {"properties": schema["properties"] | properties}


def _nameless(schema: Schema) -> Schema:
    """Without the name, which users write as the key."""
    properties = {key: value for key, value in schema["properties"].items() if key != "name"}
    return schema | {"properties": properties, "required": [key for key in schema["required"] if key != "name"]}


def _typed(name: str, schema: Schema) -> Schema:
    """A plugin whose name stands beside its options."""
    properties = {"type": {"const": name}} | schema.get("properties", {})
    return schema | {"properties": properties, "required": ["type", *schema.get("required", [])]}
