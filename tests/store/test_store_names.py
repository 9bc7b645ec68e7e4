"""Tags become stream names that are injective and never lead out of the store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wendelin_stream.errors import BadData, ConfigError
from wendelin_stream.store import Store, StreamReader, decode_name, encode_name, stream_names
from wendelin_stream.store.names import stream_folder

wire = st.binary(min_size=1, max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(wire)
@example("../../etc")
@example("...")
@example(".hidden")
@example("100%")
@example("%2E")
@example("a/b\0c\udcff")
def test_every_tag_from_the_wire_comes_back_from_its_name(tag):
    """What the name shows is all of the tag: no two tags share a stream."""
    assert decode_name(encode_name(tag)) == tag


@given(wire)
def test_names_are_dotted_parts_that_no_folder_listing_can_misread(tag):
    """No slash, no hidden name, no `..`: a tag from the network is never a path."""
    assert re.fullmatch(r"([A-Za-z0-9_-]|%[0-9A-F]{2})+(\.([A-Za-z0-9_-]|%[0-9A-F]{2})+)*", encode_name(tag))


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("park.7.gearbox-acc_x", "park.7.gearbox-acc_x"),
        ("../../etc", "%2E%2E%2F%2E%2E%2Fetc"),
        ("a..b", "a%2E%2Eb"),
        (".a.", "%2Ea%2E"),
        ("100%", "100%25"),
        ("Gerät", "Ger%C3%A4t"),
        ("\udcff", "%FF"),
    ],
)
def test_examples(tag, name):
    assert encode_name(tag) == name


@pytest.mark.parametrize("tag", ["", "a" * 201, "/" * 67, "\ud800"])
def test_tags_without_a_name_are_bad_data(tag):
    with pytest.raises(BadData):
        encode_name(tag)


@pytest.mark.parametrize("name", ["", "..", "a/b", "%2e", "a.", "%41", ".new-1", "%"])
def test_what_no_tag_gives_is_refused_before_it_becomes_a_path(name):
    """`stream_folder` is the only way from a name to a folder."""
    with pytest.raises(BadData):
        stream_folder(Path("store"), name)


def test_listing_shows_streams_only_and_sorted(store_path):
    """Strange folders and half-made streams are not streams."""
    with Store(store_path) as store:
        for name in ("b", "a.c", "a"):
            store.writer(name, "bytes")
    for stray in ("lost+found", "not-a-stream", ".new-x"):
        (store_path / "streams" / stray).mkdir()
    assert stream_names(store_path) == ["a", "a.c", "b"]


def test_an_empty_store_has_no_streams_and_no_store_is_an_error(store_path):
    with pytest.raises(ConfigError, match="no store"):
        stream_names(store_path)
    Store(store_path).close()
    assert stream_names(store_path) == []


def test_a_mistyped_name_is_answered_with_the_nearest(store_path):
    with Store(store_path) as store:
        store.writer("park.gearbox", "bytes")
    with pytest.raises(ConfigError, match=r"did you mean 'park\.gearbox'"):
        StreamReader.open(store_path, "park.gearbx")
    with pytest.raises(ConfigError, match="no stream"):
        StreamReader.open(store_path, "../etc")
