"""The contracts between the rooms, and how plugins are found.

A source, codec, operator or sink is a class with a nested pydantic model `Config` (its options, as the user
writes them in YAML), registered under one of the entry-point groups below. See `docs/architecture.md`.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from wendelin_stream.batch import Batch, Gap, Item, Signal
from wendelin_stream.errors import ConfigError

Buffer = bytes | bytearray | memoryview
Group = Literal["sources", "codecs", "operators", "sinks"]


class Options(BaseModel):
    """Base of every `Config`: unknown keys are errors, values are fixed once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


ONE_OR_MORE: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
"""JSON Schema of an option that takes one text or a list."""


# --- doors -----------------------------------------------------------------------------------------

Origin = Hashable
"""A connection, a file, a subscription: sequence numbers and acknowledgements are in order within one."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event that cannot be stored where it was meant to go; the dead letter keeps it with the reason."""

    data: Buffer
    reason: str


@dataclass(frozen=True, slots=True)
class Events:
    """A msgpack event stream: concatenated ``[time, record]``, every event valid, bytes as the sender wrote them.

    times: ns UTC of the earliest and the latest event.  crc: crc32c of `data` where the source has it already.
    """

    data: Buffer
    count: int
    t_first: int
    t_last: int
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """Plain bytes: a whole message, or, with `offset`, a piece of a file that grows.

    time: ns UTC of the message; of a file, the time of its first sample if that is known.
    head: the first bytes of the file (up to 64 KiB), so that a codec can read its header from any piece.
    """

    data: Buffer
    time: int | None = None
    offset: int | None = None
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Received:
    """What a source hands on: one unit that is stored whole or not at all, and acknowledged by `seq`.

    seq grows by any amount within an origin; for a file it is the offset behind the piece.
    tag: as the sender wrote it; bytes that are not UTF-8 come as surrogate escapes.
    chunk_id: 16 bytes that are equal when the sender sends the same unit again, or b"" (no deduplication).
    producer: for a file, 8 bytes as an int that name it durably; the store then keeps the position with the rows.
    peer: who sent it, for messages and the dead letter.
    """

    origin: Origin
    seq: int
    tag: str
    body: Events | Blob
    t_arrival: int
    chunk_id: bytes = b""
    producer: int = 0
    peer: str = ""
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What the runtime gives a source besides its options.

    name: as configured.  state_dir: a folder of its own, for positions and the like.
    position(tag, producer): how far the store holds that file durably in the stream where the tag goes (bytes
    from the file's beginning), or None.
    """

    name: str
    state_dir: Path
    position: Callable[[str, int], int | None] = lambda tag, producer: None


class Source(Protocol):
    """A door in. Constructed as ``Source(config, context)``; the constructor does no I/O."""

    Config: ClassVar[type[Options]]

    async def open(self) -> None:
        """Bind or connect. Called once before `read`; when it returns, senders can reach us.

        Raises ConfigError if the user must change something (address in use), OSError otherwise.
        """

    def read(self) -> AsyncIterator[Received]:
        """Yield what arrives until `quiesce` or `aclose`. Called once; bounds what it holds when not iterated."""

    async def commit(self, origin: Origin, seq: int) -> None:
        """Everything of `origin` up to `seq` is on disk: tell the sender, in order.

        seq never falls within an origin; some may be left out, and of a file that ends inside a row it is the offset
        behind the last whole one. Never concurrently. Must not raise for a sender that is gone: it will send again and
        the repeat is dropped.
        """

    async def refuse(self, origin: Origin, seq: int, why: Exception) -> None:
        """The unit `seq`, and all that was yielded of the origin behind it, is not stored: no acknowledgement, the
        protocol's "no" instead.

        Called after all earlier units of the origin are committed. Whatever comes of this origin next must start at
        the last commit: a connection closes (its sender tries again), a file is read again from there.
        """

    async def quiesce(self) -> None:
        """Stop taking new data: `read` yields what was taken, and ends. It may still be committed or refused.

        Called once, before `aclose`.
        """

    async def aclose(self) -> None:
        """Release everything. `read` ends. No `commit` or `refuse` follows."""


# --- codecs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """What a codec decodes: an event's record, or bytes.

    payload: bytes-like, or the record (a dict, as msgpack decoded it, str with surrogate escapes).
    time: ns UTC of the event or message, None if unknown.  offset, head: see `Blob`.
    """

    payload: Any
    time: int | None = None
    offset: int | None = None
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows of one signal, and how many bytes of the payload they took.

    used < len(payload) is allowed only for a piece of a file (`Message.offset` is not None): the caller
    prepends the rest to the next piece. A whole message that leaves a rest is BadData.
    """

    batches: tuple[Batch, ...]
    used: int


class Codec(Protocol):
    """Turns message bytes into rows. Constructed as ``Codec(config)``. Pure: no clock, no I/O, no state that
    changes a result."""

    Config: ClassVar[type[Options]]

    def decode(self, message: Message) -> Decoded:
        """The message's rows. Raises BadData with a reason that a user understands.

        Batches have their anchor at the message's time (0 where it has none: the caller then knows better).
        """


# --- operators -------------------------------------------------------------------------------------


class Model(Protocol):
    """A trained estimator as the registry hands it out."""

    @property
    def name(self) -> str:
        """As declared in the configuration."""

    @property
    def digest(self) -> str:
        """sha256 of the file, hex."""

    @property
    def estimator(self) -> Any:
        """The fitted scikit-learn estimator."""


def _no_model(name: str) -> Model:
    raise ConfigError(f"model {name!r} is not declared", hint="add it under models:")


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What the runtime gives an operator besides its options. model(name) raises ConfigError if there is none."""

    model: Callable[[str], Model] = _no_model


class Operator(Protocol):
    """A pure, synchronous step from items to items: no await, no clock, no I/O, no randomness.

    Constructed as ``Operator(config, context)``. Any cut of the input into batches gives the same output rows,
    times and positions. Input rows are never written to. `Batch.position` of an output row is the position of the
    first input row that it depends on, given that row j+1 never depends on rows before those of row j;
    `Batch.stride` is the input's stride times the input rows from one output row to the next.
    """

    Config: ClassVar[type[Options]]

    def output(self, signal: Signal) -> Signal:
        """What the operator yields for such an input. Called once, before the first item.

        Raises ConfigError if it cannot work on that signal; the text names the option to change.
        """

    def on_batch(self, batch: Batch) -> Iterable[Item]:
        """Called for each batch in order; batches have at least one row."""

    def on_gap(self, gap: Gap) -> Iterable[Item]:
        """Called for each hole: forget windows and filters, and hand the gap on (it must be among the items)."""

    def snapshot(self) -> Mapping[str, NDArray[Any]]:
        """The whole state as arrays that `np.savez` holds without pickle. May be called between any two items."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue as the operator that gave `state`. Called after `output`, before the first item."""


@runtime_checkable
class Bounded(Protocol):
    """An operator whose memory is a stretch of its latest input.

    A new operator of the same options that is fed its input again from `pending` on yields nothing for what was
    already seen and then goes on exactly like the old one. The runtime needs no snapshot of such an operator.
    """

    def pending(self) -> int | None:
        """`position` of the oldest input row that later output can depend on; None: of no row seen so far."""


@runtime_checkable
class Paced(Protocol):
    """An operator that is cheaper by the batch: the runtime lets input gather before it runs the pipeline.

    Has no influence on what comes out.
    """

    @property
    def max_wait(self) -> Fraction:
        """Seconds that a row may wait for more."""

    @property
    def max_rows(self) -> int:
        """Input rows of this operator that make waiting useless."""


# --- sinks -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Positioned:
    """An item with the stream and byte position that make it unique: the key of at-least-once delivery."""

    stream: str
    position: int
    item: Item | bytes


class Sink(Protocol):
    """A door out, with a durable cursor kept by the runtime. Constructed as ``Sink(config, ...)``."""

    Config: ClassVar[type[Options]]

    async def send(self, items: Sequence[Positioned]) -> None:
        """Hand over and return when the receiver has it. Raises Retry to be called again with the same items."""

    async def aclose(self) -> None:
        """Release everything."""


# --- registry --------------------------------------------------------------------------------------


@cache
def plugins(group: Group) -> Mapping[str, Any]:
    """All registered plugins of a group by name, not yet imported (`EntryPoint` objects)."""
    found = {point.name: point for point in entry_points(group=f"wendelin_stream.{group}")}
    return dict(sorted(found.items()))


@cache
def load(group: Group, name: str) -> Any:
    """The class registered as `name`. Raises ConfigError that names the nearest existing one."""
    known = plugins(group)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        raise ConfigError(f"there is no {group[:-1]} {name!r}", hint=hint)
    return known[name].load()
