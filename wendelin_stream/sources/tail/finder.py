"""What the patterns find: regular files below the folders that the configuration names, nothing else."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wendelin_stream.sources.tail.identity import Look, look

logger = logging.getLogger(__name__)


class Finder:
    """Looks for files again and again; what it leaves out it says once, until that changes."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._said: dict[str, str] = {}

    def find(self) -> dict[int, tuple[str, Look]]:
        """Path and look of each file by key, in order of the patterns and of names; a file once, by its first name."""
        found: dict[int, tuple[str, Look]] = {}
        says: dict[str, str] = {}
        for pattern in self._patterns:
            for path, seen in _matches(pattern, says):
                found.setdefault(seen.key, (path, seen))
        for path, text in says.items():
            if self._said.get(path) != text:
                logger.warning("%s %s", path, text)
        self._said = says
        return found


def _matches(pattern: str, says: dict[str, str]) -> Iterator[tuple[str, Look]]:
    root = os.path.realpath(_root(pattern))
    folders: dict[str, bool] = {}
    for path in sorted(glob.glob(pattern, recursive=True)):
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder not in folders:
            folders[folder] = Path(os.path.realpath(folder or ".")).is_relative_to(root)
        try:
            seen = look(path)
        except FileNotFoundError:
            continue  # gone since it was listed
        except OSError as error:
            says[path] = f"cannot be looked at: {error.strerror}"
            continue
        if seen.regular and folders[folder]:
            yield path, seen
        elif seen.regular:
            says[path] = f"is reached by a symbolic link that leaves {root}: it is not read"
        elif Path(path).is_symlink() and not Path(path).is_dir():
            says[path] = "is a symbolic link: it is not followed"


def _root(pattern: str) -> str:
    """The folder of a pattern before its first wildcard: what lies below it may be read."""
    folder = os.path.dirname(pattern)  # noqa: PTH120
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)  # noqa: PTH120
    return folder or "."
