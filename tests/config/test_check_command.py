"""`check`, with the plugins that are installed: the example of the manual, and how mistakes end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from sklearn.linear_model import LinearRegression
from typer.testing import CliRunner, Result

from wendelin_stream.cli.check import check
from wendelin_stream.models import save_model
from wendelin_stream.store import Store

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))

EXAMPLE = """\
store: {{path: {store}, sync: 20 ms, keep_free: 2 GB}}

sources:
  fluent: {{type: forward, listen: "127.0.0.1:24224"}}
  audio:  {{type: tail, path: /srv/recordings/*.wav, tag: pydata}}

policies:
  vibration:
    match: park.*.gearbox.acc
    codec: {{pcm: {{dtype: "<f4", channels: [x, y, z], rate: 25.6 kHz, unit: m/s2}}}}
  pydata: {{match: pydata, codec: wav}}

pipelines:
  spectrum:
    from: park.*.gearbox.acc
    do:
      - welch: {{fmax: {fmax}, lines: 3200, overlap: 50 %, average: 8}}
    into: "{{stream}}.spectrum"
  health:
    from: park.*.gearbox.acc
    do:
      - features: {{window: 1 s}}
      - predict: {{model: gearbox, max_wait: 200 ms}}
    into: "{{stream}}.health"

models:
  gearbox: {{path: gearbox.skops, sha256: {digest}}}
"""


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small model for the 21 features of three channels, and its digest."""
    path = tmp_path_factory.mktemp("models") / "gearbox.skops"
    return path, save_model(LinearRegression().fit(np.eye(21), np.arange(21.0)), path)


@pytest.fixture
def example(write: Callable[..., Path], digest: tuple[Path, str], tmp_path: Path) -> Callable[..., Path]:
    """The example of the manual, with one of its values changed."""
    model, sha256 = digest

    def file(**changes: str) -> Path:
        (tmp_path / "gearbox.skops").write_bytes(model.read_bytes())
        return write(EXAMPLE.format(**{"store": "data", "fmax": "10 kHz", "digest": sha256} | changes))

    return file


def run(*arguments: object) -> Result:
    """The command by itself, as `wendelin-stream check` runs it."""
    app = typer.Typer()
    app.command()(check)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_example_of_the_manual_is_right(example: Callable[..., Path], tmp_path: Path):
    """A summary of what it comes to, exit code 0, and nothing is written."""
    path = example()
    result = run("--config", path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"The configuration is right. Store: {tmp_path}/data",
        "source fluent: forward",
        "source audio: tail",
        "policy vibration: park.*.gearbox.acc -> {tag}, pcm",
        "policy pydata: pydata -> {tag}, wav",
        "pipeline spectrum: park.*.gearbox.acc -> welch",
        "  -> park.*.gearbox.acc.spectrum: <f8 [x,y,z] x 3201 frequency (m/s2)^2/Hz at 0.78125 per second",
        "pipeline health: park.*.gearbox.acc -> features -> predict",
        "  -> park.*.gearbox.acc.health: <f8 [prediction] at 1 per second",
        f"model gearbox: {tmp_path}/gearbox.skops",
    ]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.yaml", "gearbox.skops"]


def test_the_summary_for_programs(example: Callable[..., Path], tmp_path: Path):
    """The same as JSON, signals included; `--store` goes before the file's."""
    result = run("-c", example(), "--json", "--store", tmp_path / "elsewhere")
    facts = json.loads(result.stdout)
    assert (result.exit_code, facts["ok"], facts["store"]) == (0, True, f"{tmp_path}/elsewhere")
    (output,) = facts["pipelines"]["spectrum"]["outputs"]
    assert output["streams"] == ["park.*.gearbox.acc.spectrum"]
    assert output["signal"]["axes"][0]["size"] == 3201
    assert facts["sources"] == {"fluent": "forward", "audio": "tail"}


def test_a_mistake_in_the_file_ends_with_78(example: Callable[..., Path]):
    """One line for each error on stderr, nothing on stdout."""
    path = example(fmax="10 kHzz")
    result = run("-c", path)
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr == (
        f"{path}:17: pipelines.spectrum.do[0].welch.fmax: unknown unit 'kHzz': "
        "use one of mHz, Hz, kHz, MHz, like '25.6 kHz'\n"
    )


def test_a_mistake_that_only_the_signal_shows(example: Callable[..., Path]):
    """welch on 25.6 kHz cannot reach 20 kHz: told at the option, with what the pipeline reads."""
    path = example(fmax="20 kHz")
    result = run("-c", path)
    assert result.exit_code == 78
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{path}:17: pipelines.spectrum.do[0].welch")
    assert "the pipeline reads park.*.gearbox.acc of policy 'vibration': <f4 [x,y,z] m/s2 at 25600 per second" in line


def test_another_model_than_declared(example: Callable[..., Path]):
    """The digest is pinned: told once, at the model, whatever pipelines use it."""
    path = example(digest="ab" * 32)
    result = run("-c", path, "--json")
    assert result.exit_code == 78
    (error,) = json.loads(result.stdout)["errors"]
    assert (error["file"], error["line"], error["where"]) == (str(path), 27, "models.gearbox")
    assert "expected abab" in error["what"]


def test_the_store_takes_part(example: Callable[..., Path], tmp_path: Path):
    """A stream that is there with other content is told before the daemon starts."""
    store = Store(tmp_path / "data")
    store.writer("park.t1.gearbox.acc", "events")
    store.close()
    result = run("-c", example())
    assert result.exit_code == 78
    assert "policies.vibration.codec: stream 'park.t1.gearbox.acc' is there already and holds events" in result.stderr


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_files_that_we_ship_are_right(path: Path, store_path: Path):
    """Every YAML file in `config/`, on an empty store."""
    result = run("-c", path, "--store", store_path)
    assert (result.exit_code, result.stderr) == (0, "")


def test_no_file_is_no_traceback(tmp_path: Path):
    """The system's reason, exit code 78."""
    result = run("-c", tmp_path / "none.yaml")
    assert (result.exit_code, result.stderr) == (
        78,
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n",
    )
