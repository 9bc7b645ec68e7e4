"""Durable ingest over the forward port, as a ratio to a bare sink in the same run.

Ours: frames parsed, every event checked, deduplicated, stored with checksums, acknowledged after the group commit. The
limit: raw bytes appended with one fdatasync per 20 ms (`bare_sink`). Four connections, the load in its own process.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import EVENTS, payload

CONNECTIONS = 4
FRAMES = {"small": 2500, "binary": 150}
ROUNDS = 3

CONFIG = """
store: {{path: {store}, keep_free: 0 B}}
sources: {{bench: {{type: forward, listen: "127.0.0.1:{port}"}}}}
policies: {{all: {{match: "bench.*"}}}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def process(*argv: str, ready: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A child that is ready when it prints a line with `ready` in it; the line comes along."""
    child = subprocess.Popen([sys.executable, "-m", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    try:
        line = next((line for line in child.stdout if ready in line), None)
        if line is None:
            raise SystemExit(f"{argv[0]} did not start")
        yield child, line
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)
        child.stdout.close()


def load(port: int, kind: str, mode: str) -> float:
    """Seconds that the load took."""
    argv = [sys.executable, "-m", "benchmarks.load", str(port), str(CONNECTIONS), str(FRAMES[kind]), kind, mode]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def bare(folder: Path, kind: str) -> float:
    with process("benchmarks.bare_sink", str(folder / "raw"), ready="") as (_, line):
        seconds = load(int(line), kind, "eof")
    (folder / "raw").unlink()
    return seconds


def ours(folder: Path, kind: str) -> tuple[float, float]:
    """Seconds, and the daemon's CPU seconds."""
    port = free_port()
    config = folder / "bench.yaml"
    config.write_text(CONFIG.format(store=folder / "store", port=port))
    with process("wendelin_stream", "run", "--config", str(config), ready="runs on") as (child, _):
        before = cpu(child.pid)
        seconds = load(port, kind, "acks")
        used = cpu(child.pid) - before
    subprocess.run(["rm", "-rf", str(folder / "store")], check=True)
    return seconds, used


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ratios() -> dict[str, float]:
    """Named figures: ratio of throughputs (1 = as fast as the bare sink), medians of interleaved rounds."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        for kind, count in FRAMES.items():
            pairs = [(bare(folder, kind), *ours(folder, kind)) for _ in range(ROUNDS)]
            frames = CONNECTIONS * count
            seconds = statistics.median(mine for _, mine, _ in pairs)
            figures[f"ingest {kind}: ratio to the bare sink"] = statistics.median(b / mine for b, mine, _ in pairs)
            figures[f"ingest {kind}: events/s"] = frames * EVENTS[kind] / seconds
            figures[f"ingest {kind}: MB/s"] = frames * len(payload(kind)) / seconds / 1e6
            events = frames * EVENTS[kind]
            figures[f"ingest {kind}: CPU s per million events"] = (
                statistics.median(used for *_, used in pairs) / events * 1e6
            )
    return figures


if __name__ == "__main__":
    for figure, value in ratios().items():
        print(f"{figure:50} {value:12.3f}")
