"""pydantic's errors in the words of the user's file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wendelin_stream.config.place import KeyPath, Place, nearest, suggest
from wendelin_stream.errors import ConfigError

_NEEDED = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "sequence": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "model_attributes": "a mapping",
    "path": "a path",
}
Errors = dict[KeyPath, ConfigError]
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def explain(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any], place: Place) -> Errors:
    """One error for each place (its path is the key) where `data`, written at `place`, is not what `model` needs."""
    found: Errors = {}
    for detail in error.errors(include_url=False):
        path = _written(detail, data)
        here = place.at(*path)
        told = _tell(detail, here, known_keys(model, path[:-1]))
        if here.path in found:  # a value that fits none of several types: one error for each of them
            before = found[here.path].what.removesuffix(f", not {show(detail['input'])}")
            what = f"{before} or {told.what.removeprefix('must be ')}"
            told = here.error(what, hint=found[here.path].hint or told.hint)
        found[here.path] = told
    return found


def unknown_key(place: Place, known: Collection[str]) -> ConfigError:
    """The error for a key that nobody reads."""
    return place.error("unknown key", hint=suggest(str(place.path[-1]), known))


def known_keys(model: type[BaseModel], path: KeyPath = ()) -> list[str]:
    """Keys as users write them of a model, or of the model that its option at `path` holds."""
    for key in path:
        if isinstance(key, int):
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        inner = _model_in(fields[key].annotation) if key in fields else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner))), None)


def _written(detail: ErrorDetails, data: Any) -> KeyPath:
    """pydantic's location without the names of types that it puts in between."""
    path: list[str | int] = []
    for key in detail["loc"]:
        inside = key in data if isinstance(data, Mapping) else isinstance(data, list) and key in range(len(data))
        if inside:
            data = data[key]
        elif detail["type"] != "missing" or key != detail["loc"][-1]:
            continue
        path.append(key)
    return tuple(path)


def _tell(detail: ErrorDetails, place: Place, known: Collection[str]) -> ConfigError:
    kind, context = detail["type"], detail.get("ctx", {})
    got = f", not {show(detail['input'])}"
    subject = kind.removesuffix("_type").removesuffix("_parsing")
    if kind == "extra_forbidden":
        return unknown_key(place, known)
    if kind == "missing":
        return place.error("is missing")
    if isinstance(context.get("error"), Exception):
        return place.locate(context["error"])
    if subject in _NEEDED:
        return place.error(f"must be {_NEEDED[subject]}{got}")
    if kind == "int_from_float":
        return place.error(f"must be a whole number{got}")
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return place.error(f"must be {word} {context[bound]}{got}")
    if kind in {"literal_error", "enum"}:
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return place.error(f"must be one of {', '.join(choices)}{got}", hint=_near_choice(detail["input"], choices))
    return place.error(re.sub(r"^\w+ should", "must", detail["msg"]))


def _near_choice(value: object, choices: list[str]) -> str:
    near = nearest(str(value), choices)
    return f"did you mean {near!r}?" if near else ""


def show(value: object) -> str:
    """A value as it may stand in a message: one line, not long."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "empty"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
