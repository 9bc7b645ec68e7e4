"""Tags as stream names, which are folder names too: injective, readable, and never a path."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from wendelin_stream.errors import BadData, ConfigError

MAX_NAME = 200
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
_BARE_DOT = re.compile(r"^\.|\.$|\.(?=\.)|(?<=\.)\.")


def encode_name(tag: str) -> str:
    """The stream name of a tag: parts of ``[A-Za-z0-9_-]`` joined by dots, every other byte as ``%XX``.

    A dot at the start, at the end or beside another dot is ``%2E``, so that no name is ``..`` or hidden. `tag` may
    hold surrogate escapes (bytes that are not UTF-8). Raises BadData if the tag is empty, holds other surrogates, or
    the name is longer than 200 characters.
    """
    try:
        raw = tag.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadData(f"tag {tag!r} is not text: {error.reason}") from None
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    name = _BARE_DOT.sub("%2E", name)
    if not name:
        raise BadData("a tag must not be empty")
    if len(name) > MAX_NAME:
        raise BadData(f"tag {tag[:40]!r}... is too long: {len(name)} characters as a name, at most {MAX_NAME}")
    return name


def decode_name(name: str) -> str:
    """The tag that `encode_name` made the name from. Raises BadData if it made no such name."""
    tag = unquote_to_bytes(name).decode("utf-8", "surrogateescape")
    if encode_name(tag) != name:
        raise BadData(f"{name!r} is no stream name")
    return tag


def is_name(name: str) -> bool:
    """Whether `encode_name` gives that name for some tag."""
    try:
        decode_name(name)
    except BadData:
        return False
    return True


def stream_folder(store: Path, name: str) -> Path:
    """Where a stream lies. Raises BadData if `name` is no stream name (so it cannot lead elsewhere)."""
    decode_name(name)
    return store / "streams" / name


def stream_names(path: Path) -> list[str]:
    """Names of all streams of a store, sorted. Raises ConfigError if there is no store at `path`."""
    streams = path / "streams"
    if not streams.is_dir():
        raise ConfigError(f"there is no store at {path}", hint="the folder must hold a folder named streams")
    return sorted(p.name for p in streams.iterdir() if is_name(p.name) and (p / "stream.json").is_file())
