"""The position file: how far each file was durable, replaced whole about once a second.

It is the second opinion. The store's own answer is written with the rows and therefore exact, so it goes first where
there is one (see `tailer`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wendelin_stream.errors import BadData
from wendelin_stream.sources.tail.identity import WINDOW, Mark

NAME: Final = "positions.json"
MOST_ABSENT: Final = 10_000
"""Entries of files that are not there at present which are kept, the latest ones."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of a file.

    path: where it was last.  tag: under which its first piece went out.  generation: how often it was begun anew.
    offset: durable bytes.  time: of its first sample, ns UTC.  marks: see `Mark`.
    """

    path: str
    tag: str
    generation: int
    offset: int
    time: int
    marks: tuple[Mark, ...] = ()


def load(folder: Path) -> dict[int, Entry] | None:
    """The entries by file key; None if there is no position file. Raises BadData if it is damaged, OSError."""
    try:
        raw = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        files = json.loads(raw)["files"]
        return {int(key, 16): _entry(value) for key, value in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadData(f"{folder / NAME} is damaged ({type(error).__name__}: {error})") from error


def _entry(value: Mapping[str, Any]) -> Entry:
    path, tag = value["path"], value["tag"]
    generation, offset, time = value["generation"], value["offset"], value["time"]
    marks = tuple(Mark(end, digest) for end, digest in value["marks"])
    if not all(type(number) is int and 0 <= number < 2**63 for number in (generation, offset, time)):
        raise ValueError("a number is missing")
    if not all(type(mark.end) is int and mark.end >= WINDOW for mark in marks):
        raise ValueError("a mark is before the file's beginning")
    if not all(isinstance(text, str) for text in [path, tag, *(mark.digest for mark in marks)]):
        raise ValueError("a text is missing")
    return Entry(path, tag, generation, offset, time, marks)


def save(folder: Path, entries: Mapping[int, Entry]) -> None:
    """Replace the position file: temporary file, fsync, rename, fsync of the folder. Raises OSError."""
    files = {
        f"{key:016x}": {
            "path": entry.path,
            "tag": entry.tag,
            "generation": entry.generation,
            "offset": entry.offset,
            "time": entry.time,
            "marks": [[mark.end, mark.digest] for mark in entry.marks],
        }
        for key, entry in entries.items()
    }
    temporary = folder / f"{NAME}.new"
    with temporary.open("w", encoding="ascii") as file:
        json.dump({"version": 1, "files": files}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
