"""The configuration, validated: what the runtime works from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, cast

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, SerializeAsAny, WithJsonSchema

from wendelin_stream import plugin
from wendelin_stream.batch import Kind
from wendelin_stream.config.pattern import Pattern, PatternField
from wendelin_stream.config.place import NOWHERE, Place
from wendelin_stream.config.template import StreamTemplate, TagTemplate, Template
from wendelin_stream.plugin import Blob, Codec, Events, Operator, OperatorContext, Options, Source, SourceContext
from wendelin_stream.store import StoreConfig
from wendelin_stream.units import Duration


class _Located(Options):
    """Something that knows where it was written. Where that is takes no part in equality."""

    _place: Place = PrivateAttr(default=NOWHERE)

    @property
    def place(self) -> Place:
        """Where it was written, for messages."""
        return self._place

    def written(self, place: Place) -> None:
        """Say where; once, by who reads the file."""
        self._place = place


class StoreSection(_Located):
    """Where data streams live and how they are written."""

    path: Path
    config: StoreConfig = StoreConfig()


class SourceSpec(_Located):
    """A door in: a source plugin with its options."""

    name: str
    type: str
    options: SerializeAsAny[Options]

    def make(self, context: SourceContext) -> Source:
        """A new source."""
        return cast("Source", plugin.load("sources", self.type)(self.options, context))


class CodecSpec(_Located):
    """A codec plugin with its options."""

    type: str
    options: SerializeAsAny[Options]

    def make(self) -> Codec:
        """A new codec."""
        return cast("Codec", plugin.load("codecs", self.type)(self.options))


class Policy(_Located):
    """Lets tags in and says what becomes of them. `match` and `stream` are about percent-encoded tags."""

    name: str
    match: PatternField = Field(
        description="tags to let in, a pattern or a list: * is one part, ** any number of parts, {a,b} either"
    )
    stream: TagTemplate = Field(
        Template("{tag}", "tag"), description="stream to write; {tag} stands for the tag's name"
    )
    codec: CodecSpec | None = Field(None, description="how bytes become rows; without one they are stored as they come")
    dedupe: bool = Field(True, description="store a chunk that is sent again only once")
    max_jitter: Duration = Field(
        Fraction(1, 10), description="a chunk whose time is further from the expected time begins after a gap"
    )

    def make_codec(self) -> Codec | None:
        """A new codec, if the policy has one."""
        return None if self.codec is None else self.codec.make()

    def kind(self, body: Events | Blob) -> Kind:
        """Kind of the stream that such a message goes to."""
        if self.codec is not None:
            return "rows"
        return "events" if isinstance(body, Events) else "bytes"

    @property
    def streams(self) -> Pattern:
        """Names of all streams that it may write to."""
        return self.stream.names(self.match)


class OperatorSpec(_Located):
    """An operator plugin with its options."""

    type: str
    options: SerializeAsAny[Options]

    def make(self, context: OperatorContext) -> Operator:
        """A new operator. Raises ConfigError."""
        return cast("Operator", plugin.load("operators", self.type)(self.options, context))


class PipelineSpec(_Located):
    """Reads each stream that matches `from_`, runs the operators `do`, and writes the stream `into`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: str
    from_: PatternField = Field(
        alias="from", description="streams to read, a pattern or a list; the pipeline runs once for each of them"
    )
    do: tuple[OperatorSpec, ...] = Field(min_length=1, description="operators, first to last")
    into: StreamTemplate = Field(description="stream to write; {stream} stands for the name of the one that is read")

    def output(self, stream: str) -> str:
        """Name of the stream that it writes for that input. Raises BadData if it is too long."""
        return self.into.fill(stream)

    @property
    def outputs(self) -> Pattern:
        """Names of all streams that it may write."""
        return self.into.names(self.from_)


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be the 64 hexadecimal digits that `sha256sum FILE` prints")
    return value.lower()


class ModelSpec(_Located):
    """A trained model in a file, pinned by its digest."""

    name: str
    path: Path = Field(description="a .skops file")
    sha256: Annotated[
        str, BeforeValidator(_sha256), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})
    ] = Field(description="sha256 of the file, as `sha256sum` prints it")


class Config(Options):
    """All of it. Order is kept: the first policy that matches a tag is the one that counts."""

    store: StoreSection
    sources: Mapping[str, SourceSpec] = {}
    policies: Mapping[str, Policy] = {}
    pipelines: Mapping[str, PipelineSpec] = {}
    models: Mapping[str, ModelSpec] = {}

    def writer_of(self, stream: str) -> str | None:
        """Name of the pipeline whose output that stream is: no tag may be stored there."""
        return next((name for name, spec in self.pipelines.items() if spec.outputs.matches(stream)), None)
