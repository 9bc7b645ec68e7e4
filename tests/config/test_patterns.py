"""Patterns and templates against a model that tries all names of a small alphabet."""

from __future__ import annotations

import re
import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.config.pattern import MAX_ALTERNATIVES, Pattern
from wendelin_stream.config.template import Template
from wendelin_stream.errors import BadData

WORDS = ["a", "b", "ab", "ba", "aab"]
NAMES = [".".join(parts) for length in (1, 2, 3) for parts in product(WORDS, repeat=length)]


def means(pattern: str, name: str) -> bool:
    """The model: the same syntax as a regular expression, written down independently (slow for bad patterns)."""
    text = ""
    for token in re.findall(r"\*\*\.|\.\*\*|\*\*|\*|\{|\}|,|\.|[^*.{},]+", pattern):
        special = {"**.": r"(?:[^.]+\.)*", ".**": r"(?:\.[^.]+)*", "**": r"[^.]+(?:\.[^.]+)*", "*": "[^.]*"}
        text += special.get(token) or {"{": "(?:", "}": ")", ",": "|", ".": r"\."}.get(token) or re.escape(token)
    return re.fullmatch(text, name) is not None


pieces = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b", "**", "{a,b}", "{ab,b*}", "*a*", "{a,b}*"])
texts = (
    st.lists(pieces, min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda text: "**.**" not in text)  # the model's tokens would overlap
)
patterns = st.lists(texts, min_size=1, max_size=2).map(Pattern.of)


@given(texts)
def test_a_pattern_matches_what_the_model_matches(text: str):
    """Every name of up to three parts, for patterns with all wildcards and braces."""
    pattern = Pattern.of(text)
    assert [name for name in NAMES if pattern.matches(name)] == [name for name in NAMES if means(text, name)]


@given(patterns, patterns)
def test_overlap_is_having_a_name_in_common(one: Pattern, other: Pattern):
    """A common name among the small ones proves it; if there is none, longer ones are looked at by the algorithm."""
    common = [name for name in NAMES if one.matches(name) and other.matches(name)]
    assert one.overlaps(other) == other.overlaps(one)
    if common:
        assert one.overlaps(other)
    short = all(len(parts) <= 3 and "**" not in parts for parts in one.alternatives)
    if short and all("*" not in part or part == "*" for parts in one.alternatives for part in parts):
        assert one.overlaps(other) == any(one.matches(name) and other.matches(name) for name in NAMES)


@given(patterns, patterns)
def test_narrowing_keeps_all_common_names(one: Pattern, other: Pattern):
    """`narrow` may mean too much, never too little, and is None exactly where nothing is common."""
    narrow = one.narrow(other)
    assert (narrow is None) == (not one.overlaps(other))
    if narrow is not None:
        common = [name for name in NAMES if one.matches(name) and other.matches(name)]
        assert all(narrow.matches(name) for name in common)
        assert all(one.matches(name) or other.matches(name) for name in NAMES if narrow.matches(name))


@given(patterns, patterns)
def test_what_covers_matches_all_of_the_other(one: Pattern, other: Pattern):
    """`covers` is never wrong when it says yes, and everything covers itself."""
    assert one.covers(one)
    if one.covers(other):
        assert all(one.matches(name) for name in NAMES if other.matches(name))


@given(texts, st.sampled_from(["{tag}", "{tag}.x", "a.{tag}", "a{tag}", "{tag}b", "a{tag}b", "a.b"]))
def test_a_template_gives_only_names_that_it_announces(text: str, template: str):
    """For every tag that matches, the stream's name is among `names`."""
    pattern, filled = Pattern.of(text), Template(template, "tag")
    names = filled.names(pattern)
    assert all(names.matches(filled.fill(tag)) for tag in NAMES if pattern.matches(tag))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("park.*.gearbox.acc", "park.wt07.gearbox.acc", True),
        ("park.*.gearbox.acc", "park.gearbox.acc", False),
        ("park.*.gearbox.acc", "park.a.b.gearbox.acc", False),
        ("park.**", "park", True),
        ("park.**", "park.a.b", True),
        ("park.**", "parking", False),
        ("**", "anything.at.all", True),
        ("**.acc", "acc", True),
        ("**.**", "a", True),
        ("a.**.b", "a.b", True),
        ("gear*", "gearbox", True),
        ("gear*", "gear", True),
        ("gear*", "gearbox.acc", False),
        ("*", "a", True),
        ("{park,farm}.{wt1,wt2.*}", "farm.wt2.acc", True),
        ("{park,farm}.{wt1,wt2.*}", "farm.wt2", False),
        ("{a,{b,c}d}", "cd", True),
        ("acc{,2}", "acc", True),
        ("t%2Ex", "t%2Ex", True),
    ],
)
def test_examples_of_the_manual(pattern: str, name: str, matches: bool):
    """Fluentd's syntax, as its users know it."""
    assert Pattern.of(pattern).matches(name) is matches


