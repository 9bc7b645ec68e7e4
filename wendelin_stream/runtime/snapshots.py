"""State of operators whose memory has no bound: one file per checkpoint, durable before the record that needs it.

Operators that are `Bounded` need none: they are fed their input again (decision 0001).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from wendelin_stream.errors import Corrupt, WendelinStreamError, translate
from wendelin_stream.plugin import Operator
from wendelin_stream.store import FileSystem, replace_file

UNREADABLE = (OSError, ValueError, KeyError, BadZipFile, EOFError)

KEPT = 8
"""Newest snapshots that stay: more than a pipeline has checkpoints under way, so that the durable one is among them."""


class Snapshots:
    """The snapshots of one pipeline instance, named by the input row behind the last that went into them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = FileSystem()

    def save(self, row: int, operators: Sequence[Operator], after_gap: bool) -> None:
        """Keep the state of all operators durably, in order. Raises OSError."""
        arrays = {"after_gap": np.array(after_gap)}
        for number, operator in enumerate(operators):
            arrays |= {f"{number}.{name}": array for name, array in operator.snapshot().items()}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._files, self._path(row), content.getvalue())
        for old in self._all()[:-KEPT]:
            old.unlink()

    def restore(self, row: int, operators: Sequence[Operator]) -> bool:
        """Set fresh operators to the state at `row`; whether a gap waits to be written. Raises Corrupt.

        Snapshots of checkpoints that never came about are removed: they would push out the one that counts.
        """
        path = self._path(row)
        unreadable: dict[type[BaseException], type[WendelinStreamError]] = dict.fromkeys(UNREADABLE, Corrupt)
        with translate(unreadable), np.load(path, allow_pickle=False) as arrays:
            for number, operator in enumerate(operators):
                prefix = f"{number}."
                own = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
                operator.restore(own)
            after_gap = bool(arrays["after_gap"])
        for other in self._all():
            if other != path:
                other.unlink()
        return after_gap

    def clear(self) -> None:
        """Remove all: the output begins anew, and what is there belongs to an earlier one."""
        for path in self._all():
            path.unlink()

    def _path(self, row: int) -> Path:
        return self._folder / f"{row:020d}.npz"

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("*.npz"))
