"""Errors say what the caller does about them, and plugins are found by name."""

from __future__ import annotations

import pytest

from wendelin_stream import plugin
from wendelin_stream.errors import (
    BadData,
    ConfigError,
    Corrupt,
    Locked,
    Retry,
    WendelinStreamError,
    translate,
)


def test_all_errors_have_one_base_and_the_built_in_that_users_catch():
    """`except WendelinStreamError` gets all of them, `except ValueError` those about values."""
    for kind in (ConfigError, Retry, BadData, Corrupt, Locked):
        assert issubclass(kind, WendelinStreamError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(BadData, ValueError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("is wrong"), "is wrong"),
        (ConfigError("is wrong", source="a.yaml"), "a.yaml: is wrong"),
        (
            ConfigError("is wrong", source="a.yaml", line=3, where="store.path", hint="set it"),
            "a.yaml:3: store.path: is wrong (set it)",
        ),
        (ConfigError("is wrong", where="store.path"), "store.path: is wrong"),
        (Corrupt("bad record"), "bad record"),
        (Corrupt("bad record", stream="a.b", position=0), "stream a.b at byte 0: bad record"),
        (Corrupt("bad record", stream="a.b"), "stream a.b: bad record"),
    ],
)
def test_an_error_says_where(error: WendelinStreamError, text: str):
    """Fields become the text in the order in which one looks for the place."""
    assert str(error) == text


def test_retry_knows_its_delay():
    """The caller waits as long as the error says."""
    assert Retry("later").delay == 1.0
    assert Retry("later", delay=5.0).delay == 5.0


def test_translate_at_a_seam():
    """The first class of the table that fits decides; the cause is kept; our own errors pass as they are."""
    with pytest.raises(Retry, match="gone") as caught, translate({FileNotFoundError: Retry, OSError: BadData}):
        raise FileNotFoundError("gone")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(BadData, match="PermissionError"), translate({FileNotFoundError: Retry, OSError: BadData}):
        raise PermissionError
    with pytest.raises(Locked), translate({Exception: BadData}):
        raise Locked("by another")
    with pytest.raises(KeyError), translate({OSError: Retry}):
        raise KeyError("not in the table")


def test_an_unknown_plugin_is_told_with_the_nearest_name():
    """As for any wrong name: what is wrong, and what was probably meant."""
    with pytest.raises(ConfigError, match=r"there is no codec 'wave' \(did you mean 'wav'\?\)"):
        plugin.load("codecs", "wave")
    with pytest.raises(ConfigError, match=r"there is no codec 'xyz' \(known: .*pcm, wav.*\)"):
        plugin.load("codecs", "xyz")


def test_options_refuse_unknown_keys_and_do_not_change():
    """What every plugin's `Config` inherits."""

    class Config(plugin.Options):
        n: int = 1

    with pytest.raises(ValueError, match="Extra inputs"):
        Config.model_validate({"m": 1})
    with pytest.raises(ValueError, match="frozen"):
        Config().n = 2
