"""The check beyond syntax: what a configuration comes to, before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wendelin_stream.batch import Kind, Signal
from wendelin_stream.config import (
    Config,
    Stored,
    build_operators,
    chain,
    operator_context,
    plan,
    stored_streams,
    verify,
)
from wendelin_stream.errors import ConfigError
from wendelin_stream.store import Store

pytestmark = pytest.mark.usefixtures("doubles")

RAW = Signal(np.dtype("<f4"), ("x",), rate=Fraction(1000))


@dataclass
class FakeModel:
    name: str
    digest: str
    estimator: Any = None


def load_model(name: str, path: Path, sha256: str) -> FakeModel:
    """Any model but one whose digest is all f."""
    if sha256 == "f" * 64:
        raise ConfigError(f"{path} has sha256 0, expected f", where=f"models.{name}", hint="write the new digest")
    return FakeModel(name, sha256)


def problems(config: Config, stored: Stored | None = None) -> list[str]:
    """The messages without the folder of the file."""
    return [str(error).split("c.yaml:", 1)[-1] for error in verify(config, stored or {}, load_model)]


POLICY = """\
policies:
  v: {match: "park.*.acc", codec: {raw: {rate: 1 kHz}}}
  g: {match: "wav.*", codec: guess}
  e: {match: "log.**"}
"""


def with_pipelines(text: str) -> str:
    return f"{POLICY}pipelines:\n{text}"


@pytest.mark.parametrize(
    ("pipelines", "says"),
    [
        pytest.param(
            "  p: {from: park.*.gearbox.acc, do: [keep], into: '{stream}.p'}\n",
            ["6: pipelines.p.from: nothing can match 'park.*.gearbox.acc' (did you mean 'park.*.acc'?)"],
            id="nothing matches",
        ),
        pytest.param(
            "  p: {from: log.a, do: [keep], into: p}\n",
            [
                "6: pipelines.p.from: log.a of policy 'e' holds events or bytes; operators need rows "
                "(give the policy a codec, or narrow the pattern)"
            ],
            id="events",
        ),
        pytest.param(
            "  p:\n    from: park.a.acc\n    do:\n      - keep\n      - picky: {fmax: 1 kHz}\n    into: p\n",
            [
                "10: pipelines.p.do[1].picky.fmax: is above half the rate (lower it; "
                "the pipeline reads park.a.acc of policy 'v': <f4 [x] at 1000 per second)"
            ],
            id="operator refuses a policy's signal",
        ),
        pytest.param(
            "  q: {from: '**.p', do: [picky: {fmax: 400 Hz}], into: '{stream}.q'}\n"
            "  p: {from: park.*.acc, do: [halve], into: '{stream}.p'}\n",
            [
                "6: pipelines.q.do[0].picky.fmax: is above half the rate (lower it; "
                "the pipeline reads park.*.acc.p of pipeline 'p': <f4 [x] at 500 per second)"
            ],
            id="operator refuses another pipeline's signal",
        ),
        pytest.param(
            "  p: {from: park.**, do: [keep], into: '{stream}.p'}\n",
            [
                "6: pipelines.p.into: the pipeline reads what it writes: p -> p "
                "(it can write park.**.p, which 'p' reads as park.**)"
            ],
            id="reads itself",
        ),
        pytest.param(
            "  p: {from: '{park,b}.*.acc', do: [keep], into: 'a.{stream}'}\n"
            "  q: {from: 'a.**', do: [keep], into: 'c.x'}\n"
            "  r: {from: 'c.*', do: [keep], into: 'b.{stream}.acc'}\n",
            [
                "7: pipelines.q.into: all streams that match 'a.**' would be written into 'c.x' "
                "(put {stream} into the name)"
            ],
            id="many into one",
        ),
        pytest.param(
            "  p: {from: '{park,b}.*.acc', do: [keep], into: 'a.{stream}'}\n"
            "  q: {from: 'a.**', do: [keep], into: 'c.{stream}'}\n"
            "  r: {from: 'c.**', do: [keep], into: 'b.x.acc'}\n"
            "  s: {from: 'b.x.acc', do: [keep], into: 's'}\n",
            [
                "6: pipelines.p.into: the pipeline reads what it writes: p -> q -> r -> p "
                "(it can write a.park.*.acc or a.b.*.acc, which 'q' reads as a.**)",
                "8: pipelines.r.into: all streams that match 'c.**' would be written into 'b.x.acc' "
                "(put {stream} into the name)",
            ],
            id="circle of three",
        ),
        pytest.param(
            "  p: {from: 'park.*.acc', do: [keep], into: '{stream}.x'}\n"
            "  q: {from: 'park.a.*', do: [keep], into: '{stream}.x'}\n",
            [
                "7: pipelines.q.into: pipeline 'p' can write the same streams: park.*.acc.x and park.a.*.x "
                "(give them different names)"
            ],
            id="two write the same",
        ),
        pytest.param(
            "  p: {from: 'park.a.acc', do: [keep], into: 'wav.x'}\n"
            "  q: {from: wav.y, do: [keep], into: 'wav.{stream}'}\n",
            [],
            id="inside a wide policy is not a collision yet",
        ),
        pytest.param(
            "  p: {from: park.a.acc, do: [score: {model: gearbx}], into: p}\n",
            [
                "6: pipelines.p.do[0].score.model: model 'gearbx' is not declared under models: "
                "(did you mean 'gearbox'?)"
            ],
            id="unknown model",
        ),
    ],
)
def test_what_a_pipeline_does_wrong(loaded: Callable[[str], Config], pipelines: str, says: list[str]):
    """Each trouble once, with pipeline, step, option and line."""
    models = f"models: {{gearbox: {{path: g, sha256: '{'0' * 64}'}}}}\n"
    assert problems(loaded(with_pipelines(pipelines) + models)) == says


def test_a_policy_and_a_pipeline_for_the_same_streams(loaded: Callable[[str], Config]):
    """Certain only if all that the policy can write is the pipeline's: then it is an error."""
    text = """\
        policies:
          v: {match: a.*, codec: {raw: {rate: 1 kHz}}}
          w: {match: "b.{c,**}"}
          all: {match: "**"}
        pipelines:
          p: {from: a.*, do: [keep], into: "b.{stream}"}
        """
    assert problems(loaded(text)) == []
    for match in ("b.a.*", "b.a.x", "b.a.{x,y*}"):
        says = f"6: pipelines.p.into: policy 'w' writes {match!r} too"
        assert problems(loaded(text.replace("b.{c,**}", match))) == [says]


