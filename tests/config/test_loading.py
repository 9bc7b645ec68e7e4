"""Files that are right: what they become, how they merge, where their relative paths point."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from wendelin_stream.batch import Signal
from wendelin_stream.config import Config, PipelineSpec, Policy, load
from wendelin_stream.plugin import Blob, Events
from wendelin_stream.store import StoreConfig

pytestmark = pytest.mark.usefixtures("doubles")

DIGEST = "0" * 64

FULL = """\
store: {path: data, sync: 5 ms, keep_free: 0}
sources:
  in: {type: door, listen: "x:1", mode: [a, b], files: [one, /two], limits: {key_file: key}}
policies:
  second: {match: [b.*, "c"], stream: "raw.{tag}", codec: guess, dedupe: false, max_jitter: 1 s}
  first:
    match: a.**
    codec: {raw: {rate: 1 kHz, channels: [x, y]}}
  plain: {match: "**"}
pipelines:
  p:
    from: a.*
    do:
      - keep
      - halve:
      - picky: {fmax: 10 Hz}
    into: "{stream}.p"
models:
  m: {path: ../models/m.skops, sha256: "%s"}
"""


def test_a_whole_file(write: Callable[..., Path], tmp_path: Path):
    """Sections, plugins in their short and long forms, quantities, order of policies."""
    config = load([write(FULL % ("AB" * 32))])
    assert config.store.config == StoreConfig(sync=Fraction(1, 200), keep_free=0)
    assert config.sources["in"].options.mode == ["a", "b"]
    assert list(config.policies) == ["second", "first", "plain"]
    second, first, plain = config.policies.values()
    assert second.codec is not None
    assert (second.codec.type, second.dedupe, second.max_jitter) == ("guess", False, 1)
    assert second.streams.texts == ("raw.b.*", "raw.c")
    assert first.make_codec().signal == Signal("<f4", ("x", "y"), rate=1000)
    assert (plain.codec, plain.dedupe, plain.max_jitter, str(plain.stream)) == (None, True, Fraction(1, 10), "{tag}")
    pipeline = config.pipelines["p"]
    assert [step.type for step in pipeline.do] == ["keep", "halve", "picky"]
    assert pipeline.do[2].options.fmax == 10
    assert (pipeline.output("a.b"), pipeline.outputs.texts) == ("a.b.p", ("a.*.p",))
    assert config.models["m"].sha256 == "ab" * 32
    assert (config.writer_of("a.b.p"), config.writer_of("a.b")) == ("p", None)


def test_relative_paths_count_from_their_file(write: Callable[..., Path], tmp_path: Path):
    """Every option that is a path: the store, models, and what plugins have, also in lists and nested options."""
    config = load([write(FULL % DIGEST, "etc/c.yaml")])
    etc = tmp_path / "etc"
    assert config.store.path == etc / "data"
    assert config.models["m"].path == etc / "../models/m.skops"
    options = config.sources["in"].options
    assert options.files == (etc / "one", Path("/two"))
    assert options.limits.key_file == etc / "key"


def test_each_file_of_several_has_its_own_folder(write: Callable[..., Path], tmp_path: Path):
    """Sections add up by name; a path counts from the file that it is in."""
    one = write(f"store: {{path: data}}\nmodels:\n  a: {{path: a, sha256: '{DIGEST}'}}\n", "x/one.yaml")
    two = write(f"store: {{sync: 1 ms}}\nmodels:\n  b: {{path: b, sha256: '{DIGEST}'}}\n", "y/two.yaml")
    config = load([one, two])
    assert config.store.path == tmp_path / "x/data"
    assert config.store.config.sync == Fraction(1, 1000)
    assert [spec.path for spec in config.models.values()] == [tmp_path / "x/a", tmp_path / "y/b"]
    assert str(config.models["b"].place.error("is wrong")) == f"{two}:3: models.b: is wrong"


def test_the_store_may_come_from_outside(write: Callable[..., Path]):
    """`--store` goes before store.path, and is enough by itself."""
    assert load([write("store: {path: data, sync: 1 ms}\n")], store=Path("s")).store.path == Path("s")
    assert load([write("")], store=Path("s")).store.config == StoreConfig()
    assert load([], store=Path("s")) == Config(store=load([write("store:\n")], store=Path("s")).store)


def test_a_home_folder(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    """~ is the user's home, as in a shell."""
    monkeypatch.setenv("HOME", "/home/x")
    assert load([write("store: {path: ~/data}\n")]).store.path == Path("/home/x/data")


def test_empty_sections_are_none(loaded: Callable[[str], Config]):
    """A section with everything commented out is as good as absent."""
    config = loaded("sources:\npolicies:\npipelines: {}\nmodels:\n")
    assert [config.sources, config.policies, config.pipelines, config.models] == [{}, {}, {}, {}]


def test_where_it_stands_takes_no_part_in_equality(write: Callable[..., Path]):
    """A comment more, or a default written out, is the same configuration: nothing has to restart on reload."""
    before = load([write(FULL % DIGEST)])
    text = "# a comment\n" + (FULL % DIGEST).replace('plain: {match: "**"}', 'plain: {match: "**", dedupe: true}')
    after = load([write(text)])
    assert before == after
    assert load([write(text.replace("fmax: 10", "fmax: 11"))]) != before


def test_kind_of_stream(loaded: Callable[[str], Config]):
    """A codec gives rows; without one a stream holds what came."""
    policies = loaded("policies: {a: {match: a, codec: guess}, b: {match: b}}").policies
    events, blob = Events(b"", 0, 0, 0), Blob(b"")
    assert [policies["a"].kind(events), policies["a"].kind(blob)] == ["rows", "rows"]
    assert [policies["b"].kind(events), policies["b"].kind(blob)] == ["events", "bytes"]


def test_specs_can_be_made_in_python():
    """Patterns and templates from plain texts, for tests and notebooks."""
    policy = Policy(name="p", match="a.*")
    assert policy.match.matches("a.b")
    with pytest.raises(ValueError, match="at least 1 item"):
        PipelineSpec(name="p", from_="a.*", do=(), into="{stream}.x")
