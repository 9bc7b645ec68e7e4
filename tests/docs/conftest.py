"""A reader who does what a page says: writes its files, types its commands, and compares what comes out.

What a fenced block is stands in the line that opens it:

    ```yaml site.yaml     a file to write (so too ```python record.py)
    ```bash               a command to type;  ```python  a program to run
    ```bash daemon        a command for the second terminal; one that runs there already is ended first
    ```python soon        it may have to be done again until it works, because something else is under way
    ```text               what the block before it prints; ``...`` stands for anything
    ```sh                 not for us
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wendelin_stream.testing.daemon import DaemonProcess

BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "wendelin-stream run "
PATIENCE = 20.0


@dataclass
class Step:
    """A block of a page: what is done, and what must come out (None: anything)."""

    language: str
    word: str
    text: str
    line: int
    output: str | None = None


def steps_of(page: str) -> list[Step]:
    """The blocks of a page in order, outputs joined to what gives them."""
    steps: list[Step] = []
    for found in BLOCK.finditer(page):
        language, word, text = found.groups()
        if language == "text":
            steps[-1].output = text
        elif language != "sh":
            steps.append(Step(language, word or "", text, page[: found.start()].count("\n") + 1))
    return steps


def matches(output: str, expected: str) -> bool:
    """Whether an output is as expected but for ``...`` and white space at the ends of lines."""
    lines, wanted = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (output, expected))
    return re.fullmatch(re.escape(wanted).replace(r"\.\.\.", ".*"), lines, re.DOTALL) is not None


class Reader:
    """Does what a page says, in the working directory, with another port than 24224."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._daemon: DaemonProcess | None = None
        self._first_lines = ""
        self._environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._environment.pop("WENDELIN_STREAM_STORE", None)

    def read(self, page: str) -> None:
        """All of it. Fails with the line of the page where something else comes out."""
        for step in steps_of(page.replace("24224", str(self._port))):
            if "." in step.word:
                (self._folder / step.word).write_text(step.text)
            elif step.word == "daemon":
                self._in_the_second_terminal(step)
            else:
                self._do(step)

    def _do(self, step: Step) -> None:
        deadline = time.monotonic() + (PATIENCE if step.word == "soon" else 0)
        while True:
            code, output = self._run(step)
            if code == 0 and (step.output is None or matches(output, step.output)):
                return
            if time.monotonic() > deadline:
                pytest.fail(f"line {step.line}: exit code {code}\n{output}\ninstead of\n{step.output}", pytrace=False)

    def _run(self, step: Step) -> tuple[int, str]:
        """Into a file, so that what it starts in the background keeps nobody waiting."""
        command = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"]}[step.language]
        with (self._folder / ".output").open("w+") as output:
            done = subprocess.run(
                [*command, step.text], env=self._environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
            output.seek(0)
            return done.returncode, output.read()

    def _in_the_second_terminal(self, step: Step) -> None:
        self.close()
        command = step.text.strip()
        assert command.startswith(RUN), f"line {step.line}: {command}"
        configs = [Path(config) for config in re.findall(r"--config (\S+)", command)]
        assert command == RUN + " ".join(f"--config {config}" for config in configs)
        self._daemon = DaemonProcess(*configs, log=self._folder / f".log-{step.line}").start()
        self._first_lines = step.output or ""

    def close(self) -> None:
        """Ctrl-C in the second terminal; it must end well."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            assert daemon.stop() == 0, daemon.log()
            count = len(self._first_lines.splitlines())
            assert matches("\n".join(daemon.log().splitlines()[:count]), self._first_lines), daemon.log()


@pytest.fixture
def reader(tmp_path: Path, free_port, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Somebody who does what a page says, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path, free_port())
    yield reader
    reader.close()
