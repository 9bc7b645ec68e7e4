"""The reference in docs/ is what the code says, and the code says something of every option."""

from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from docs.generate import EXAMPLES, GROUPS, REFERENCE, pages
from wendelin_stream import plugin
from wendelin_stream.cli import app
from wendelin_stream.config import load
from wendelin_stream.config.model import ModelSpec, PipelineSpec, Policy
from wendelin_stream.store import StoreConfig

MODELS = [StoreConfig, Policy, PipelineSpec, ModelSpec]
MODELS += [plugin.load(group, name).Config for group in GROUPS for name in plugin.plugins(group)]


def test_committed_pages_are_what_the_code_gives() -> None:
    """All of them and no others. `make docs` writes them anew."""
    committed = {path.name: path.read_text() for path in REFERENCE.iterdir()}
    fresh = pages()
    assert sorted(committed) == sorted(fresh), "run `make docs`"
    for name, text in fresh.items():
        assert committed[name] == text, f"docs/reference/{name} is out of date: run `make docs`"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.__module__}.{model.__qualname__}")
def test_every_option_has_a_description(model) -> None:
    """Its own one, not that of its type. `name` is no option: users write it as the key."""
    silent = [name for name, field in model.model_fields.items() if not field.description and name != "name"]
    assert silent == []


def test_every_command_and_its_options_have_help() -> None:
    """The first sentence is shown in the list of commands."""
    for name, command in get_command(app).commands.items():
        assert command.help, name
        assert [parameter.name for parameter in command.params if not parameter.help] == []


def test_help_keeps_brackets_and_fills_the_line(cli_help) -> None:
    """Square brackets are markup to rich; line breaks of docstrings are not for terminals of another width."""
    assert "'wendelin-stream[plot]'" in cli_help("plot")
    assert "[default: (config/demo.yaml)]" in cli_help("demo")
    assert "against what the store holds already" in " ".join(cli_help("check").split())


@pytest.fixture
def cli_help(monkeypatch):
    """The help of a command on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda command: CliRunner().invoke(app, [command, "--help"]).stdout


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_right(name: str, tmp_path: Path) -> None:
    """Each plugin has one, and a configuration with nothing but a store beside it can be read."""
    config = tmp_path / "config.yaml"
    config.write_text(f"store: {{path: data}}\n{EXAMPLES[name]}")
    load([config])


def test_every_plugin_has_an_example() -> None:
    """And none is left of a plugin that is gone."""
    assert sorted(EXAMPLES) == sorted(name for group in GROUPS for name in plugin.plugins(group))
