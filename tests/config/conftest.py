"""Small plugins that stand in for real ones, and files to load."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from wendelin_stream import plugin
from wendelin_stream.batch import Signal
from wendelin_stream.config import Config, load
from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import OperatorContext, Options
from wendelin_stream.units import Frequency


class DoorLimits(Options):
    """Options within options."""

    rows: int = 1
    key_file: Path | None = None


class Door:
    """A source that only has options."""

    class Config(Options):
        listen: str = Field(description="address")
        port: int = Field(1, ge=1, le=65535)
        mode: str | list[str] = "a"
        limits: DoorLimits = DoorLimits()
        files: tuple[Path, ...] = ()


class Raw:
    """A codec that knows its signal."""

    class Config(Options):
        rate: Frequency
        channels: tuple[str, ...] = ("x",)

    def __init__(self, config: Config) -> None:
        self.signal = Signal(np.dtype("<f4"), config.channels, rate=config.rate)


class Guess:
    """A codec that learns its signal from the data."""

    class Config(Options):
        pass

    def __init__(self, config: Config) -> None:
        pass


class Keep:
    """An operator that changes nothing."""

    class Config(Options):
        pass

    def __init__(self, config: Any, context: OperatorContext) -> None:
        self.config, self.context = config, context

    def output(self, signal: Signal) -> Signal:
        return signal


class Halve(Keep):
    """Half the rate."""

    def output(self, signal: Signal) -> Signal:
        assert signal.rate is not None
        return Signal(signal.dtype, signal.channels, signal.units, signal.rate / 2)


class Picky(Keep):
    """Needs a rate of twice `fmax`."""

    class Config(Options):
        fmax: Frequency = Fraction(1)

    def output(self, signal: Signal) -> Signal:
        if signal.rate is None or signal.rate < 2 * self.config.fmax:
            raise ConfigError("is above half the rate", where="fmax", hint="lower it")
        return signal


class Score(Keep):
    """One number a row, from a model."""

    class Config(Options):
        model: str

    def __init__(self, config: Any, context: OperatorContext) -> None:
        super().__init__(config, context)
        self.model = context.model(config.model)

    def output(self, signal: Signal) -> Signal:
        return Signal(np.dtype("<f8"), ("score",), rate=signal.rate)


DOUBLES = {
    "sources": {"door": Door},
    "codecs": {"raw": Raw, "guess": Guess},
    "operators": {"keep": Keep, "halve": Halve, "picky": Picky, "score": Score},
}


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the plugins above are installed."""

    class Point:
        def __init__(self, found: type) -> None:
            self.found = found

        def load(self) -> type:
            return self.found

    points = {group: {name: Point(found) for name, found in them.items()} for group, them in DOUBLES.items()}
    real = plugin.load.__wrapped__  # the function without its cache, which would outlive the test
    monkeypatch.setattr(plugin, "plugins", points.__getitem__)
    monkeypatch.setattr(plugin, "load", real)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(text)`` is a file with that text, unindented."""

    def file(text: str, name: str = "c.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return file


@pytest.fixture
def loaded(write: Callable[..., Path]) -> Callable[[str], Config]:
    """``loaded(text)`` is the configuration of such a file, with a store."""
    return lambda text: load([write(text)], store=Path("/nowhere"))
