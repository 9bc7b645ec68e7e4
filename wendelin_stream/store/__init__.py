"""Data streams on disk: append-only, named, durable; one writer, many readers, who need no lock."""

from __future__ import annotations

from wendelin_stream.store.chunk import Chunk, Part
from wendelin_stream.store.config import StoreConfig
from wendelin_stream.store.format import IDX, Flag
from wendelin_stream.store.fs import FileSystem, replace_file
from wendelin_stream.store.lock import take_lock
from wendelin_stream.store.names import MAX_NAME, decode_name, encode_name, stream_names
from wendelin_stream.store.reader import StreamReader
from wendelin_stream.store.store import Store
from wendelin_stream.store.writer import StreamWriter, Ticket

__all__ = [
    "IDX",
    "MAX_NAME",
    "Chunk",
    "FileSystem",
    "Flag",
    "Part",
    "Store",
    "StoreConfig",
    "StreamReader",
    "StreamWriter",
    "Ticket",
    "decode_name",
    "encode_name",
    "replace_file",
    "stream_names",
    "take_lock",
]
