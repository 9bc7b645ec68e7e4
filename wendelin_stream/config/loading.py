"""From files to a `Config`: read, merge, validate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wendelin_stream.config.document import Document, read
from wendelin_stream.config.model import Config
from wendelin_stream.config.place import ConfigErrors, KeyPath, Mark, Place, in_order
from wendelin_stream.config.reader import Reader
from wendelin_stream.errors import ConfigError


def load(paths: Sequence[Path], *, store: Path | None = None) -> Config:
    """The configuration in these files together.

    Sections are merged by name; a name in two files is an error. Relative paths in a file (every option that is a
    path) count from its folder; `store` replaces ``store.path`` and counts from the working directory.
    Nothing is looked at but the files themselves: `verify` does the rest.

    Raises ConfigErrors with everything that is wrong.
    """
    documents = [read(path) for path in paths]
    merged = merge(documents)
    if any(document.fatal for document in documents):
        store = store or Path()  # the path may stand in the file that could not be read
    reader = Reader(merged.data, Place((), merged.marks))
    config = reader.config(store)
    errors = merged.errors + reader.errors
    if errors or config is None:
        raise ConfigErrors(in_order(errors))
    return config


def merge(documents: Sequence[Document]) -> Document:
    """The documents as one. What is there twice stays as it was first, and is an error."""
    merged = Document()
    for document in documents:
        merged.errors += document.errors
        for path, mark in document.marks.items():
            merged.marks.setdefault(path, mark)
        for section, content in document.data.items():
            merged.errors += _add(merged, section, content, document.marks)
    return merged


def _add(merged: Document, section: str, content: Any, marks: Mapping[KeyPath, Mark]) -> list[ConfigError]:
    present = merged.data.get(section)
    if present is None:
        merged.data[section] = content
        merged.marks[(section,)] = marks[(section,)]
        return []
    if content is None:
        return []
    if not isinstance(present, dict) or not isinstance(content, dict):
        return [_twice((section,), marks, merged.marks)]
    merged.data[section] = present | {name: value for name, value in content.items() if name not in present}
    return [_twice((section, name), marks, merged.marks) for name in content if name in present]


def _twice(path: KeyPath, marks: Mapping[KeyPath, Mark], first: Mapping[KeyPath, Mark]) -> ConfigError:
    return Place(path, marks).error(f"is there already, in {first[path].file}:{first[path].line}")