def test_the_literal_name():
    """A pattern without wildcards is one name."""
    assert Pattern.of("a.b").literal == "a.b"
    assert Pattern.of(["a.b", "{a.b}"]).literal == "a.b"
    assert Pattern.of("a.*").literal is None
    assert Pattern.of("{a,b}").literal is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "'' has an empty part: names are words joined by single dots"),
        ("a..b", "'a..b' has an empty part: names are words joined by single dots"),
        ("a.b**", "'a.b**': '**' must stand alone between dots"),
        ("{a,b", "'{a,b': braces must pair and commas stand within them, like '{a,b}'"),
        ("a,b", "'a,b': braces must pair and commas stand within them, like '{a,b}'"),
        ("a b", "'a b': ' ' cannot be in a pattern; names have it as %20"),
        ("Müller.*", "'Müller.*': 'ü' cannot be in a pattern; names have it as %C3%BC"),
        ("a/b", "'a/b': '/' cannot be in a pattern; names have it as %2F"),
        ("x" * 201, "a pattern of 201 characters: names are not longer than 200"),
        ("{a,b}" * 7, f"{'{a,b}' * 7!r} has more than 64 alternatives"),
        (["{a,b}.{a,b,c,d,e,f,g,h}", "{c,d,e}.{a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q}"], "more than 64 alternatives"),
        ([], "an empty list matches nothing: give at least one pattern"),
        (5, "5 is not a pattern: write one like 'park.*.gearbox.acc', or a list of them"),
        (["a", 5], "['a', 5] is not a pattern: write one like 'park.*.gearbox.acc', or a list of them"),
    ],
)
def test_what_is_no_pattern_is_told_plainly(value: object, says: str):
    """The text shows the pattern and how to write it."""
    with pytest.raises(ValueError, match=r"^") as caught:
        Pattern.of(value)
    assert str(caught.value) == says


@given(st.text(alphabet="ab*.{},%/ ", max_size=30) | st.integers() | st.lists(st.text(max_size=3), max_size=3))
def test_anything_is_a_pattern_or_a_value_error(value: object):
    """No text gets another exception out, and what is a pattern can be asked."""
    try:
        pattern = Pattern.of(value)
    except ValueError:
        return
    assert isinstance(pattern.matches("a.b"), bool)
    assert len(pattern.alternatives) <= MAX_ALTERNATIVES


def test_no_pattern_takes_long():
    """What stalls a backtracking matcher is linear here: far below a second for the longest patterns."""
    began = time.perf_counter()
    assert not Pattern.of("*a" * 99 + "*b").matches("a" * 200)
    deep = Pattern.of(".".join(["**", "*a*"] * 25 + ["b"]))
    assert not deep.matches(".".join(["a"] * 100))
    assert deep.overlaps(Pattern.of(".".join(["*", "**"] * 40)))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{tags}", "'{tags}': only {tag} can be put in, once"),
        ("{tag}.{tag}", "'{tag}.{tag}': only {tag} can be put in, once"),
        ("a b", "'a b': ' ' cannot be in a stream name"),
        ("raw.%20", "'raw.%20': '%' cannot be in a stream name"),
        ("../{tag}", "'../{tag}': '/' cannot be in a stream name"),
        ("..{tag}", "'..{tag}' has an empty part: names are words joined by single dots"),
        ("", "'' has an empty part: names are words joined by single dots"),
        ("x" * 201, "201 characters: stream names are not longer than 200"),
    ],
)
def test_what_is_no_template_is_told_plainly(text: str, says: str):
    """A template always gives a stream name."""
    with pytest.raises(ValueError, match=r"^") as caught:
        Template(text, "tag")
    assert str(caught.value) == says


def test_a_filled_template_is_not_too_long():
    """200 characters are the limit of a stream name, so this message is set aside."""
    assert Template("{tag}.x", "tag").fill("a" * 198) == "a" * 198 + ".x"
    with pytest.raises(BadData, match="longer than 200"):
        Template("{tag}.x", "tag").fill("a" * 199)
