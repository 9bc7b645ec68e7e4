"""The other pages: their examples run, their configurations are right, and the format is the one on disk."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wendelin_stream.batch import Signal
from wendelin_stream.config import load
from wendelin_stream.store import Chunk, Part, Store, StoreConfig
from wendelin_stream.store.format import IDX

ROOT = Path(__file__).parents[2]
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_readme_does_what_it_says(reader, tmp_path: Path) -> None:
    """Its configuration, its senders and its readers, with a real daemon."""
    reader.read((ROOT / "README.md").read_text())
    assert (tmp_path / "spectrum.png").exists()


def test_configurations_of_pages_can_be_read(tmp_path: Path) -> None:
    """Also parts of one: keys, quantities, patterns and options are right."""
    examples = YAML.findall((ROOT / "docs/configuration.md").read_text())
    assert examples
    for number, example in enumerate(examples):
        config = tmp_path / f"{number}.yaml"
        config.write_text(example)
        load([config], store=tmp_path)


def test_check_says_what_the_page_shows(tmp_path: Path) -> None:
    """Two mistakes in the page's first configuration: file, line, and the nearest right name."""
    page = (ROOT / "docs/configuration.md").read_text()
    config = (
        YAML.findall(page)[0].replace("keep_free: 2 GB", "keep_free: 2 Gigs").replace("match: park", "macht: park", 1)
    )
    (tmp_path / "site.yaml").write_text(config)
    command = [sys.executable, "-m", "wendelin_stream", "check", "--config", "site.yaml"]
    check = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert check.returncode == 78
    assert f"```text\n{check.stderr}```" in page


def test_the_index_record_is_as_the_page_has_it() -> None:
    """Every field at its place, of its type, in order."""
    page = (ROOT / "docs/file-format.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| `(\S+)` \|", page, re.MULTILINE)
    fields = [(str(offset), name, str(dtype.str).replace("|", "")) for name, (dtype, offset) in IDX.fields.items()]
    assert rows == fields


def test_the_page_reads_a_stream_without_us(store_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The example of the format page, on a stream of several data files: all its rows, in order."""
    signal = Signal(np.dtype("<f4"), ("x", "y"), rate=5000)
    wanted = np.arange(60_000, dtype="<f4").reshape(-1, 2)
    with Store(store_path / "data", StoreConfig(keep_free=0, segment=65_536)) as store:
        writer = store.writer("lab.shaker.acc", "rows", signal)
        for piece in np.split(wanted, 6):
            writer.append(Chunk([Part([piece.tobytes()], len(piece))])).wait()
    monkeypatch.chdir(store_path)
    (example,) = PYTHON.findall((ROOT / "docs/file-format.md").read_text())
    found: dict = {}
    exec(example, found)
    assert capsys.readouterr().out == "(30000, 2) float32\n"
    assert np.array_equal(found["rows"], wanted)
