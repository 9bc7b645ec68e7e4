"""Record a WAV, let it be picked up, see the data stream grow: with this daemon alone, through restarts and kills."""

from __future__ import annotations

import struct
import time
import wave
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wendelin_stream import connect
from wendelin_stream.client import Stream
from wendelin_stream.testing.daemon import DaemonProcess

ALSA = Path("/usr/share/sounds/alsa")
RATE = 8000

CONFIG = """
store: {{path: {folder}/store, keep_free: 0 B}}
sources:
  audio: {{type: tail, path: "{folder}/recordings/*.wav", tag: "{tag}", read_from_head: true, poll: 50 ms}}
policies:
  pydata: {{match: "pydata.**", codec: wav}}
"""


def configure(folder: Path, tag: str) -> Path:
    (folder / "recordings").mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder, tag=tag))
    return folder / "config.yaml"


def until(true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Look again and again: the daemon is another process."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def stream(folder: Path, name: str) -> Stream | None:
    store = folder / "store"
    if not (store / "streams" / name / "stream.json").exists():
        return None
    return connect(store)[name]


def rows(folder: Path, name: str) -> int:
    found = stream(folder, name)
    if found is None:
        return 0
    with found:
        return len(found)


def test_recorded_files_are_read_back_sample_for_sample(tmp_path: Path) -> None:
    """The WAV files of alsa-utils, one stream each: every sample, the file's rate and number of channels."""
    files = sorted(ALSA.glob("*.wav"))
    assert files, f"{ALSA} has no WAV files: apt-get install alsa-utils"
    config = configure(tmp_path, "pydata.{stem}")
    for file in files:
        (tmp_path / "recordings" / file.name).write_bytes(file.read_bytes())
    with DaemonProcess(config, log=tmp_path / "log"):
        for file in files:
            with wave.open(str(file)) as recording:
                frames, channels = recording.getnframes(), recording.getnchannels()
                rate, expected = recording.getframerate(), recording.readframes(frames)
            name = f"pydata.{file.stem}"
            until(lambda n=name, f=frames: rows(tmp_path, n) == f, f"{frames} rows of {name}")  # type: ignore[misc]
            found = stream(tmp_path, name)
            assert found is not None
            with found:
                assert found.array.shape == (frames, channels)
                assert found.array.tobytes() == expected
                assert found.signal is not None
                assert found.signal.rate == Fraction(rate)


def header(frames: int) -> bytes:
    """A mono 16-bit header for that many frames."""
    size = frames * 2
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_recording_in_progress_grows_its_stream_through_restarts(tmp_path: Path, end: str) -> None:
    """Appended in uneven pieces while tailed, the daemon stopped or killed in the middle of it: every sample once."""
    config = configure(tmp_path, "pydata")
    samples = np.random.default_rng(5).integers(-(2**15), 2**15, 40_000).astype("<i2")
    data = samples.tobytes()
    file = tmp_path / "recordings" / "live.wav"
    file.write_bytes(header(0))  # a recorder writes the length last
    cuts = [0, 1, 5_001, 20_000, 20_003, 41_111, 60_001, len(data)]
    daemon = DaemonProcess(config, log=tmp_path / "log")
    for number, (start, stop) in enumerate(pairwise(cuts)):
        with file.open("ab") as growing:
            growing.write(data[start:stop])
        if number % 2 == 0:
            daemon.start()
        until(lambda stop=stop: rows(tmp_path, "pydata") == stop // 2, f"{stop // 2} samples")  # type: ignore[misc]
        if number % 2 == 1:
            daemon.stop() if end == "stop" else daemon.kill()
    daemon.stop()
    found = stream(tmp_path, "pydata")
    assert found is not None
    with found:
        assert found.array.tobytes() == data
        steps = np.diff(found.times().astype(np.int64))
        assert steps.min() == steps.max() == 10**9 // RATE, "one time base for the whole file"
