"""What users read of an option: its type, its limits and its default in words, as cells of Markdown tables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wendelin_stream import units

Row = tuple[str, str, str, str]

TYPES = {"codec": "codec, with options or without", "do": "list of operators, with options or without"}
"""Where a plugin can stand."""


def quantity(schema: Mapping[str, Any]) -> tuple[str, Callable[[Any], str]] | None:
    """Name and formatter of a field that is a quantity; its example tells."""
    kinds: dict[str, tuple[str, Callable[[Any], str]]] = {
        "20 ms": ("duration", units.format_duration),
        "64 MiB": ("size", exact_size),
        "25.6 kHz": ("frequency", units.format_frequency),
        "50 %": ("share", lambda share: f"{float(100 * share):g} %"),
    }
    return kinds.get(next(iter(schema.get("examples", ())), ""))


def exact_size(count: int) -> str:
    """In the largest unit that gives a whole number."""
    unit = max((unit for unit, factor in units.SIZES.items() if count % factor == 0), key=lambda u: units.SIZES[u])
    return f"{count // int(units.SIZES[unit])} {unit}" if count else "0 B"


def bounds(least: object, most: object) -> str:
    """Limits in words."""
    if least is not None and most is not None:
        return f" ({least} to {most})"
    if least is not None:
        return f" (at least {least})"
    return f" (at most {most})" if most is not None else ""


def type_words(schema: Mapping[str, Any]) -> str:
    """What a user may write, from a field's JSON Schema."""
    known = quantity(schema)
    if known:
        return f"[{known[0]}](quantities.md)"
    if "examples" in schema:
        return "pattern" if "anyOf" in schema else "name"
    if "anyOf" in schema:
        kinds = [type_words(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return (", " if all(kind.startswith("`") for kind in kinds) else " or ").join(kinds)
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {type_words(schema['items'])}"
    if schema["type"] == "integer":
        return "number" + bounds(schema.get("minimum"), schema.get("maximum"))
    words = {"string": "text", "number": "number", "boolean": "true or false"}
    return "path" if schema.get("format") == "path" else words[schema["type"]]


def field_words(key: str, field: FieldInfo, schema: Mapping[str, Any]) -> str:
    """The type of an option, with limits."""
    if key in TYPES:
        return TYPES[key]
    words = type_words(schema)
    known = quantity(schema)
    if known:
        limits = {name: getattr(one, name) for one in field.metadata for name in ("ge", "le") if hasattr(one, name)}
        words += bounds(*(known[1](limits[name]) if name in limits else None for name in ("ge", "le")))
    return words


def one_will_do(schema: Mapping[str, Any]) -> bool:
    """Whether a list of one may be written as that one."""
    return any(one.get("type") == "array" for one in schema.get("anyOf", ()))


def default_words(field: FieldInfo, schema: Mapping[str, Any]) -> str:
    """The default as a user would write it."""
    if field.is_required():
        return "required"
    value, known = field.default, quantity(schema)
    if value is None:
        return ""
    if known:
        return f"`{known[1](value)}`"
    if isinstance(value, tuple):
        value = value[0] if one_will_do(schema) and len(value) == 1 else list(value)
    simple = value if isinstance(value, bool | int | str | list) else str(value)
    written = yaml.safe_dump(simple, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{written}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are plain text with code in backticks."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def plain(text: str) -> str:
    """Text in which, outside of code, no character means anything to Markdown."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<])", r"\\\1", part) for part in re.split("(`[^`]*`)", text)
    )


def options(model: type[BaseModel], properties: Mapping[str, Any], hidden: Sequence[str] = (), *rows: Row) -> str:
    """The table of a model's options, below other rows. Raises ValueError for an option without description."""
    found = list(rows)
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in hidden:
            continue
        if not field.description:
            raise ValueError(f"the option {key!r} of {model.__qualname__} has no description")
        kind, default = field_words(key, field, properties[key]), default_words(field, properties[key])
        found.append((f"`{key}`", kind, default, plain(field.description)))
    return table(("option", "type", "default", "meaning"), found)


def prose(docstring: str | None) -> list[str]:
    """A docstring's paragraphs as Markdown, without what it says to programmers only."""
    text = inspect.cleandoc(docstring or "").replace("``", "`")
    text = re.sub(r"Raises\s+ConfigError\s+(for|if)", r"`check` fails \1", text)
    text = re.sub(r"\s*See `[^.]*\.(?=\s|$)", "", text)
    return [plain(" ".join(part.split())) for part in text.split("\n\n")]
