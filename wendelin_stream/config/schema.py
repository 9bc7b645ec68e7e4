"""The configuration as JSON Schema, options of all installed plugins included: for editors and for documentation."""

from __future__ import annotations

from itertools import chain
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from wendelin_stream import plugin
from wendelin_stream.config.model import ModelSpec, PipelineSpec, Policy
from wendelin_stream.plugin import Group
from wendelin_stream.store import StoreConfig

Schema = dict[str, Any]

_GROUPS: tuple[Group, ...] = ("sources", "codecs", "operators")
_REPLACED = ("CodecSpec", "OperatorSpec", "Options")


def json_schema() -> Schema:
    """What files may hold, as users write it (draft 2020-12). Each section may be absent."""
    configs = {group: {name: plugin.load(group, name).Config for name in plugin.plugins(group)} for group in _GROUPS}
    models = [StoreConfig, Policy, PipelineSpec, ModelSpec, *chain(*(group.values() for group in configs.values()))]
    refs, definitions = models_json_schema([(model, "validation") for model in models])
    defs = definitions.get("$defs", {})

    def ref(model: type[BaseModel]) -> Schema:
        return dict(refs[model, "validation"])

    def copy(model: type[BaseModel], **written: Schema) -> Schema:
        """The model as users write it: without its name, and some keys in another form."""
        schema = dict(defs[ref(model)["$ref"].removeprefix("#/$defs/")])
        properties = {key: value for key, value in schema.get("properties", {}).items() if key != "name"} | written
        required = [key for key in schema.get("required", []) if key != "name"]
        return schema | {"properties": properties, "required": required}

    def choice(group: Group) -> Schema:
        options = {name: {"anyOf": [{"type": "null"}, ref(model)]} for name, model in configs[group].items()}
        one = {"type": "object", "properties": options, "minProperties": 1, "maxProperties": 1}
        return {"anyOf": [{"enum": list(options)}, one | {"additionalProperties": False}]}

    sources = [_typed(copy(model), name) for name, model in configs["sources"].items()]
    path = {"type": "string", "description": "the folder for data streams"}
    steps = {"type": "array", "items": choice("operators"), "minItems": 1, "description": "operators, first to last"}
    sections = {
        "store": copy(StoreConfig, path=path),
        "sources": _named({"anyOf": sources}),
        "policies": _named(copy(Policy, codec=choice("codecs"))),
        "pipelines": _named(copy(PipelineSpec, do=steps)),
        "models": _named(copy(ModelSpec)),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of wendelin_stream",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
        "$defs": {name: schema for name, schema in defs.items() if name not in _REPLACED},
    }


def _named(schema: Schema) -> Schema:
    names = {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
    return {"type": ["object", "null"], "propertyNames": names, "additionalProperties": schema}


def _typed(schema: Schema, name: str) -> Schema:
    kind = {"const": name}
    return schema | {"properties": {"type": kind} | schema["properties"], "required": ["type", *schema["required"]]}
