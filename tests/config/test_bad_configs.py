"""Each mistake in a file is told with its line, its place and the way out; all mistakes at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wendelin_stream import plugin
from wendelin_stream.config import ConfigErrors, load
from wendelin_stream.config.document import parse
from wendelin_stream.config.loading import merge
from wendelin_stream.config.place import Place
from wendelin_stream.config.reader import Reader
from wendelin_stream.errors import ConfigError

pytestmark = pytest.mark.usefixtures("doubles")

DIGEST = "0" * 64

CASES = {
    "wrong unit": (
        """\
        store: {path: d}
        policies:
          v:
            match: a
            codec:
              raw: {rate: 25.6 kHzz}
        """,
        ["6: policies.v.codec.raw.rate: unknown unit 'kHzz': use one of mHz, Hz, kHz, MHz, like '25.6 kHz'"],
    ),
    "no unit": (
        "store: {path: d, sync: 20}",
        ["1: store.sync: 20 has no unit: use one of ns, us, ms, s, min, h, d, like '20 ms'"],
    ),
    "unknown section": (
        "store: {path: d}\npolices: {}",
        ["2: polices: unknown key (did you mean 'policies'?)"],
    ),
    "a section that is not built yet": (
        "store: {path: d}\nfoo: 1",
        ["2: foo: unknown key (known: models, pipelines, policies, sources, store)"],
    ),
    "unknown key of the store": (
        "store: {path: d, keepfree: 1 GB}",
        ["1: store.keepfree: unknown key (did you mean 'keep_free'?)"],
    ),
    "unknown key of a source": (
        "store: {path: d}\nsources:\n  a:\n    type: door\n    lisen: x\n",
        ["5: sources.a.lisen: unknown key (did you mean 'listen'?)"],
    ),
    "unknown key in nested options": (
        "store: {path: d}\nsources:\n  a: {type: door, listen: x, limits: {row: 1}}\n",
        ["3: sources.a.limits.row: unknown key (did you mean 'rows'?)"],
    ),
    "unknown key of a policy": (
        "store: {path: d}\npolicies:\n  a: {match: a, dedup: true}\n",
        ["3: policies.a.dedup: unknown key (did you mean 'dedupe'?)"],
    ),
    "internal names are no keys": (
        f"""\
        store: {{path: d}}
        policies: {{a: {{match: a, name: b}}}}
        pipelines: {{p: {{from_: a, do: [keep], into: b}}}}
        models: {{m: {{path: m, sha256: "{DIGEST}", name: x}}}}
        """,
        [
            "2: policies.a.name: unknown key (known: codec, dedupe, match, max_jitter, stream)",
            "3: pipelines.p.from_: unknown key (did you mean 'from'?)",
            "4: models.m.name: unknown key (known: path, sha256)",
        ],
    ),
    "wrong types": (
        """\
        store: {path: 5}
        sources:
          a: {type: door, listen: 5, port: x, mode: {}, limits: 7}
          b: {type: door, listen: x, port: 1.5, files: x}
        policies:
          a: {match: a, dedupe: 7}
        """,
        [
            "1: store.path: must be a path, not 5",
            "3: sources.a.listen: must be a text, not 5",
            "3: sources.a.port: must be a whole number, not 'x'",
            "3: sources.a.mode: must be a text or a list, not a mapping",
            "3: sources.a.limits: must be a mapping, not 7",
            "4: sources.b.port: must be a whole number, not 1.5",
            "4: sources.b.files: must be a list, not 'x'",
            "6: policies.a.dedupe: must be true or false, not 7",
        ],
    ),
    "out of bounds": (
        "store: {path: d, dedupe: -1, policy: grup}\nsources: {a: {type: door, listen: x, port: 70000}}",
        [
            "1: store.policy: must be one of group, each, os, not 'grup' (did you mean 'group'?)",
            "1: store.dedupe: must be at least 0, not -1",
            "2: sources.a.port: must be at most 65535, not 70000",
        ],
    ),
    "unknown plugins": (
        """\
        store: {path: d}
        sources: {a: {type: dor, listen: x}}
        policies: {a: {match: a, codec: rw}}
        pipelines:
          p:
            from: a
            do:
              - keep
              - pickey: {fmax: 1 Hz}
            into: b
        """,
        [
            "2: sources.a.type: there is no source 'dor' (did you mean 'door'?)",
            "3: policies.a.codec: there is no codec 'rw' (did you mean 'raw'?)",
            "9: pipelines.p.do[1].pickey: there is no operator 'pickey' (did you mean 'picky'?)",
        ],
    ),
    "missing options": (
        """\
        sources:
          a: {listen: x}
          b: {type: door}
        policies:
          a: {codec: raw}
        pipelines:
          p: {do: [score]}
        models: {m: {}}
        """,
        [
            "1: store.path: is missing (the folder for data streams)",
            "2: sources.a.type: is missing (known: door)",
            "3: sources.b.listen: is missing",
            "5: policies.a.codec.rate: is missing",
            "5: policies.a.match: is missing",
            "7: pipelines.p.do[0].model: is missing",
            "7: pipelines.p.from: is missing",
            "7: pipelines.p.into: is missing",
            "8: models.m.path: is missing",
            "8: models.m.sha256: is missing",
        ],
    ),
    "duplicate keys": (
        "store: {path: d}\npolicies:\n  a: {match: a}\n  a: {match: b}\nstore: {path: e}\n",
        [
            "4: policies.a: the key is there twice, first in line 3",
            "5: store: the key is there twice, first in line 1",
        ],
    ),
    "bad patterns and templates": (
        """\
        store: {path: d}
        policies:
          a: {match: "a b", stream: "{stream}"}
          b: {match: [], stream: 7}
        pipelines:
          p: {from: "a**", do: [keep], into: "{tag}"}
        """,
        [
            "3: policies.a.match: 'a b': ' ' cannot be in a pattern; names have it as %20",
            "3: policies.a.stream: '{stream}': only {tag} can be put in, once",
            "4: policies.b.match: an empty list matches nothing: give at least one pattern",
            "4: policies.b.stream: 7 is not a stream name: write one like 'raw.{tag}'",
            "6: pipelines.p.from: 'a**': '**' must stand alone between dots",
            "6: pipelines.p.into: '{tag}': only {stream} can be put in, once",
        ],
    ),
    "steps in a wrong form": (
        """\
        store: {path: d}
        pipelines:
          p:
            from: a
            into: b
            do:
              - picky:
                fmax: 1 Hz
              - 7
              - []
              - {}
              - keep: 5
          q: {from: a, into: c, do: keep}
          r: {from: a, into: d, do: []}
          s: {from: a, into: e, do: }
        """,
        [
            "7: pipelines.p.do[0]: must be one name with options, not picky, fmax "
            "(indent the options of 'picky' below it)",
            "9: pipelines.p.do[1]: must be a name, or a name with options, not 7",
            "10: pipelines.p.do[2]: must be a name, or a name with options, not a list",
            "11: pipelines.p.do[3]: must be a name, or a name with options, not a mapping",
            "12: pipelines.p.do[4].keep: must be a mapping of options, not 5",
            "13: pipelines.q.do: must be a list of operators, like '- welch: {...}', not 'keep'",
            "14: pipelines.r.do: must be a list of operators, like '- welch: {...}', not a list",
            "15: pipelines.s.do: must be a list of operators, like '- welch: {...}', not empty",
        ],
    ),
    "sections and entries that are no mappings": (
        "store: d\nsources: [a]\npolicies:\n  a:\n  b c: {match: a}\n  d: 5\n",
        [
            "1: store: must be a mapping like {path: /var/lib/data}, not 'd'",
            "2: sources: must be a mapping from names, not a list",
            "4: policies.a: must be a mapping of options, not empty",
            "5: policies.'b c': a name must be 1 to 64 of A-Z a-z 0-9 _ -",
            "6: policies.d: must be a mapping of options, not 5",
        ],
    ),
    "a digest that is none": (
        "store: {path: d}\nmodels: {m: {path: m.skops, sha256: abc}}",
        ["2: models.m.sha256: must be the 64 hexadecimal digits that `sha256sum FILE` prints"],
    ),
    "a tab": (
        "store:\n\tpath: d\n",
        ["2: a tab stands where YAML takes only spaces (indent with spaces)"],
    ),
    "an empty file": ("", ["1: store.path: is missing (the folder for data streams)"]),
    "no mapping": ("- a\n", ["1: the file must hold sections like 'store:'"]),
    "a plugin's own check": (
        "store: {path: d}\npolicies: {a: {match: a, codec: {raw: {rate: 0 Hz}}}}",
        ["2: policies.a.codec.raw.rate: '0 Hz' must be above zero"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_with_its_line(case: str, write: Callable[..., Path]):
    """The exact messages, in the order of lines, and no others."""
    text, says = CASES[case]
    path = write(text)
    with pytest.raises(ConfigErrors) as caught:
        load([path])
    assert [str(error) for error in caught.value.errors] == [f"{path}:{line}" for line in says]
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]


def test_the_same_name_in_two_files(write: Callable[..., Path]):
    """Names add up over files; the same one twice names both places, whatever section it is in."""
    first = write("store: {path: d}\npolicies:\n  a: {match: a}\n", "one.yaml")
    second = write("store: {path: e, sync: 5 ms}\npolicies:\n  b: {match: b}\n  a: {match: c}\n", "two.yaml")
    with pytest.raises(ConfigErrors) as caught:
        load([first, second])
    assert [str(error) for error in caught.value.errors] == [
        f"{second}:1: store.path: is there already, in {first}:1",
        f"{second}:4: policies.a: is there already, in {first}:3",
    ]


def test_a_file_that_cannot_be_read_hides_no_other_mistake(write: Callable[..., Path], tmp_path: Path):
    """The other file's errors are told too; what the broken one may hold is not missed."""
    good = write("policies: {a: {mach: a}}\n", "one.yaml")
    bad = write("store: {path: d\n", "two.yaml")
    with pytest.raises(ConfigErrors) as caught:
        load([good, bad, tmp_path / "none.yaml"])
    assert [str(error) for error in caught.value.errors] == [
        f"{bad}:2: not valid YAML: expected ',' or '}}', but got '<stream end>' (while parsing a flow mapping, line 1)",
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory",
        f"{good}:1: policies.a.mach: unknown key (did you mean 'match'?)",
    ]


