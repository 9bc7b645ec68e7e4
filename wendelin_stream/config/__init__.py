"""The YAML file, validated: policies, sources, pipelines, models.

    config = load([Path("park.yaml")])
    errors = verify(config, stored_streams(config.store.path), load_model)

`load` answers for what is in the files, `verify` for what it comes to: plugins, models, patterns, signals.
"""

from wendelin_stream.config.flows import Flow, Stored, describe
from wendelin_stream.config.loading import load
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
from wendelin_stream.config.pattern import Pattern
from wendelin_stream.config.place import ConfigErrors, Place
from wendelin_stream.config.plan import Plan, plan, stored_streams, verify
from wendelin_stream.config.routing import Route, route
from wendelin_stream.config.schema import json_schema
from wendelin_stream.config.steps import LoadModel, build_operators, chain, operator_context
from wendelin_stream.config.template import Template

__all__ = [
    "CodecSpec",
    "Config",
    "ConfigErrors",
    "Flow",
    "LoadModel",
    "ModelSpec",
    "OperatorSpec",
    "Pattern",
    "PipelineSpec",
    "Place",
    "Plan",
    "Policy",
    "Route",
    "SourceSpec",
    "StoreSection",
    "Stored",
    "Template",
    "build_operators",
    "chain",
    "describe",
    "json_schema",
    "load",
    "operator_context",
    "plan",
    "route",
    "stored_streams",
    "verify",
]