def test_an_earlier_policy_hides_a_later_one(loaded: Callable[[str], Config]):
    """A catch-all without codec at the end makes no events of what a policy above takes, and forbids no pattern."""
    text = """\
        policies:
          v: {match: park.*.acc, codec: {raw: {rate: 1 kHz}}}
          all: {match: "**"}
        pipelines:
          p: {from: park.a.acc, do: [keep], into: "{stream}.p"}
          q: {from: park.**, do: [keep], into: "q.{stream}"}
        """
    assert problems(loaded(text)) == []
    assert problems(loaded(text.replace("from: park.**", "from: park.b.c"))) == [
        "6: pipelines.q.from: park.b.c of policy 'all' holds events or bytes; operators need rows "
        "(give the policy a codec, or narrow the pattern)"
    ]
    assert problems(loaded(text.replace('"**"', '"park.**"')))[0].startswith("6: pipelines.q.from: park.** of policy")


def test_a_model_that_does_not_load_is_told_once(loaded: Callable[[str], Config]):
    """At its declaration, not again for each pipeline that uses it; one that nobody uses is checked too."""
    text = f"""\
        policies: {{v: {{match: a.*, codec: {{raw: {{rate: 1 kHz}}}}}}}}
        pipelines:
          p: {{from: a.*, do: [score: {{model: m}}], into: "{{stream}}.p"}}
          q: {{from: a.*, do: [score: {{model: m}}], into: "{{stream}}.q"}}
        models:
          m: {{path: m.skops, sha256: "{"f" * 64}"}}
          n: {{path: n.skops, sha256: "{"f" * 64}"}}
        """
    says = problems(loaded(text))
    assert [line.split(": ")[:2] for line in says] == [["6", "models.m"], ["7", "models.n"]]
    assert all(line.endswith("has sha256 0, expected f (write the new digest)") for line in says)


def test_streams_in_the_store_take_part(loaded: Callable[[str], Config]):
    """What was imported or written long ago can feed a pipeline, and is checked like the rest."""
    config = loaded("pipelines: {p: {from: old.*, do: [picky: {fmax: 1 kHz}], into: '{stream}.p'}}")
    assert problems(config) == [
        "1: pipelines.p.from: nothing can match 'old.*' "
        "(no policy and no pipeline writes a stream, and none is in the store)"
    ]
    assert problems(config, {"new.a": ("rows", RAW)}) == [
        "1: pipelines.p.from: nothing can match 'old.*' (known: new.a)"
    ]
    assert problems(config, {"old.a": ("events", None)}) == [
        "1: pipelines.p.from: nothing can match 'old.*' (did you mean 'old.a'?)"
    ]
    assert problems(config, {"old.a": ("rows", RAW)}) == [
        "1: pipelines.p.do[0].picky.fmax: is above half the rate (lower it; "
        "the pipeline reads old.a of stream 'old.a' in the store: <f4 [x] at 1000 per second)"
    ]
    fast = Signal(np.dtype("<f4"), ("x",), rate=Fraction(4000))
    assert problems(config, {"old.a": ("rows", fast), "old.b": ("rows", fast)}) == []


