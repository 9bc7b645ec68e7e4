"""`check`: is the configuration right, down to the signals in the last pipeline?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wendelin_stream.cli.common import AsJson, StorePath, exit_code
from wendelin_stream.errors import ConfigError

if TYPE_CHECKING:
    from wendelin_stream.config import Config, Plan

Files = Annotated[
    list[Path],
    typer.Option("--config", "-c", metavar="FILE", help="Configuration file; several are read as one."),
]


def check(config: Files, store: StorePath = None, as_json: AsJson = False) -> None:
    """Say whether the daemon could run on this configuration, and what its pipelines give.

    Files, options, plugins, models, patterns and the signals through all pipelines are checked, against what the
    store holds already. Nothing is written or started. Exit code 78 if something is wrong.

    \b
    wendelin-stream check --config site.yaml
    wendelin-stream check --config site.yaml --json
    """
    from wendelin_stream.config import ConfigErrors, load, plan, stored_streams
    from wendelin_stream.models import load_model

    try:
        loaded = load(config, store=store)
        result = plan(loaded, stored_streams(loaded.store.path), load_model)
    except ConfigErrors as error:
        _fail(error.errors, as_json)
    else:
        if result.errors:
            _fail(result.errors, as_json)
        facts = summary(loaded, result)
        typer.echo(json.dumps(facts, indent=2) if as_json else _text(facts))


def _fail(errors: list[ConfigError], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"ok": False, "errors": [as_dict(error) for error in errors]}, indent=2))
    else:
        for error in errors:
            typer.echo(str(error), err=True)
    raise typer.Exit(exit_code(errors[0]))


def as_dict(error: ConfigError) -> dict[str, Any]:
    """An error as plain data."""
    return {"file": error.source, "line": error.line, "where": error.where, "what": error.what, "hint": error.hint}


def summary(config: Config, plan: Plan) -> dict[str, Any]:
    """What the configuration comes to, as plain data. `signal` is null where only the data will tell."""
    from wendelin_stream.config import describe

    return {
        "ok": True,
        "store": str(config.store.path),
        "sources": {name: spec.type for name, spec in config.sources.items()},
        "policies": {
            name: {
                "match": list(policy.match.texts),
                "stream": str(policy.stream),
                "codec": policy.codec.type if policy.codec else None,
            }
            for name, policy in config.policies.items()
        },
        "pipelines": {
            name: {
                "from": list(config.pipelines[name].from_.texts),
                "do": [step.type for step in config.pipelines[name].do],
                "outputs": [
                    {
                        "streams": list(flow.names.texts),
                        "holds": describe(flow.signal) if flow.signal else "known with the first data",
                        "signal": flow.signal.to_json() if flow.signal else None,
                    }
                    for flow in flows
                ],
            }
            for name, flows in plan.outputs.items()
        },
        "models": {name: {"path": str(spec.path), "sha256": spec.sha256} for name, spec in config.models.items()},
    }


def _text(facts: dict[str, Any]) -> str:
    lines = [f"The configuration is right. Store: {facts['store']}"]
    lines += [f"source {name}: {kind}" for name, kind in facts["sources"].items()]
    for name, policy in facts["policies"].items():
        codec = policy["codec"] or "as it comes"
        lines.append(f"policy {name}: {' or '.join(policy['match'])} -> {policy['stream']}, {codec}")
    for name, pipeline in facts["pipelines"].items():
        lines.append(f"pipeline {name}: {' or '.join(pipeline['from'])} -> {' -> '.join(pipeline['do'])}")
        lines += [f"  -> {' or '.join(output['streams'])}: {output['holds']}" for output in pipeline["outputs"]]
    lines += [f"model {name}: {model['path']}" for name, model in facts["models"].items()]
    return "\n".join(lines)
