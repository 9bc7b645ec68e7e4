"""One YAML file: what it says with the lines, and what no file can do to us."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.config.document import MAX_BYTES, parse, read


def test_values_are_those_of_yaml_1_2():
    """`on`, `yes` and `no` are words, 010 is ten, 12:30 a text, and keys are always texts."""
    document = parse(
        b"on: yes\n1: no\ntrue: true\na: 010\nb: 12:30\nc: 1e3\nd: 2026-11-01\ne: ~\nf: 0x10\ng: '1'\n", "a"
    )
    assert document.data == {
        "on": "yes",
        "1": "no",
        "true": True,
        "a": 10,
        "b": "12:30",
        "c": 1000.0,
        "d": "2026-11-01",
        "e": None,
        "f": 16,
        "g": "1",
    }
    assert document.errors == []


def test_each_place_has_its_line():
    """A key's line is the key's, an item's is the item's."""
    document = parse(b"# first\na:\n  b: [1,\n    2]\n  c:\n    - d: 3\n", "x.yaml")
    lines = {path: mark.line for path, mark in document.marks.items()}
    assert lines[("a",)] == 2
    assert lines[("a", "b", 0)] == 3
    assert lines[("a", "b", 1)] == 4
    assert lines[("a", "c", 0, "d")] == 6


def test_an_alias_stands_for_its_value():
    """Useful for options that several share."""
    document = parse(b"a: &x {b: 1}\nc: *x\n", "x.yaml")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}


BOMB = b"".join(
    [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"]
    + [b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)]
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a:\n\tb: 1\n", "x.yaml:2: a tab stands where YAML takes only spaces (indent with spaces)"),
        (b"a: b: c\n", "x.yaml:1: not valid YAML: mapping values are not allowed here"),
        (
            b"a: [1, 2\nb: 3\n",
            "x.yaml:2: not valid YAML: expected ',' or ']', but got ':' (while parsing a flow sequence, line 1)",
        ),
        (b"a: *nowhere\n", "x.yaml:1: not valid YAML: found undefined alias 'nowhere'"),
        (
            b"a: 1\n---\nb: 2\n",
            "x.yaml:2: not valid YAML: but found another document (expected a single document in the stream, line 1)",
        ),
        (b"- a\n- b\n", "x.yaml:1: the file must hold sections like 'store:'"),
        (b"just words\n", "x.yaml:1: the file must hold sections like 'store:'"),
        (b"a: 1\nb: 2\na: 3\n", "x.yaml:3: a: the key is there twice, first in line 1"),
        (b"a:\n  <<: {b: 1}\n", "x.yaml:2: a: merge keys ('<<') are not supported (use an alias for the whole value)"),
        (b"? [a, b]\n: 1\n", "x.yaml:1: a key must be a word"),
        (
            b"a: !!python/object:os.system ls\n",
            "x.yaml:1: a: the tag !!python/object:os.system is not supported",
        ),
        (b"a: !secret b\n", "x.yaml:1: a: the tag !secret is not supported"),
        (b"a: !!set {b}\n", "x.yaml:1: a: the tag !!set is not supported"),
        (b"a: !!int b\n", "x.yaml:1: a: 'b' cannot be read as int"),
        (b"a: 1e999\n", "x.yaml:1: a: '1e999' cannot be read as float"),
        (b'a: "\\0"\n', "x.yaml:1: a: '\\x00' holds a character that is no text"),
        (b'a: "\\ud800"\n', "x.yaml:1: a: '\\ud800' holds a character that is no text"),
        (b"a: 1\nb: \xff\n", "x.yaml:2: byte 0xff is not UTF-8"),
        (b"a: 1\nb: \x07\n", "x.yaml:2: the character '\\x07' is not allowed in YAML"),
        (b"a: &x [*x]\n", "x.yaml: nested deeper than 50 levels"),
        (b"a: " + b"[" * 60 + b"]" * 60, "x.yaml: nested deeper than 50 levels"),
        (b"a: " + b"[" * 5000, "x.yaml: nested deeper than 50 levels"),
        (BOMB, "x.yaml: more than 50000 values; each use of an alias counts"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(content: bytes, says: str):
    """One line for each trouble, without a word about the parser."""
    assert [str(error) for error in parse(content, "x.yaml").errors] == [says]


def test_duplicates_keep_the_first_value_and_are_all_told():
    """So that the rest of the file can still be checked."""
    document = parse(b"a: 1\na: 2\nb: {c: 1, c: 2}\n", "x.yaml")
    assert document.data == {"a": 1, "b": {"c": 1}}
    assert [error.line for error in document.errors] == [2, 3]
    assert not document.fatal


@pytest.mark.parametrize("content", [b"", b"# nothing yet\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_says_nothing(content: bytes):
    """It is no error by itself: sections may stand in another file."""
    document = parse(content, "x.yaml")
    assert (document.data, document.errors) == ({}, [])


def test_files_that_cannot_be_opened(tmp_path: Path):
    """The name and the system's reason."""
    assert [str(e) for e in read(tmp_path / "no.yaml").errors] == [
        f"{tmp_path}/no.yaml: cannot be read: No such file or directory"
    ]
    assert [str(e) for e in read(tmp_path).errors] == [f"{tmp_path}: cannot be read: Is a directory"]
    assert "cannot be read" in str(read(Path("a\0b")).errors[0])


def test_a_huge_file_is_not_read(tmp_path: Path):
    """A wrong path to a recording does not fill the memory."""
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (MAX_BYTES + 1))
    assert [str(e) for e in read(big).errors] == [f"{big}: is larger than 1048576 bytes"]


yaml_like = st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t0e.~<\\xU\x85\ufeff\ud7ff", max_size=80)


@given(st.binary(max_size=200) | yaml_like.map(lambda text: text.encode()))
def test_no_bytes_raise(content: bytes):
    """Whatever is in the file, the answer is a document with errors, each with the file's name."""
    document = parse(content, "x.yaml")
    assert all(error.source == "x.yaml" for error in document.errors)
    assert document.errors or isinstance(document.data, dict)
