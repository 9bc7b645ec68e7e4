"""Options of the `tail` source."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path, PurePath
from string import Formatter
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from wendelin_stream.plugin import ONE_OR_MORE, Options
from wendelin_stream.units import Duration, Size

_TAG_FIELDS: Final = {"name", "stem", "folder"}


def _listed(value: object) -> object:
    patterns = (value,) if isinstance(value, str | Path) else value
    if isinstance(patterns, list | tuple) and "" in patterns:
        raise ValueError("an empty path is no pattern")
    return patterns


def _template(tag: str) -> str:
    for _, name, spec, conversion in Formatter().parse(tag):
        if name is not None and (name not in _TAG_FIELDS or spec or conversion):
            raise ValueError(f"{{{name}}} is unknown: a tag may hold {{name}}, {{stem}} and {{folder}} of the file")
    return tag


class TailOptions(Options):
    """Which files, from where on, in what pieces."""

    path: Annotated[tuple[Path, ...], BeforeValidator(_listed), WithJsonSchema(ONE_OR_MORE)] = Field(
        min_length=1, description="files to follow: one pattern or a list; * ? [..] and ** as in a shell"
    )
    tag: Annotated[str, Field(min_length=1), AfterValidator(_template)] = Field(
        description="tag of what is read; {name}, {stem} and {folder} stand for the file's name, the name without "
        "its ending, and the folder it is in"
    )
    mode: Literal["bytes", "lines"] = Field(
        default="bytes", description="bytes: blocks as they come; lines: whole lines of text only"
    )
    read_from_head: bool = Field(
        default=False,
        description="whether files that are already there at the very first start are read from their beginning, "
        "not from their end; files that appear later always are",
    )
    order: Literal["name", "mtime"] = Field(
        default="name", description="which of several files comes first: by name, or the one changed longest ago"
    )
    block: Size = Field(default=256 * 1024, ge=1024, le=16 * 2**20, description="bytes that are read at once, at most")
    poll: Duration = Field(default=Fraction(1, 4), description="time between two looks for news")
    buffer: Size = Field(
        default=8 * 2**20,
        ge=2**20,
        description="bytes of one file that may be under way to the disk; then reading waits",
    )
    max_line: Size = Field(
        default=2**20, ge=1024, le=16 * 2**20, description="a longer line is cut into pieces of this size (mode lines)"
    )
    max_open: int = Field(default=128, ge=1, description="files that are held open at the same time")
    rotate_wait: Duration = Field(
        default=Fraction(5),
        description="how long a renamed or deleted file must be quiet before it is taken for finished",
    )

    @model_validator(mode="after")
    def _fits(self) -> TailOptions:
        if self.poll <= 0:
            raise ValueError("poll must be above zero")
        if self.block > self.buffer // 2:
            raise ValueError("buffer must hold two blocks")
        return self

    def tag_of(self, path: str) -> str:
        """The tag of a file at `path`; bytes of its name that are not UTF-8 are surrogate escapes."""
        pure = PurePath(os.path.abspath(path))  # noqa: PTH100  (nothing is resolved)
        return self.tag.format(name=pure.name, stem=pure.stem, folder=pure.parent.name)