HELD = "write to a new name with '%s:', or move the old stream out of the store"


@pytest.mark.parametrize(
    ("name", "kind", "signal", "says"),
    [
        ("park.a.acc", "rows", RAW, []),
        ("park.a.acc.p", "rows", Signal("<f4", ("x",), rate=500), []),
        (
            "park.a.acc.p",
            "rows",
            RAW,
            [
                "6: pipelines.p.into: stream 'park.a.acc.p' is there already and holds <f4 [x] at 1000 per second; "
                f"now it would be <f4 [x] at 500 per second ({HELD % 'into'})"
            ],
        ),
        (
            "park.a.acc.p",
            "bytes",
            None,
            [
                "6: pipelines.p.into: stream 'park.a.acc.p' is there already and holds bytes; "
                f"now it would be <f4 [x] at 500 per second ({HELD % 'into'})"
            ],
        ),
        (
            "park.a.acc",
            "events",
            None,
            [
                "2: policies.v.codec: stream 'park.a.acc' is there already and holds events; "
                f"now it would be <f4 [x] at 1000 per second ({HELD % 'stream'})"
            ],
        ),
        (
            "wav.a",
            "bytes",
            None,
            [
                "3: policies.g.codec: stream 'wav.a' is there already and holds bytes; "
                f"now it would be rows ({HELD % 'stream'})"
            ],
        ),
        ("wav.a", "rows", RAW, []),
        ("log.a", "rows", RAW, []),
        ("something.else", "rows", RAW, []),
    ],
)
def test_a_stream_that_is_there_with_another_signal(
    loaded: Callable[[str], Config], name: str, kind: Kind, signal: Signal | None, says: list[str]
):
    """What cannot be appended is told before the start, with the way out."""
    config = loaded(with_pipelines("  p: {from: park.*.acc, do: [halve], into: '{stream}.p'}\n"))
    assert problems(config, {name: (kind, signal)}) == says


def test_the_plan_says_what_comes_out(loaded: Callable[[str], Config]):
    """Names and signals of all outputs; a signal that only the data tells stays unknown down the line."""
    config = loaded(
        with_pipelines(
            "  q: {from: '**.p', do: [halve], into: '{stream}.q'}\n"
            "  p: {from: '{park.*.acc,wav.a}', do: [halve], into: '{stream}.p'}\n"
        )
    )
    result = plan(config, {}, load_model)
    assert result.errors == []
    outputs = {
        name: [(str(flow.names), flow.signal and flow.signal.rate) for flow in flows]
        for name, flows in result.outputs.items()
    }
    assert outputs == {
        "p": [("park.*.acc.p", 500), ("wav.a.p", None)],
        "q": [("wav.p.q", None), ("park.*.acc.p.q", 250), ("wav.a.p.q", None)],
    }


def test_operators_are_built_and_chained_by_the_runtime(loaded: Callable[[str], Config]):
    """The same functions that the check uses; without a spec the error still says the step."""
    p = "p: {from: a, do: [halve, picky: {fmax: 300 Hz}], into: p}"
    q = "q: {from: a, do: [score: {model: m}], into: q}"
    config = loaded(f"pipelines: {{{p}, {q}}}")
    context = operator_context(config.models, load_model)
    spec = config.pipelines["p"]
    fast = Signal("<f4", ("x",), rate=2000)
    assert chain(build_operators(spec, context), fast, spec).rate == 1000
    with pytest.raises(ConfigError, match=r"c.yaml:1: pipelines.p.do\[1\].picky.fmax: is above half the rate"):
        chain(build_operators(spec, context), RAW, spec)
    with pytest.raises(ConfigError, match="step 2: fmax: is above half the rate"):
        chain(build_operators(spec, context), RAW)
    with pytest.raises(ConfigError, match="model 'm' is not declared"):
        build_operators(config.pipelines["q"], context)


def test_a_model_is_loaded_once(loaded: Callable[[str], Config]):
    """Several pipelines share it."""
    config = loaded(f"models: {{m: {{path: /m, sha256: '{'0' * 64}'}}}}")
    calls = []

    def counting(name: str, path: Path, sha256: str) -> FakeModel:
        calls.append((name, path, sha256))
        return FakeModel(name, sha256)

    context = operator_context(config.models, counting)
    assert context.model("m") is context.model("m")
    assert calls == [("m", Path("/m"), "0" * 64)]


def test_streams_of_a_real_store(store_path: Path):
    """Kinds and signals as the check wants them; no store yet is no streams."""
    assert stored_streams(store_path) == {}
    store = Store(store_path)
    store.writer("a.rows", "rows", RAW)
    store.writer("a.log", "events")
    store.close()
    assert stored_streams(store_path) == {"a.rows": ("rows", RAW), "a.log": ("events", None)}
