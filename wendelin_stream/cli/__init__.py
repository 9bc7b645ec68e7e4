"""The command line: one command a file. What is heavy is imported when a command runs, so that --help is quick."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer
from rich.markup import escape

from wendelin_stream import __version__
from wendelin_stream.cli.cat import cat
from wendelin_stream.cli.check import check
from wendelin_stream.cli.common import Group
from wendelin_stream.cli.demo import demo
from wendelin_stream.cli.import_ import import_
from wendelin_stream.cli.plot import plot
from wendelin_stream.cli.run import run
from wendelin_stream.cli.streams import streams

app = typer.Typer(
    cls=Group,
    name="wendelin-stream",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wendelin-stream {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """From a sensor feed to durable data and online answers, on one set of files.

    \b
    Try it:       wendelin-stream demo
    Your sensors: wendelin-stream check --config site.yaml
                  wendelin-stream run --config site.yaml
    Your data:    wendelin-stream streams --config site.yaml
    """


def help_of(docstring: str | None) -> str:
    """A docstring as help: paragraphs fill the terminal, what follows a ``\\b`` keeps its lines, brackets stay."""
    paragraphs = escape(inspect.cleandoc(docstring or "")).split("\n\n")
    kept = "\b\n"
    return "\n\n".join(
        part.removeprefix(kept) if part.startswith(kept) else " ".join(part.split()) for part in paragraphs
    )


for command in (run, check, demo, streams, cat, plot):
    app.command(help=help_of(command.__doc__))(command)
app.command("import", help=help_of(import_.__doc__))(import_)


def main() -> None:
    """The `wendelin-stream` program."""
    app(prog_name="wendelin-stream")
