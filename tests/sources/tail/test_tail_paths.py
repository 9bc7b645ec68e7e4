"""Where the patterns of a `tail` source point."""

from __future__ import annotations

from pathlib import Path

from wendelin_stream.config import load


def test_patterns_count_from_the_configuration_file(tmp_path: Path) -> None:
    """One or several, as every other path; not from where the daemon happens to be started."""
    file = tmp_path / "c.yaml"
    file.write_text("""
store: {path: data}
sources:
  one: {type: tail, path: wav/*.wav, tag: t}
  several: {type: tail, path: [x, /y/**], tag: t}
""")
    config = load([file])
    assert config.sources["one"].model_dump()["options"]["path"] == (tmp_path / "wav/*.wav",)
    assert config.sources["several"].model_dump()["options"]["path"] == (tmp_path / "x", Path("/y/**"))
