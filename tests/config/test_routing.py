"""From a tag to a stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.config import Config, Policy, Route, route
from wendelin_stream.errors import BadData
from wendelin_stream.store import encode_name


@pytest.mark.usefixtures("doubles")
def test_the_first_policy_that_matches_decides(loaded: Callable[[str], Config]):
    """Order in the file is the order of trial; the template makes the name."""
    config = loaded('policies: {b: {match: a.b, stream: "x.{tag}"}, a: {match: a.*}, all: {match: "z.**"}}')
    policies = tuple(config.policies.values())
    assert route(policies, "a.b") == Route("x.a.b", config.policies["b"])
    assert route(policies, "a.c") == Route("a.c", config.policies["a"])
    assert route(policies, "z") == Route("z", config.policies["all"])
    assert route(policies, "b") is None
    assert route((), "a") is None


def test_tags_are_matched_as_they_are_encoded():
    """A tag with other characters is one part with %XX in it; no pattern has to quote, no tag leads elsewhere."""
    everything = (Policy(name="p", match="**"),)
    assert route((Policy(name="p", match="t%C3%BCr.*"),), "tür.1").stream == "t%C3%BCr.1"
    assert route(everything, "../../etc").stream == "%2E%2E%2F%2E%2E%2Fetc"
    assert route((Policy(name="p", match="a.*"),), "a/b") is None
    assert route((Policy(name="p", match="a%2F*"),), "a/b").stream == "a%2Fb"


@given(st.text(min_size=1, max_size=40))
def test_every_tag_fits_somewhere_under_a_policy_for_all(tag: str):
    """Any text becomes a stream name, or is refused with a reason."""
    try:
        found = route((Policy(name="p", match="**", stream="raw.{tag}"),), tag)
    except BadData:
        return
    assert found is not None
    assert found.stream == "raw." + encode_name(tag)


@pytest.mark.parametrize("tag", ["", "x" * 201, "\ud800"])
def test_a_tag_that_cannot_be_a_name_is_bad_data(tag: str):
    """The message goes to the dead letter, with the reason."""
    with pytest.raises(BadData):
        route((Policy(name="p", match="**"),), tag)


def test_a_name_that_becomes_too_long_is_bad_data():
    """The template's part counts too."""
    with pytest.raises(BadData, match="longer than 200"):
        route((Policy(name="p", match="**", stream="raw.{tag}"),), "x" * 199)