def test_a_plugin_that_does_not_import_is_told(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    """A missing extra is the user's to install, not a traceback."""

    def broken(group: str, name: str) -> type:
        raise ImportError("No module named 'zarr'")

    monkeypatch.setattr(plugin, "load", broken)
    path = write("store: {path: d}\nsources: {a: {type: door}}\n")
    with pytest.raises(ConfigErrors) as caught:
        load([path])
    assert str(caught.value) == f"{path}:2: sources.a.type: the plugin 'door' cannot be loaded: No module named 'zarr'"


# --- nothing else is ever raised -------------------------------------------------------------------

WORDS = """
store path sync sources policies pipelines models type door listen match codec raw rate channels from do into keep picky
fmax score model sha256 name stream limits files dedupe max_jitter a b
"""
keys = st.sampled_from(WORDS.split())
scalars = st.sampled_from(["d", "a.*", "{tag}", "{stream}.x", "20 ms", "1 kHz", "1e99 Hz", DIGEST]) | st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=3), max_size=5))
def test_arbitrary_data_gives_errors_or_a_config(data: dict):
    """Any tree of known and unknown keys and values: a Config, or errors; never another exception."""
    reader = Reader(data, Place())
    config = reader.config(None)
    assert (config is None) == bool(reader.errors)
    assert all(isinstance(error, ConfigError) and error.what for error in reader.errors)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text(alphabet="store: {path}[]pipelines\n\tdo-&*!|>'\"#%@,? 0e.~<\\x", max_size=60))
def test_arbitrary_yaml_gives_errors_or_a_config(content: str):
    """The same from text, so that parser, merge and marks take part."""
    merged = merge([parse(content.encode(), "x.yaml")])
    reader = Reader(merged.data, Place((), merged.marks))
    config = reader.config(Path("d"))
    assert (config is None) == bool(reader.errors)
