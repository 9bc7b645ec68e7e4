"""The demo from its command to its score: a park, the daemon, a model fitted to healthy minutes, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.daemon_kit import until
from wendelin_stream import connect

CONFIG = Path("config/demo.yaml")


def command(folder: Path, port: int, *arguments: str) -> list[str]:
    """The demo with a copy of its configuration that listens elsewhere and needs less room."""
    text = (
        CONFIG.read_text()
        .replace("127.0.0.1:24224", f"127.0.0.1:{port}")
        .replace("keep_free: 500 MB", "keep_free: 0 B")
    )
    (folder / "demo.yaml").write_text(text)
    own = ["--config", str(folder / "demo.yaml"), "--store", str(folder / "store")]
    return [sys.executable, "-m", "wendelin_stream", "demo", *own, *arguments]


def daemons(folder: Path) -> list[int]:
    """Processes that were started on the folder's store."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in line:
                found.append(int(process.name))
    return found


@pytest.mark.timeout(120)
def test_the_score_of_the_faulty_turbine_rises_above_all_others(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """20 s of health, 40 s of a growing fault: at the end t02 scores 3 times what t01 does, and what it did itself."""
    demo = command(tmp_path, free_port(), "--speed", "200", "--healthy", "20 s", "--duration", "60 s")
    result = subprocess.run(demo, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert daemons(tmp_path) == []
    park = connect(tmp_path / "store")
    scores = {name: park[f"park.{name}.drivetrain.acc.features.health"].array[:, 0] for name in ("t01", "t02")}
    assert all(len(score) >= 55 for score in scores.values())
    last = {name: float(np.median(score[-5:])) for name, score in scores.items()}
    first = float(np.median(scores["t02"][:15]))
    assert last["t02"] > 3 * last["t01"]
    assert last["t02"] > 3 * first
    with park["park.t01.drivetrain.acc"] as stream:
        assert 0 <= len(stream) - 60 * 25_600 < 8192, "up to the end of the last block"
        assert not stream.reader.index()["flags"].any()


@pytest.mark.parametrize("when", ["starting", "running"])
def test_ctrl_c_ends_it_within_five_seconds(tmp_path: Path, free_port: Callable[[], int], when: str) -> None:
    """While the daemon starts, or in the middle of the feed: exit code 0, no process is left, all is on disk."""
    with (tmp_path / "out").open("wb") as out:
        demo = subprocess.Popen(command(tmp_path, free_port()), stdout=out, stderr=out, start_new_session=True)
    try:
        if when == "running":
            until(lambda: stored(tmp_path) > 10_000, "the park's data", 30)
        else:
            until(lambda: len(daemons(tmp_path)) > 1, "the daemon's process", 30)
        begun = time.monotonic()
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(timeout=5) == 0, (tmp_path / "out").read_text()
        assert time.monotonic() - begun < 5
        assert daemons(tmp_path) == []
    finally:
        for process in daemons(tmp_path):
            os.kill(process, signal.SIGKILL)
        demo.wait()
    assert "Ended. The data is in" in (tmp_path / "out").read_text()


def stored(folder: Path) -> int:
    """Rows of the first turbine."""
    if not (folder / "store" / "streams").is_dir():
        return 0
    store, name = connect(folder / "store"), "park.t01.drivetrain.acc"
    if name not in store:
        return 0
    with store[name] as stream:
        return len(stream)
