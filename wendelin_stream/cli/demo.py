"""`demo`: a simulated park, through the real door, to a health score."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from wendelin_stream.errors import ConfigError

Turbines = Annotated[int, typer.Option("--turbines", "-n", min=1, max=99, help="How many; the last one has the fault.")]
Speed = Annotated[float, typer.Option("--speed", "-x", min=0.1, help="Simulated seconds per second.")]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="HOST:PORT", help="Send to a daemon that runs already, and do nothing else."),
]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", show_default="config/demo.yaml", help="The daemon's configuration."),
]
Folder = Annotated[Path, typer.Option("--store", "-s", metavar="PATH", help="Where the data goes.")]
Healthy = Annotated[
    str,
    typer.Option("--healthy", metavar="DURATION", help="Simulated time before the fault; the model learns from it."),
]
Stop = Annotated[str | None, typer.Option("--duration", metavar="DURATION", help="End after so much simulated time.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another seed is another park.")]


def demo(
    *,
    turbines: Turbines = 2,
    speed: Speed = 1.0,
    to: To = None,
    config: Configs = None,
    store: Folder = Path("var/demo"),
    healthy: Healthy = "2 min",
    duration: Stop = None,
    seed: Seed = 0,
) -> None:
    """Run the daemon, and feed it with simulated turbines of six accelerometers at 25.6 kHz until Ctrl-C.

    Waveforms arrive over the forward protocol with acknowledgements, become spectra and features, and after the
    healthy time a small model scores them: the score of the last turbine then rises with its growing bearing fault.
    Data of an earlier run stays; times go on from now, or behind it.

    \b
    wendelin-stream demo
    wendelin-stream demo --turbines 4 --speed 10
    wendelin-stream demo --to 127.0.0.1:24224
    """
    from wendelin_stream.cli.show import Plan, run_demo

    plan = Plan(
        turbines=turbines,
        speed=speed,
        healthy=_seconds(healthy, "--healthy"),
        until=None if duration is None else _seconds(duration, "--duration"),
        seed=seed,
        store=store,
        config=tuple(config or [_default_config()]) if to is None else (),
        to=None if to is None else _address(to),
    )
    raise typer.Exit(asyncio.run(run_demo(plan)))


def _seconds(text: str, option: str) -> float:
    from wendelin_stream.units import duration

    try:
        return float(duration(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _address(text: str) -> tuple[str, int]:
    from wendelin_stream.sources.forward.source import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--to") from error


def _default_config() -> Path:
    """config/demo.yaml of the working directory, else of the source tree or package that this file is in."""
    here = Path(__file__).resolve()
    places = [Path("config/demo.yaml"), here.parents[2] / "config/demo.yaml", here.with_name("demo.yaml")]
    for place in places:
        if place.is_file():
            return place
    raise ConfigError("config/demo.yaml is not here", hint="give --config FILE, or change to the project's folder")
