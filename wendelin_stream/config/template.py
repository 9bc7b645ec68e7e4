"""Templates of stream names: ``{stream}.spectrum``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from wendelin_stream.config.pattern import MAX_LENGTH, Parts, Pattern
from wendelin_stream.errors import BadData


@dataclass(frozen=True)
class Template:
    """A stream name in which ``{variable}`` may stand once. Raises ValueError for what gives no name."""

    text: str
    variable: str

    def __post_init__(self) -> None:
        plain = self.text.replace(self._slot, "", 1)
        if "{" in plain or "}" in plain:
            raise ValueError(f"{self.text!r}: only {self._slot} can be put in, once")
        outside = re.search(r"[^A-Za-z0-9_.-]", plain)
        if outside:
            raise ValueError(f"{self.text!r}: {outside[0]!r} cannot be in a stream name")
        if not all(self.text.replace(self._slot, "x").split(".")):
            raise ValueError(f"{self.text!r} has an empty part: names are words joined by single dots")
        if len(self.text) > MAX_LENGTH:
            raise ValueError(f"{len(self.text)} characters: stream names are not longer than {MAX_LENGTH}")

    @property
    def _slot(self) -> str:
        return "{" + self.variable + "}"

    @property
    def fixed(self) -> bool:
        """Whether it gives one name, whatever is put in."""
        return self._slot not in self.text

    @property
    def plain(self) -> bool:
        """Whether it gives back just what is put in."""
        return self.text == self._slot

    def fill(self, name: str) -> str:
        """The stream name, given an encoded name. Raises BadData if it becomes too long."""
        filled = self.text.replace(self._slot, name)
        if len(filled) > MAX_LENGTH:
            raise BadData(f"the stream name {filled!r} is longer than {MAX_LENGTH} characters")
        return filled

    def names(self, source: Pattern) -> Pattern:
        """The names that it can give for names of `source` (and few others)."""
        if self.fixed:
            return Pattern((self.text,))
        if self.plain:
            return source
        head, tail = self.text.split(self._slot)
        alternatives: Iterator[Parts] = iter(source.alternatives)
        if head and not head.endswith("."):
            alternatives = (solid for parts in alternatives for solid in _solid(parts))
        if tail and not tail.startswith("."):
            alternatives = (solid[::-1] for parts in alternatives for solid in _solid(parts[::-1]))
        return Pattern(tuple(head + ".".join(parts) + tail for parts in alternatives))

    def __str__(self) -> str:
        return self.text


def _solid(parts: Parts) -> Iterator[Parts]:
    """The same names with patterns that do not begin with ``**``, so that text can be put right before them."""
    if parts[:1] == ("**",):
        yield from _solid(parts[1:])
        yield ("*", *parts)
    elif parts:
        yield parts


def _field(variable: str, example: str) -> Any:
    def parse(value: object) -> Template:
        if isinstance(value, Template):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a stream name: write one like {example!r}")  # noqa: TRY004 - pydantic
        return Template(value, variable)

    description = f"name of a stream; {{{variable}}} stands for the {variable}'s name"
    schema = {"type": "string", "description": description, "examples": [example]}
    return BeforeValidator(parse), PlainSerializer(str, return_type=str), WithJsonSchema(schema)


TagTemplate = Annotated[Template, *_field("tag", "raw.{tag}")]
StreamTemplate = Annotated[Template, *_field("stream", "{stream}.spectrum")]
