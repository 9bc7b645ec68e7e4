"""`connect`, and the streams of a store as a mapping."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wendelin_stream.client.stream import Stream
from wendelin_stream.client.tables import html_table
from wendelin_stream.errors import ConfigError
from wendelin_stream.store import stream_names

SHOWN = 50
"""Streams that a table of a workspace lists."""


def connect(path: str | os.PathLike[str]) -> Workspace:
    """Open a store for reading: ``connect("/srv/data")["park.t01.gearbox.acc"].array``.

    Nothing is locked or changed, a daemon may go on writing. Raises ConfigError if there is no store at `path`.
    """
    if "://" in os.fspath(path):
        raise ConfigError(
            f"{os.fspath(path)!r} is an address, and this version reads local stores only",
            hint="remote access comes with the server; until then give the path of the store",
        )
    workspace = Workspace(Path(path))
    len(workspace)  # reads the folder: a wrong path is said here, not at the first use
    return workspace


class Workspace(Mapping[str, Stream]):
    """The streams of one store by name, as they are at each look: a new one appears by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def __getitem__(self, name: str) -> Stream:
        names = stream_names(self.path)
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {len(names)}: list(ws) names them"
            raise KeyError(f"no stream {name!r} in {self.path}: {hint}")
        return Stream(self.path, name)

    def __contains__(self, name: object) -> bool:
        return name in stream_names(self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(stream_names(self.path))

    def __len__(self) -> int:
        return len(stream_names(self.path))

    def _ipython_key_completions_(self) -> list[str]:
        return stream_names(self.path)

    def __repr__(self) -> str:
        count = len(self)
        return f"<Workspace {str(self.path)!r}: {count} stream{'' if count == 1 else 's'}>"

    def _repr_html_(self) -> str:
        names = stream_names(self.path)
        rows: list[tuple[Any, ...]] = []
        for name in names[:SHOWN]:
            with Stream(self.path, name) as stream:
                rows.append((name, stream.kind, f"{len(stream):,}", stream.what, *stream.span))
        if len(names) > SHOWN:
            rows.append((f"... {len(names) - SHOWN} more", "", "", "", "", ""))
        head = ("stream", "kind", "rows, events or bytes", "signal", "first", "last")
        return html_table(rows, head=head, caption=str(self.path))
