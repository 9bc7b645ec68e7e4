"""The tutorial, done from beginning to end with a real daemon."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_tutorial_does_what_it_says(reader, tmp_path: Path) -> None:
    """Every file is written, every command typed, every output that the page states comes out; pictures are drawn."""
    reader.read((DOCS / "tutorial.md").read_text())
    assert {path.name for path in tmp_path.glob("*.png")} == {"tone.png", "health.png"}
