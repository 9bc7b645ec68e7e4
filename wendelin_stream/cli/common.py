"""What commands share: the options that say which data, and how our errors end a command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from wendelin_stream.errors import BadData, ConfigError, Corrupt, Locked, Retry, WendelinStreamError

if TYPE_CHECKING:
    from wendelin_stream.client import Stream

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file; several are read as one. It says where the store is.",
    ),
]
StorePath = Annotated[
    Path | None,
    typer.Option(
        "--store",
        "-s",
        metavar="PATH",
        envvar="WENDELIN_STREAM_STORE",
        help="The store; goes before the one of --config.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (ConfigError, 78),  # EX_CONFIG: the user edits something
    (BadData, 65),  # EX_DATAERR
    (Corrupt, 74),  # EX_IOERR
    (Retry, 75),  # EX_TEMPFAIL: the same command may work later
    (Locked, 75),
    (OSError, 74),
)


def exit_code(error: Exception) -> int:
    """The exit code for an error, after sysexits.h."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 70)


class Group(TyperGroup):
    """A command group that says our errors in plain words, without a traceback, and ends with their exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Whatever is not ours, and no trouble with a file, stays a traceback: it is a fault."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _leave_the_pipe()
            raise typer.Exit(141) from None  # 128 + SIGPIPE, as programs that know nothing of it end
        except (WendelinStreamError, OSError) as error:
            for line in str(error).splitlines() or [type(error).__name__]:
                typer.echo(f"wendelin-stream: {line}", err=True)
            raise typer.Exit(exit_code(error)) from error


def _leave_the_pipe() -> None:
    """Nobody reads what is still buffered: let the interpreter's last flush go nowhere."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def find_store(config: list[Path] | None, store: Path | None) -> Path:
    """The store's folder: --store (or its environment variable), else what the configuration says.

    Raises ConfigError if neither is given, or the configuration is wrong.
    """
    if store is not None:
        return store
    if not config:
        raise ConfigError("which data?", hint="give --store PATH or --config FILE, or set WENDELIN_STREAM_STORE")
    from wendelin_stream.config import load

    return load(config).store.path


def open_stream(config: list[Path] | None, store: Path | None, name: str) -> Stream:
    """A stream of the store. Raises ConfigError with the nearest name if there is none."""
    from wendelin_stream.client import Stream

    return Stream(find_store(config, store), name)
