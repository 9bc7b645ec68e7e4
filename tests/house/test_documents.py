"""The pages that people read: their links lead somewhere and their code runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings as they are linked to: lower case, words joined by hyphens."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings of this repository; addresses outside are not asked."""
    for target, anchor in LINK.findall(without_code(page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(path), f"{target}#{anchor} is not there"


def test_decisions_are_numbered_without_holes() -> None:
    """0001, 0002, ... and each begins with its number, so that a reference to "decision 3" finds it."""
    notes = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [note.name[:4] for note in notes] == [f"{n:04}" for n in range(1, len(notes) + 1)]
    for number, note in enumerate(notes, 1):
        assert note.read_text().startswith(f"# {number}. "), note.name


def test_the_operator_of_the_contributing_page_passes_its_kit(tmp_path: Path) -> None:
    """What a newcomer copies works: the page's operator and its test, in a folder of their own."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    operator, test = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "calibrate.py").write_text(operator)
    (tmp_path / "test_calibrate.py").write_text(test.replace("wendelin_stream.operators.calibrate", "calibrate"))
    options = ["-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout
