"""One YAML file as plain data, with the line of every place.

The core schema of YAML 1.2: only ``true`` and ``false`` are booleans (``on`` is a word), ``010`` is ten and
``12:30`` a text. Aliases count as often as they are used, so that a small file cannot grow in memory.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wendelin_stream.config.place import KeyPath, Mark, Place
from wendelin_stream.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_VALUES = 50_000
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("map", "seq", "str", "null", "bool", "int", "float")}
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way to drop the resolvers of YAML 1.1


_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


@dataclass
class Document:
    """What a file says. `data` is a mapping; `errors` holds what was left out of it; fatal: nothing could be read."""

    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    errors: list[ConfigError] = field(default_factory=list)
    fatal: bool = False


def read(path: Path) -> Document:
    """Read a file. Never raises: what is wrong is in `Document.errors`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        return _broken(str(path), None, f"cannot be read: {reason}")
    if len(content) > MAX_BYTES:
        return _broken(str(path), None, f"is larger than {MAX_BYTES} bytes")
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Document:
    """The same for the bytes of a file called `name`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _broken(name, line, f"byte 0x{content[error.start]:02x} is not UTF-8")
    try:
        root = yaml.compose(text, _Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _broken(name, line, f"the character {text[error.position]!r} is not allowed in YAML")
    except yaml.MarkedYAMLError as error:
        return _syntax(error, name)
    except RecursionError:
        return _broken(name, None, f"nested deeper than {MAX_DEPTH} levels")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return _broken(name, None, f"not valid YAML: {error}")
    return _Reading(name).document(root)


def _broken(name: str, line: int | None, what: str, hint: str = "") -> Document:
    return Document(errors=[ConfigError(what, source=name, line=line, hint=hint)], fatal=True)


def _syntax(error: yaml.MarkedYAMLError, name: str) -> Document:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    problem = error.problem or error.context or "syntax error"
    if "'\\t'" in problem:
        return _broken(name, line, "a tab stands where YAML takes only spaces", "indent with spaces")
    where = f"{error.context}, line {error.context_mark.line + 1}" if error.context and error.context_mark else ""
    return _broken(name, line, f"not valid YAML: {problem}", where)


class _Stop(Exception):
    """The file is not worth reading on; the document says why."""


class _Reading:
    """Turns the nodes of one file into plain data."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = 0
        self.result = Document(marks={(): Mark(name, 1)})

    def document(self, root: yaml.Node | None) -> Document:
        if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == f"{_TAG}null"):
            return self.result
        if not isinstance(root, yaml.MappingNode):
            return _broken(self.name, root.start_mark.line + 1, "the file must hold sections like 'store:'")
        try:
            self.result.data = self._mapping(root, ())
        except _Stop as stop:
            self.result.data, self.result.fatal = {}, True
            self.result.errors = [ConfigError(str(stop), source=self.name)]
        return self.result

    def _problem(self, node: yaml.Node, path: KeyPath, what: str, hint: str = "") -> None:
        where = str(Place(path))
        error = ConfigError(what, where=where, source=self.name, line=node.start_mark.line + 1, hint=hint)
        self.result.errors.append(error)

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise _Stop(f"more than {MAX_VALUES} values; each use of an alias counts")
        if len(path) > MAX_DEPTH:
            raise _Stop(f"nested deeper than {MAX_DEPTH} levels")
        if node.tag not in _TAGS:
            return self._problem(node, path, f"the tag {node.tag.replace(_TAG, '!!')} is not supported")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.result.marks[path] = Mark(self.name, node.start_mark.line + 1)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a key must be a word")
            elif key.value == "<<":
                self._problem(key, path, "merge keys ('<<') are not supported", "use an alias for the whole value")
            elif key.value in data:
                first = self.result.marks[(*path, key.value)].line
                self._problem(key, (*path, key.value), f"the key is there twice, first in line {first}")
            elif self._text(key, path):
                self.result.marks[(*path, key.value)] = Mark(self.name, key.start_mark.line + 1)
                data[key.value] = self._value(value, (*path, key.value))
        return data

    def _text(self, node: yaml.ScalarNode, path: KeyPath) -> str:
        """The node's text, "" and a problem if it holds what no file name or stream name can."""
        if "\0" in node.value or any("\ud800" <= char <= "\udfff" for char in node.value):
            self._problem(node, path, f"{node.value!r} holds a character that is no text")
            return ""
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = self._text(node, path)
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            case "int" if _INT.match(text) and len(text) < 100:
                return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
            case "float" if _FLOAT.match(text) and math.isfinite(float(text)):
                return float(text)
        return self._problem(node, path, f"{text[:60]!r} cannot be read as {node.tag.removeprefix(_TAG)}")
