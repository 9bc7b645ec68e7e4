"""The leak check of tests/conftest.py, shown to notice what it is there for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LEAKY = """
import asyncio, subprocess, threading, pytest
from hypothesis import given, strategies as st

kept = []

def test_descriptor():
    kept.append(open("/etc/hostname"))

def test_thread():
    forever = threading.Event()
    threading.Thread(target=forever.wait, name="stuck", daemon=True).start()
    kept.append(forever)

def test_child():
    kept.append(subprocess.Popen(["sleep", "20"]))

async def test_task():
    kept.append(asyncio.create_task(asyncio.sleep(20), name="lost"))

@pytest.mark.leaks("shown on purpose")
def test_allowed():
    kept.append(open("/etc/hostname"))

async def test_clean_server():
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0):
        await asyncio.to_thread(sum, range(10))

@pytest.fixture
async def ticking():
    task = asyncio.create_task(asyncio.sleep(20))
    yield
    task.cancel()
    await asyncio.wait([task])

async def test_clean_fixture(ticking):
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()

@given(st.integers())
async def test_clean_property(number):
    await asyncio.sleep(0)

def test_last():
    process = kept[2]
    process.kill()
    process.wait()
"""


def test_what_a_test_leaves_behind_fails_it_by_name(tmp_path: Path) -> None:
    """Four tests leave one thing each and fail with its name; tests that clean up, or say why not, pass."""
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    options = ["-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert "9 passed, 4 errors" in run.stdout, run.stdout
    for left in ("descriptor /etc/hostname", "thread stuck", ": sleep 20", "task lost"):
        assert left in run.stdout, run.stdout


def test_a_missing_peer_fails_in_ci_and_is_told_elsewhere(monkeypatch: pytest.MonkeyPatch, request) -> None:
    """`need` never lets CI pass without the program that a test is about."""
    need = request.getfixturevalue("need")
    assert need("sh").endswith("/sh")
    monkeypatch.setitem(need.__globals__, "CI", True)
    with pytest.raises(pytest.fail.Exception, match="make install-tests"):
        need("no-such-program")
    monkeypatch.setitem(need.__globals__, "CI", False)
    with pytest.raises(pytest.skip.Exception, match="make install-tests"):
        need("no-such-program")
