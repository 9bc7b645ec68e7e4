"""Which names a rule means: Fluentd's match syntax on dotted names.

Names are streams' names and tags in their percent-encoded form, so patterns stay in the alphabet
``A-Z a-z 0-9 _ - %`` and the dot. Everything here takes time that grows with the lengths only.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, product
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

Parts = tuple[str, ...]
"""A pattern without braces, split at its dots: each is ``**``, a glob, or plain."""

MAX_LENGTH = 200
MAX_ALTERNATIVES = 64

_BRACES = re.compile(r"\{([^{}]*)\}")
_OUTSIDE = re.compile(r"[^A-Za-z0-9_%*.{},-]")


@dataclass(frozen=True)
class Pattern:
    """``*`` stands for one part or within a part (``gear*``), ``**`` for any number of parts, ``{a,b}`` for either.

    texts: one or several patterns, of which one must match. Raises ValueError for what is no pattern.
    """

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.alternatives:
            raise ValueError("an empty list matches nothing: give at least one pattern")

    @classmethod
    def of(cls, value: object) -> Pattern:
        """A pattern from what a user wrote: a text or a list of texts. Raises ValueError."""
        if isinstance(value, Pattern):
            return value
        texts = (value,) if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{value!r} is not a pattern: write one like 'park.*.gearbox.acc', or a list of them")
        for text in texts:
            if len(text) > MAX_LENGTH:
                raise ValueError(f"a pattern of {len(text)} characters: names are not longer than {MAX_LENGTH}")
        pattern = cls(tuple(texts))
        if len(pattern.alternatives) > MAX_ALTERNATIVES:
            raise ValueError(f"more than {MAX_ALTERNATIVES} alternatives")
        return pattern

    @cached_property
    def alternatives(self) -> tuple[Parts, ...]:
        """The same without braces."""
        return tuple(dict.fromkeys(parts for text in self.texts for parts in _expand(text)))

    @property
    def literal(self) -> str | None:
        """The one name that it matches, or None if it may match several."""
        names = [".".join(parts) for parts in self.alternatives]
        return names[0] if len(names) == 1 and "*" not in names[0] else None

    def matches(self, name: str) -> bool:
        """Whether a name is meant."""
        parts = tuple(name.split("."))
        return any(_covers(mine, parts) for mine in self.alternatives)

    def overlaps(self, other: Pattern) -> bool:
        """Whether some name is meant by both."""
        return any(_overlap(mine, theirs) for mine in self.alternatives for theirs in other.alternatives)

    def covers(self, other: Pattern) -> bool:
        """True only if every name that `other` means is meant here too; decided alternative by alternative."""
        return all(any(_covers(mine, theirs) for mine in self.alternatives) for theirs in other.alternatives)

    def narrow(self, other: Pattern) -> Pattern | None:
        """A pattern that means every name that both mean, and few others. None if no name is meant by both."""
        pairs = product(self.alternatives, other.alternatives)
        common = dict.fromkeys(_narrower(mine, theirs) for mine, theirs in pairs if _overlap(mine, theirs))
        if len(common) > MAX_ALTERNATIVES:
            return self
        return Pattern(tuple(".".join(parts) for parts in common)) if common else None

    def __str__(self) -> str:
        return " or ".join(self.texts)


PatternField = Annotated[
    Pattern,
    BeforeValidator(Pattern.of),
    PlainSerializer(lambda pattern: list(pattern.texts), return_type=list[str]),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "description": "pattern of dotted names: * is one part, ** any number of parts, {a,b} either",
            "examples": ["park.*.gearbox.acc"],
        }
    ),
]


def _expand(text: str) -> list[Parts]:
    outside = _OUTSIDE.search(text)
    if outside:
        encoded = "".join(f"%{byte:02X}" for byte in outside[0].encode(errors="surrogateescape"))
        raise ValueError(f"{text!r}: {outside[0]!r} cannot be in a pattern; names have it as {encoded}")
    pending, done = [text], []
    while pending:
        present = pending.pop()
        braces = _BRACES.search(present)
        if braces is None:
            done.append(present)
            continue
        choices = braces[1].split(",")
        pending += [present[: braces.start()] + choice + present[braces.end() :] for choice in reversed(choices)]
        if len(pending) + len(done) > MAX_ALTERNATIVES:
            raise ValueError(f"{text!r} has more than {MAX_ALTERNATIVES} alternatives")
    return [_split(alternative, text) for alternative in done]


def _split(alternative: str, text: str) -> Parts:
    if any(char in alternative for char in "{},"):
        raise ValueError(f"{text!r}: braces must pair and commas stand within them, like '{{a,b}}'")
    parts: list[str] = []
    for part in alternative.split("."):
        if not part:
            raise ValueError(f"{text!r} has an empty part: names are words joined by single dots")
        if "**" in part and part != "**":
            raise ValueError(f"{text!r}: '**' must stand alone between dots")
        if parts[-1:] != ["**"] or part != "**":
            parts.append(part)
    return tuple(parts)


def _covers(mine: Parts, theirs: Parts) -> bool:
    """Whether all that `theirs` means `mine` means: a wildcard over there is taken by a wildcard only."""
    reached = [True] + [False] * len(theirs)
    for part in mine:
        if part == "**":
            reached = list(accumulate(reached, operator.or_))
        else:
            steps = zip(reached, theirs, strict=False)
            reached = [False, *(before and their != "**" and _glob(part, their) for before, their in steps)]
    return reached[-1]


def _glob(glob: str, text: str) -> bool:
    """Whether a part with any number of ``*`` matches; from left to right, each piece where it fits first."""
    head, *middle = glob.split("*")
    if not middle:
        return glob == text
    *middle, tail = middle
    at, end = len(head), len(text) - len(tail)
    if at > end or not text.startswith(head) or not text.endswith(tail):
        return False
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _overlap(mine: Parts, theirs: Parts) -> bool:
    return _meet(mine, theirs, "**", lambda a, b: _meet(a, b, "*", operator.eq))


def _meet(a: Sequence[str], b: Sequence[str], many: str, equal: Callable[[str, str], bool]) -> bool:
    """Whether two sequences can mean the same, where `many` stands for any number of items. O(len(a) len(b))."""
    behind = [True] * (len(b) + 1)  # behind[j]: a[i+1:] meets b[j:]
    for i in range(len(a), -1, -1):
        here = [False] * (len(b) + 1)
        for j in range(len(b), -1, -1):
            if i == len(a) and j == len(b):
                here[j] = True
            elif j < len(b) and b[j] == many:
                here[j] = here[j + 1] or (i < len(a) and behind[j])
            elif i < len(a) and a[i] == many:
                here[j] = behind[j] or (j < len(b) and here[j + 1])
            else:
                here[j] = i < len(a) and j < len(b) and behind[j + 1] and equal(a[i], b[j])
        behind = here
    return behind[0]


def _narrower(mine: Parts, theirs: Parts) -> Parts:
    """Of two patterns that overlap one that means all their common names, the narrower where that is plain."""
    if _covers(mine, theirs):
        return theirs
    if _covers(theirs, mine):
        return mine
    if "**" in mine and "**" in theirs:
        return max(mine, theirs, key=len)
    mine, theirs = _stretch(mine, len(theirs)), _stretch(theirs, len(mine))
    if len(mine) != len(theirs):
        return min(mine, theirs, key=lambda parts: "**" in parts)
    return tuple(a if b == "*" or "*" not in a else b for a, b in zip(mine, theirs, strict=True))


def _stretch(parts: Parts, length: int) -> Parts:
    """The same for names of `length` parts only, if there is one ``**`` at most."""
    if parts.count("**") != 1:
        return parts
    at = parts.index("**")
    return (*parts[:at], *["*"] * (length - len(parts) + 1), *parts[at + 1 :])
