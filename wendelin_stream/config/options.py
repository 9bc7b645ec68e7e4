"""Options of one thing, validated by its model; errors are collected with their places."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wendelin_stream import plugin
from wendelin_stream.config.explain import explain, known_keys, show, unknown_key
from wendelin_stream.config.model import CodecSpec, OperatorSpec
from wendelin_stream.config.place import Place, nearest
from wendelin_stream.errors import ConfigError
from wendelin_stream.plugin import Group, Options

M = TypeVar("M", bound=BaseModel)
Choice = TypeVar("Choice", CodecSpec, OperatorSpec)


class OptionReader:
    """Turns what a user wrote into options. Methods return None after they have put an error into `errors`."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def problem(self, place: Place, what: str, hint: str = "") -> None:
        """Something is wrong there."""
        self.errors.append(place.error(what, hint=hint))

    def options(
        self,
        model: type[M],
        data: Mapping[str, Any],
        place: Place,
        *,
        also: Collection[str] = (),
        hidden: Collection[str] = (),
        given: Mapping[str, Any] | None = None,
    ) -> M | None:
        """`data`, written at `place`, as a `model`.

        also: further keys that users may write there.  hidden: fields that they may not.
        given: values that are ready; one that is None could not be read, which has been told already.
        Relative paths become absolute: they count from the folder of the file.
        """
        known = [key for key in known_keys(model) if key not in hidden]
        unknown = [key for key in data if key not in known]
        self.errors += [unknown_key(place.at(key), [*known, *also]) for key in unknown]
        given = given or {}
        values = {key: value for key, value in data.items() if key in known and key not in given}
        try:
            checked = model.model_validate(values | {key: value for key, value in given.items() if value is not None})
        except ValidationError as error:
            told = [key for key, value in given.items() if value is None]
            told += [meant for key in unknown if (meant := nearest(key, known)) is not None and meant not in values]
            skip = {place.at(key).path for key in told}
            found = explain(error, model, values, place)
            self.errors += [problem for path, problem in found.items() if path not in skip]
            return None
        except ArithmeticError as error:  # from a plugin's own validator
            self.problem(place, f"cannot be used: {error}")
            return None
        return None if unknown else _anchored(checked, place)

    def plugin(
        self, group: Group, name: str, data: Mapping[str, Any], place: Place, *, type_key: str | None = None
    ) -> Options | None:
        """`data` as the options of a plugin, whose name is written at `place` or beside them as `type_key`."""
        written = place.at(type_key) if type_key else place
        try:
            model: type[Options] = plugin.load(group, name).Config
        except ConfigError as error:
            self.errors.append(written.locate(error))
        except (ImportError, AttributeError) as error:
            self.problem(written, f"the plugin {name!r} cannot be loaded: {error}")
        else:
            return self.options(model, data, place, also=(type_key,) if type_key else ())
        return None

    def choice(self, group: Group, value: object, place: Place, spec: type[Choice]) -> Choice | None:
        """A plugin as it is written in one place: its name, or its name with options."""
        options = {value: None} if isinstance(value, str) else value
        if not isinstance(options, Mapping) or not options:
            self.problem(place, f"must be a name, or a name with options, not {show(value)}")
            return None
        if len(options) > 1:
            hint = f"indent the options of {next(iter(options))!r} below it"
            self.problem(place, f"must be one name with options, not {', '.join(options)}", hint)
            return None
        (name, data), *_ = options.items()
        here = place if isinstance(value, str) else place.at(name)
        if data is not None and not isinstance(data, Mapping):
            self.problem(here, f"must be a mapping of options, not {show(data)}")
            return None
        checked = self.plugin(group, name, data or {}, here)
        if checked is None:
            return None
        chosen = spec(type=name, options=checked)
        chosen.written(here)
        return chosen


def _anchored(model: M, place: Place) -> M:
    """The same options; each relative `Path` that the user wrote counts from the folder of its file."""
    changed = {}
    for name in model.model_fields_set:
        key = type(model).model_fields[name].alias or name
        value = getattr(model, name)
        absolute = _absolute(value, place.at(key))
        if absolute is not value:
            changed[name] = absolute
    return model.model_copy(update=changed) if changed else model


def _absolute(value: Any, place: Place) -> Any:
    if isinstance(value, Path):
        return place.folder / os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if isinstance(value, BaseModel):
        return _anchored(value, place)
    if isinstance(value, tuple | list) and any(isinstance(item, Path | BaseModel) for item in value):
        return type(value)(_absolute(item, place.at(number)) for number, item in enumerate(value))
    return value
