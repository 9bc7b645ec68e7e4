"""The pages in docs/reference, from the code: ``python -m docs.generate`` writes them, a test compares them.

What they say of an option is its pydantic field, of a command its function and its arguments, of a plugin its
docstring. What is written here is only what joins these, and an example for each plugin.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.main import get_command

from docs.words import options, plain, prose, table
from wendelin_stream import plugin, units
from wendelin_stream.cli import app
from wendelin_stream.cli.common import EXIT_CODES
from wendelin_stream.config import json_schema
from wendelin_stream.config.model import ModelSpec, PipelineSpec, Policy
from wendelin_stream.operators.features import statistics
from wendelin_stream.plugin import Group
from wendelin_stream.store import StoreConfig

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"
GROUPS: tuple[Group, ...] = ("sources", "codecs", "operators")

EXAMPLES = {
    "forward": """
sources:
  fluent: {type: forward, listen: 127.0.0.1:24224}
""",
    "tail": """
sources:
  recordings: {type: tail, path: /srv/recordings/*.wav, tag: "audio.{stem}", read_from_head: true}
""",
    "pcm": """
policies:
  vibration:
    match: park.*.*.acc
    codec: {pcm: {dtype: "<f4", channels: [x, y, z], rate: 25.6 kHz, unit: m/s2}}
""",
    "wav": """
policies:
  recordings: {match: audio.*, codec: wav}
""",
    "features": """
pipelines:
  levels:
    from: park.*.*.acc
    do:
      - features: {window: 1 s, stats: [rms, crest_factor, kurtosis]}
    into: "{stream}.levels"
""",
    "predict": """
models:
  gearbox: {path: gearbox.skops, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
pipelines:
  health:
    from: park.*.*.acc
    do:
      - features: {window: 1 s}
      - predict: {model: gearbox}
    into: "{stream}.health"
""",
    "welch": """
pipelines:
  spectrum:
    from: park.*.*.acc
    do:
      - welch: {fmax: 10 kHz, lines: 3200, overlap: 50 %, average: 8}
    into: "{stream}.spectrum"
""",
}
"""By plugin: a part of a configuration that is right but for files that it names."""

ALSO = {"features": statistics}
"""By plugin: a function whose docstring says more."""

EXITS = {
    0: "All went well.",
    1: "A fault in the program, with a traceback; or the daemon was told to stop a second time and ended at once.",
    2: "The command line is wrong: an option that there is not, a value that it cannot be.",
    65: "A file or message is not what it must be: a damaged recording, for example.",
    70: "Something else that the message names: the demo's daemon ended by itself, for example.",
    74: "The disk failed, or files of a stream are damaged.",
    75: "Not now: another process writes there, or the disk is full. The same command may work later.",
    78: "The user must change something: the configuration, a name, an option.",
    141: "The program that read the output has ended (as in `| head`).",
}


def page(title: str, *parts: str) -> str:
    """A whole page."""
    return "\n\n".join((f"# {title}", NOTE, *(part.strip() for part in parts))) + "\n"


def plugin_page(group: Group, name: str) -> str:
    """A source, codec or operator: what it does, an example, its options, what else its code says."""
    found = plugin.load(group, name)
    first, *more = prose(found.__doc__)
    table_ = options(found.Config, found.Config.model_json_schema()["properties"])
    more = [] if group == "sources" else more
    if name in ALSO:
        more += prose(ALSO[name].__doc__)[1:]
    if group == "operators":
        more += ["## What comes out", *prose(found.output.__doc__)]
    example = f"```yaml\n{EXAMPLES[name].strip()}\n```"
    return page(f"{group.removesuffix('s').capitalize()} `{name}`", first, example, table_, *more)


def sections_page() -> str:
    """The sections of a configuration file."""
    schema = json_schema()["properties"]
    models = {"policies": Policy, "pipelines": PipelineSpec, "models": ModelSpec}
    parts = ["How these fit together: [configuration](../configuration.md)."]
    store = schema["store"]["properties"]
    path = ("`path`", "path", "required", store["path"]["description"])
    parts += ["## store", *prose(StoreConfig.__doc__), options(StoreConfig, store, (), path)]
    parts += ["## sources", "By name: a `type` and its options. " + links("sources")]
    for section, model in models.items():
        inner = schema[section]["additionalProperties"]["properties"]
        parts += [f"## {section}", f"By name: {ABOUT[section]}", options(model, inner, hidden=("name",))]
    parts.append(f"Codecs: {links('codecs')} Operators: {links('operators')}")
    return page("Sections of a configuration", *parts)


ABOUT = {
    "policies": "what may come in, and what becomes of it. The first policy that matches a tag counts.",
    "pipelines": "operators between an input stream and an output stream.",
    "models": "a trained estimator in a file, pinned by its digest.",
}


def links(group: Group) -> str:
    """The pages of a group, as a sentence."""
    return ", ".join(f"[{name}]({group.removesuffix('s')}-{name}.md)" for name in plugin.plugins(group)) + "."


def quantities_page() -> str:
    """Which units there are."""
    rows = [
        ("duration", "`20 ms`", units.DURATIONS),
        ("size", "`64 MiB`; a bare number is bytes", units.SIZES),
        ("frequency", "`25.6 kHz`", units.FREQUENCIES),
        ("share", "`50 %` or `0.5`", units.RATIOS),
    ]
    kinds = table(
        ("quantity", "like", "units"),
        [(name, like, ", ".join(f"`{unit}`" for unit in known if unit)) for name, like, known in rows],
    )
    about = "A number and its unit. Numbers are exact: as decimals (`25.6 kHz`) or fractions (`100/3 Hz`)."
    return page("Quantities", about, kinds)


def commands_page() -> str:
    """All commands with their options, and exit codes."""
    group = get_command(app)
    parts = ["`wendelin-stream --help` lists the commands, `--version` prints the version."]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts += [f"## {name}", *command_parts(name, command)]
    told = {0, 1, 2, 70, 141} | {code for _, code in EXIT_CODES}
    parts += ["## Exit codes", table(("code", "meaning"), [(str(code), EXITS[code]) for code in sorted(told)])]
    return page("Commands", *parts)


def command_parts(name: str, command: Any) -> Iterable[str]:
    """What there is to say of one command."""
    hints = get_type_hints(command.callback, include_extras=True)
    defaults = inspect.signature(command.callback).parameters
    usage, rows = f"wendelin-stream {name} [OPTIONS]", []
    for parameter in command.params:
        hint, default = hints.get(parameter.name), defaults.get(parameter.name)
        if hint is None or default is None:
            continue  # --help
        required = default.default is inspect.Parameter.empty
        value = parameter.metavar or metavar(hint)
        if parameter.param_type_name == "argument":
            label = parameter.metavar or parameter.name.upper()
            usage += f" {label}" if required else f" [{label}]"
        else:
            label = ", ".join(parameter.opts) + (f" {value}" if value else "")
        told = parameter.show_default if isinstance(parameter.show_default, str) else default.default
        shown = "required" if required else "" if told is None or told is False else f"`{told}`"
        stands = f" (else from `{parameter.envvar}`)" if parameter.envvar else ""
        rows.append((f"`{label}`", shown, plain(parameter.help or "") + stands))
    for text in inspect.cleandoc(command.callback.__doc__).split("\n\n"):
        yield f"```sh\n{text[2:]}\n```" if text.startswith("\b\n") else " ".join(text.split())
    yield f"`{usage}`"
    yield table(("option", "default", "meaning"), rows)


def metavar(hint: Any) -> str:
    """What stands for a value of that type; empty for a flag."""
    kind = get_args(hint)[0]
    kind = next((one for one in get_args(kind) if one is not type(None)), kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "|".join(kind)
    return {bool: "", int: "NUMBER", float: "NUMBER"}.get(kind, "TEXT")


def index_page() -> str:
    """The list of all pages."""
    parts = [
        "[Sections of a configuration](sections.md): store, sources, policies, pipelines, models. "
        "[Quantities](quantities.md). [Commands and exit codes](commands.md)."
    ]
    for group in GROUPS:
        names = plugin.plugins(group)
        rows = [
            (f"[{name}]({group.removesuffix('s')}-{name}.md)", prose(plugin.load(group, name).__doc__)[0])
            for name in names
        ]
        parts += [f"## {group.capitalize()}", table((group.removesuffix("s"), ""), rows)]
    return page("Reference", *parts)


def pages() -> dict[str, str]:
    """All pages: file name to text."""
    found = {
        "README.md": index_page(),
        "sections.md": sections_page(),
        "quantities.md": quantities_page(),
        "commands.md": commands_page(),
    }
    for group in GROUPS:
        found |= {f"{group.removesuffix('s')}-{name}.md": plugin_page(group, name) for name in plugin.plugins(group)}
    return found


def write(folder: Path) -> None:
    """Write all pages, and remove those that are none any more."""
    folder.mkdir(exist_ok=True)
    fresh = pages()
    for old in folder.glob("*.md"):
        if old.name not in fresh:
            old.unlink()
    for name, text in fresh.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(REFERENCE)
