"""The systemd unit that we ship, judged by systemd's own tools."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "config/wendelin-stream.service"
PROGRAM = "/opt/wendelin-stream/venv/bin/wendelin-stream"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it is after installation: its program exists, here in a folder of the test."""
    program = tmp_path / "wendelin-stream"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert text.count(PROGRAM) == 1
    path.write_text(text.replace(PROGRAM, str(program)))
    return path


def analyze(need, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *map(str, arguments)]
    environ = os.environ | {"SYSTEMD_LOG_LEVEL": "info", "SYSTEMD_PAGER": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environ)


def test_systemd_finds_nothing_to_remark(unit: Path, need) -> None:
    """`verify` returns 0 for a key that it does not know, so that not one line is allowed."""
    run = analyze(need, "verify", unit)
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "")


def test_the_check_would_see_a_misspelt_key(unit: Path, need) -> None:
    """The test above can fail."""
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSecs"))
    assert "WatchDogSecs" in analyze(need, "verify", unit).stderr


def test_exposure_is_at_most_one_and_a_half(unit: Path, need) -> None:
    """systemd's measure from 0 to 10; the threshold is in tenths."""
    run = analyze(need, "security", "--offline=true", "--threshold=15", unit)
    assert run.returncode == 0, run.stdout + run.stderr


def test_refused_system_calls_do_not_kill() -> None:
    """NumPy's BLAS calls mbind, which the filter refuses: without an error number that is SIGSYS at start."""
    assert re.search(r"^SystemCallErrorNumber=EPERM$", UNIT.read_text(), re.MULTILINE)


def test_paths_of_the_documents_are_those_of_the_unit() -> None:
    """Who follows docs/install.md gets what the unit starts."""
    page = (ROOT / "docs/install.md").read_text()
    start = re.search(r"^ExecStart=(\S+) run --config (\S+)$", UNIT.read_text(), re.MULTILINE)
    assert start is not None
    assert all(path in page for path in start.groups())
