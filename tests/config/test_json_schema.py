"""The schema that editors and the documentation use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wendelin_stream import plugin
from wendelin_stream.config import json_schema
from wendelin_stream.config.explain import known_keys
from wendelin_stream.config.model import ModelSpec, PipelineSpec, Policy
from wendelin_stream.store import StoreConfig


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value."""
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from objects(inner)


def test_it_is_json_and_all_references_lead_somewhere():
    """No dangling $ref, nothing that JSON cannot hold, no internals."""
    schema = json.loads(json.dumps(json_schema()))
    refs = {one["$ref"] for one in objects(schema) if isinstance(one.get("$ref"), str)}
    assert refs
    assert {ref.removeprefix("#/$defs/") for ref in refs} <= set(schema["$defs"])
    assert not {"CodecSpec", "OperatorSpec", "Options"} & set(schema["$defs"])


def test_it_has_every_section_as_users_write_it():
    """The same keys that the reader takes: no `name`, `from` instead of `from_`, type beside a source's options."""
    properties = json_schema()["properties"]
    assert set(properties) == {"store", "sources", "policies", "pipelines", "models"}
    assert set(properties["store"]["properties"]) == {"path", *known_keys(StoreConfig)}
    for section, model in {"policies": Policy, "pipelines": PipelineSpec, "models": ModelSpec}.items():
        entry = properties[section]["additionalProperties"]
        assert set(entry["properties"]) == {*known_keys(model)} - {"name"}
        assert "name" not in entry["required"]
        assert entry["additionalProperties"] is False
    doors = {
        entry["properties"]["type"]["const"]: entry for entry in properties["sources"]["additionalProperties"]["anyOf"]
    }
    assert set(doors) == set(plugin.plugins("sources"))
    assert all("type" in entry["required"] for entry in doors.values())


def test_every_installed_plugin_is_in_it():
    """A codec and a step may be a name, or one name with options."""
    properties = json_schema()["properties"]
    codec = properties["policies"]["additionalProperties"]["properties"]["codec"]
    step = properties["pipelines"]["additionalProperties"]["properties"]["do"]["items"]
    for group, (names, with_options) in {"codecs": codec["anyOf"], "operators": step["anyOf"]}.items():
        assert names["enum"] == list(with_options["properties"]) == list(plugin.plugins(group))
