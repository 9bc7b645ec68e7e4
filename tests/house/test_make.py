"""`make` on machines that lack something, and `make run` from nothing to Ctrl-C."""

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE_HERE = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "node_modules", "var", "__pycache__")


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """An environment in which these programs, given as shell scripts, come before the machine's own."""

    def environ(**scripts: str) -> dict[str, str]:
        for name, script in scripts.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    return environ


def run(*command: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env)


def test_without_root_the_line_to_type_is_printed(programs) -> None:
    """Only what is missing is named, by its package; nothing is tried."""
    env = programs(id="echo 1000", apt_get="echo apt-get was called; exit 9")
    need = run(ROOT / "scripts/need", "sh:dash", "no-such-program:its-package", "/no/such/file:another", env=env)
    assert need.returncode == 1
    assert "sudo apt-get update && sudo apt-get install --no-install-recommends its-package another\n" in need.stderr
    assert need.stdout == ""


def test_root_gets_it_installed(programs) -> None:
    """With apt-get as Debian has it: lists are fetched first, and nothing asks."""
    env = programs(id="echo 0", apt_get='echo "$DEBIAN_FRONTEND $*" >&2')
    need = run(ROOT / "scripts/need", "no-such-program:its-package", env=env)
    assert need.returncode == 0
    assert need.stderr.splitlines() == [
        "noninteractive update -qq",
        "noninteractive install -qq -y --no-install-recommends its-package",
    ]


def test_nothing_missing_says_nothing(programs) -> None:
    """The usual case is silent."""
    need = run(ROOT / "scripts/need", "sh:dash", "/etc/hostname:base-files", env=programs(apt_get="exit 9"))
    assert (need.returncode, need.stdout, need.stderr) == (0, "", "")


def test_a_python_that_is_too_old_is_named(programs, tmp_path: Path) -> None:
    """Whatever python3 is first in the path: its version, what is needed, and how to name another."""
    env = programs(python3='test "$1" = --version && echo Python 3.9.2; exit 1') | {"PYTHON": "python3"}
    venv = run(ROOT / "scripts/venv", tmp_path / "venv", env=env)
    assert venv.returncode == 1
    assert "needs Python 3.11 or newer. Here: Python 3.9.2." in venv.stderr
    assert "make PYTHON=" in venv.stderr


def test_a_python_without_venv_names_debians_package(programs, tmp_path: Path) -> None:
    """As on a fresh Debian 12, where python3 comes without ensurepip."""
    env = programs(id="echo 1000", apt_get="exit 9", halfpython='case "$2" in *ensurepip*) exit 1;; esac; exit 0')
    venv = run(ROOT / "scripts/venv", tmp_path / "venv", env=env | {"PYTHON": "halfpython"})
    assert venv.returncode == 1
    assert "no module venv or ensurepip" in venv.stdout
    assert "apt-get install --no-install-recommends python3-venv" in venv.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_make_run_from_nothing_to_ctrl_c(tmp_path: Path, free_port) -> None:
    """A copy of the source and an empty environment: it installs, says what to type next, takes data in, and ends
    within 5 s of Ctrl-C, without a word of complaint. Ctrl-C goes to make and all that it started, as from a terminal.
    """
    copy = tmp_path / "source"
    shutil.copytree(ROOT, copy, ignore=MADE_HERE)
    config = copy / "config/demo.yaml"
    config.write_text(config.read_text().replace(":24224", f":{free_port()}"))
    process = subprocess.Popen(
        ["make", "run"], cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        before = until(process, rb"[1-9]\d* acknowledged", seconds=300)
        assert "streams --store" in before
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        after = process.communicate(timeout=20)[0].decode()
        assert time.monotonic() - pressed < 5
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert process.returncode in (0, 130, -signal.SIGINT), before + after
    assert "Traceback" not in before + after
    assert "Error" not in after
    assert any((copy / "var/demo/streams").glob("park.*"))


def until(process: subprocess.Popen[bytes], pattern: bytes, seconds: float) -> str:
    """What the process prints up to a match of `pattern`; fails with it if there is none in time."""
    output, deadline = b"", time.monotonic() + seconds
    while not re.search(pattern, output):
        ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
        piece = os.read(process.stdout.fileno(), 4096) if ready else b""
        assert piece, f"no {pattern!r} in:\n{output.decode()}"
        output += piece
    return output.decode()
