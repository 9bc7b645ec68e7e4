"""`run`: the daemon."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from wendelin_stream.cli.common import StorePath

Files = Annotated[
    list[Path],
    typer.Option("--config", "-c", metavar="FILE", help="Configuration file; several are read as one."),
]


def run(config: Files, store: StorePath = None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.

    \b
    wendelin-stream run --config /etc/wendelin-stream/site.yaml
    wendelin-stream run --config site.yaml --config models.yaml --store /srv/data
    """
    from wendelin_stream.config import load
    from wendelin_stream.runtime.process import run as run_daemon

    raise typer.Exit(run_daemon(partial(load, config, store=store)))
