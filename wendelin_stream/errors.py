"""Errors, named by what the caller does about them.

`ConfigError`: the user edits the file. `Retry`: again after a delay. `BadData`: this item never
will work, it goes to the dead letter with the reason. `Corrupt`: this stream stops, the others go
on. `Locked`: another process is at work there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class WendelinStreamError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(WendelinStreamError, ValueError):
    """The user must edit something: a file, a line, an option.

    `source` is the file, `line` counts from 1, `where` is the dotted key, `hint` says what to do next.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        source: str = "",
        line: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(what)
        self.what, self.where, self.source, self.line, self.hint = what, where, source, line, hint

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        text = ": ".join(part for part in (place, self.where, self.what) if part)
        return f"{text} ({self.hint})" if self.hint else text


class Retry(WendelinStreamError):
    """Not now: try again after `delay` seconds. Nothing was stored."""

    def __init__(self, what: str, *, delay: float = 1.0) -> None:
        super().__init__(what)
        self.delay = delay


class BadData(WendelinStreamError, ValueError):
    """This item never will work, however often it is sent."""


class Corrupt(WendelinStreamError):
    """A file breaks an invariant or the disk failed: the stream stops, the others go on.

    `stream` is its name, `position` the byte offset in the stream (None: not about one place).
    """

    def __init__(self, what: str, *, stream: str = "", position: int | None = None) -> None:
        super().__init__(what)
        self.stream, self.position = stream, position

    def __str__(self) -> str:
        text = super().__str__()
        at = "" if self.position is None else f" at byte {self.position}"
        return f"stream {self.stream}{at}: {text}" if self.stream else text


class Locked(WendelinStreamError):
    """Another process writes there; the text names it."""


@contextmanager
def translate(table: Mapping[type[BaseException], type[WendelinStreamError]]) -> Iterator[None]:
    """Turn foreign exceptions into ours at a seam: ``with translate({OSError: Retry}): ...``."""
    try:
        yield
    except WendelinStreamError:
        raise
    except tuple(table) as error:
        for foreign, ours in table.items():
            if isinstance(error, foreign):
                raise ours(str(error) or type(error).__name__) from error
        raise
