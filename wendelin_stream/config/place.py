"""Where something stands in the configuration, and how an error says so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wendelin_stream.errors import ConfigError

Key = str | int
KeyPath = tuple[Key, ...]

_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of a file; lines count from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Place:
    """A dotted place like ``pipelines.spectrum.do[0].welch.fmax``, and the lines of all places of the same files."""

    path: KeyPath = ()
    marks: Mapping[KeyPath, Mark] = field(default_factory=dict, repr=False, compare=False)

    def at(self, *keys: Key) -> Place:
        """A place further in."""
        return Place((*self.path, *keys), self.marks)

    @property
    def mark(self) -> Mark | None:
        """Where it is written, or the nearest place around it that is."""
        paths = (self.path[:length] for length in range(len(self.path), -1, -1))
        return next((self.marks[path] for path in paths if path in self.marks), None)

    @property
    def folder(self) -> Path:
        """Folder of the file that it is written in: what relative paths there are relative to. Absolute."""
        mark = self.mark
        return Path(mark.file).absolute().parent if mark else Path.cwd()

    def error(self, what: str, *, hint: str = "") -> ConfigError:
        """The error that is to be shown here."""
        mark = self.mark
        return ConfigError(
            what, where=str(self), source=mark.file if mark else "", line=mark.line if mark else None, hint=hint
        )

    def locate(self, error: Exception) -> ConfigError:
        """The same error, told here; `error.where` may be the whole place or name an option further in.

        An error that says already in which file it is stays as it is.
        """
        if not isinstance(error, ConfigError):
            return self.error(str(error))
        if error.source:
            return error
        further = error.where.removeprefix(str(self)).strip(".")
        inner = self.at(*further.split(".")) if further else self
        return inner.error(error.what, hint=error.hint)

    def __str__(self) -> str:
        text = ""
        for key in self.path:
            if isinstance(key, int):
                text += f"[{key}]"
            else:
                text += ("." if text else "") + (key if _PLAIN.match(key) else repr(key))
        return text


NOWHERE = Place()


class ConfigErrors(ConfigError):
    """All that is wrong, one `ConfigError` each in `errors`, in the order of files and lines."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = list(errors)

    def __str__(self) -> str:
        return self.what


def in_order(errors: Iterable[ConfigError]) -> list[ConfigError]:
    """By line within each file, files in the order of their first error; the same error once."""
    unique = {str(error): error for error in errors}.values()
    files = list(dict.fromkeys(error.source for error in unique))
    return sorted(unique, key=lambda error: (files.index(error.source), error.line or 0))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    return next(iter(difflib.get_close_matches(name, sorted(set(known)), n=1)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint: the name that was probably meant, else all that there are."""
    names = sorted(set(known))
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"
