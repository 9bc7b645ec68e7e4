"""`streams`, and the program as a whole: which data, which exit code, what help costs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from wendelin_stream import __version__
from wendelin_stream.batch import Signal
from wendelin_stream.cli.common import exit_code
from wendelin_stream.errors import BadData, ConfigError, Corrupt, Locked, Retry


def test_streams_lists_kind_size_rate_times_and_lag(cli, put, store, waveform, events):
    """As a table and as JSON; a derived stream's lag is the input it has not used, in seconds of input."""
    put("park.t01.rms", np.zeros((2, 1)), Signal(np.dtype("<f8"), ("rms",), rate=1),
        attrs={"pipeline": "rms", "input": "park.t01.acc"}, position=200)  # fmt: skip
    facts = {fact["name"]: fact for fact in json.loads(cli("streams", "-s", store, "--json").stdout)}
    acc = facts["park.t01.acc"]
    assert (acc["kind"], acc["length"], acc["bytes"], acc["rate_hz"]) == ("rows", 250, 2000, 100.0)
    assert (acc["first"], acc["last"]) == ("2026-11-01T10:00:00Z", "2026-11-01T10:00:02.49Z")
    assert facts["park.t01.rms"]["lag_seconds"] == 0.5
    assert facts["log"]["kind"] == "events"
    assert facts["log"]["length"] == 6
    assert facts["log"]["lag_seconds"] > 0
    table = cli("streams", "-s", store).stdout
    assert [line.split()[0] for line in table.splitlines()] == ["stream", "log", "park.t01.acc", "park.t01.rms"]
    assert "100 Hz" in table
    assert "500 ms" in table


def test_streams_by_pattern(cli, store, waveform, events):
    """* is one part of a name; nothing found is said on stderr and is an empty list in JSON."""
    assert [f["name"] for f in json.loads(cli("streams", "park.*.acc", "-s", store, "--json").stdout)] == [
        "park.t01.acc"
    ]
    nothing = cli("streams", "farm.**", "-s", store)
    assert (nothing.stdout, "farm.**" in nothing.stderr) == ("", True)
    assert cli("streams", "farm.**", "-s", store, "--json").stdout == "[]\n"
    assert "PATTERN" in cli("streams", "a..b", "-s", store, code=2).stderr


def test_version_and_help(cli, program):
    """The program and the module; every command has help with an example."""
    assert cli("--version").stdout == f"wendelin-stream {__version__}\n"
    assert program("--version").stdout.decode() == f"wendelin-stream {__version__}\n"
    for command in ("run", "check", "demo", "streams", "cat", "plot", "import"):
        text = cli(command, "--help").stdout
        assert f"wendelin-stream {command}" in text
        assert "--config" in text
        assert "--store" in text


def test_help_needs_no_numpy():
    """What is heavy is imported when a command runs: --help is quick."""
    code = (
        "import sys; from wendelin_stream.cli import app; from typer.testing import CliRunner;"
        "CliRunner().invoke(app, ['--help']);"
        "print([m for m in ('numpy', 'scipy', 'sklearn', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", [["streams"], ["cat", "x"], ["plot", "x", "-o", "x.png"]])
def test_data_commands_want_to_know_which_data(cli, command, monkeypatch):
    """Neither --config nor --store: an error that says what to give."""
    monkeypatch.delenv("WENDELIN_STREAM_STORE", raising=False)
    result = cli(*command, code=78)
    assert "--store PATH or --config FILE" in result.stderr


def test_the_store_may_come_from_the_environment_or_the_configuration(cli, store, waveform, tmp_path, monkeypatch):
    """WENDELIN_STREAM_STORE is --store; a configuration names its store relative to itself."""
    monkeypatch.setenv("WENDELIN_STREAM_STORE", str(store))
    assert "park.t01.acc" in cli("streams").stdout
    monkeypatch.delenv("WENDELIN_STREAM_STORE")
    config = tmp_path / "site.yaml"
    config.write_text("store: {path: data}\n")
    assert "park.t01.acc" in cli("streams", "--config", config).stdout


def test_unknown_streams_and_wrong_configurations_are_told_in_plain_words(cli, program, store, waveform, tmp_path):
    """The nearest name; file and line; no traceback; 78."""
    result = program("cat", "park.t01.ac", "-s", store)
    assert result.returncode == 78
    assert b"did you mean 'park.t01.acc'" in result.stderr
    assert b"Traceback" not in result.stderr
    config = tmp_path / "wrong.yaml"
    config.write_text("store: {path: data}\nsorces: {}\n")
    result = cli("streams", "--config", config, code=78)
    assert "wrong.yaml:2" in result.stderr
    assert "sources" in result.stderr


def test_usage_errors_are_exit_code_2(cli, store, waveform):
    """A time that is none, an unknown format, a missing argument."""
    assert "--from" in cli("cat", "park.t01.acc", "-s", store, "--from", "noon", code=2).stderr
    cli("cat", "park.t01.acc", "-s", store, "-f", "xml", code=2)
    cli("cat", code=2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 78),
        (BadData("x"), 65),
        (Corrupt("x"), 74),
        (Retry("x"), 75),
        (Locked("x"), 75),
        (OSError(), 74),
    ],
)
def test_errors_have_their_exit_codes(error, code):
    """After sysexits.h, by what the caller does about them."""
    assert exit_code(error) == code
