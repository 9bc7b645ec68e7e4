"""The configurations in config/ are right, so that somebody who copies one begins with something that runs."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_check_has_nothing_against_it(config: Path, store_path: Path) -> None:
    """Down to the signals in the last pipeline, on a store that does not exist yet and is not made by looking."""
    command = [sys.executable, "-m", "wendelin_stream", "check", "--config", config, "--store", store_path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert not store_path.exists()
