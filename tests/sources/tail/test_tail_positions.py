"""The position file, and what it means when it is torn, damaged or cannot be written."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wendelin_stream.errors import BadData
from wendelin_stream.sources.tail.identity import Mark, look, producer
from wendelin_stream.sources.tail.positions import MOST_ABSENT, NAME, Entry, load, save

ENTRY = Entry("/srv/\udcff.wav", "pydata.\udcff", 2, 12345, 1_700_000_000_123_456_789, (Mark(64, "ab" * 8),))
DATA = bytes(range(256)) * 64


def test_what_is_saved_is_loaded(tmp_path):
    """Names that are not UTF-8 included; nothing but the file itself is left in the folder."""
    assert load(tmp_path) is None
    save(tmp_path, {0xFFFF_0000_1111_2222: ENTRY, 1: ENTRY})
    assert load(tmp_path) == {0xFFFF_0000_1111_2222: ENTRY, 1: ENTRY}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    """A power cut or a full disk in the middle costs a second of positions, never the file."""
    save(tmp_path, {1: ENTRY})
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, {})
    assert load(tmp_path) == {1: ENTRY}


@given(data=st.data())
def test_any_damage_is_bad_data_and_nothing_else(tmp_path_factory, data):
    """Cut off at any byte, changed anywhere, or JSON of another shape."""
    folder = tmp_path_factory.mktemp("state")
    save(folder, {1: ENTRY})
    raw = (folder / NAME).read_bytes()
    cut = data.draw(st.integers(0, len(raw)))
    junk = data.draw(st.binary(max_size=5) | st.sampled_from([b'{"files": []}', b"[]", b"-1", b"1e999", b"[" * 9999]))
    (folder / NAME).write_bytes(raw[:cut] + junk + raw[cut + len(junk) :])
    with suppress(BadData):
        assert all(entry.offset >= 0 for entry in load(folder).values())


@pytest.mark.parametrize("torn", [b"", b"{", b'{"version": 1, "files": {"00', b"\0" * 4096])
def test_with_a_torn_position_file_files_go_on_where_the_store_ends(world, said, torn):
    """It is said; nothing is lost or repeated, also of a file that was begun anew twice (generations in the store)."""
    w = world()
    w.write("a", DATA)
    for content in (b"second contents", b"third"):
        w.settle()
        os.truncate(w.files / "a", 0)
        w.write("a", content)
    w.settle()
    (w.state / NAME).write_bytes(torn)
    w.times_lost = True  # of contents that began with a truncation, only the position file knew when
    w.crash()
    w.write("a", b" and more")
    w.settle()
    assert w.contents == [DATA, b"second contents", b"third and more"]
    assert any("is damaged" in text and "where the store ends" in text for text in said())


def test_the_store_is_believed_rather_than_the_position_file(world):
    """The position file may be ahead or behind: rows and their position became durable together."""
    w = world()
    w.write("a", DATA)
    w.crank()
    w.store(answer=False)
    w.crash()
    assert w.crank() == []
    file = json.loads((w.state / NAME).read_text())
    for entry in file["files"].values():
        entry["offset"] = 10
    w.tailer.close()
    (w.state / NAME).write_text(json.dumps(file))
    w.begin()
    assert w.crank() == []


def test_it_is_written_at_most_once_a_second_and_at_the_end(world):
    """Not for every commit; but at once for a new file, whose time and start must not change by a restart."""
    w = world(poll="100 ms")
    path = w.state / NAME

    def offset():
        return next(iter(json.loads(path.read_text())["files"].values()))["offset"]

    w.write("a", DATA)
    w.crank(0.1)
    w.crank(0.1)
    assert offset() == 0
    w.store()
    w.crank(0.1)
    assert offset() == 0
    w.crank(1.0)
    assert offset() == len(DATA)
    w.write("a", DATA)
    w.crank(0.1)
    w.store()
    w.tailer.close()
    assert offset() == 2 * len(DATA)


def test_a_position_file_that_cannot_be_written_is_named_once_and_stops_nothing(world, said, monkeypatch):
    """The store has the positions anyway."""
    w = world()
    with monkeypatch.context() as patch:
        patch.setattr(
            "wendelin_stream.sources.tail.tailer.save",
            lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        for _ in range(4):
            w.write("a", DATA)
            w.settle()
        assert len([text for text in said() if "cannot be written: No space left" in text]) == 1
    w.crank(2.0)
    assert (w.state / NAME).exists()
    assert w.contents == [DATA * 4]


def test_entries_of_files_that_are_gone_are_bounded(world, monkeypatch):
    """A folder that sees new files for years does not make the position file grow for years."""
    assert MOST_ABSENT == 10_000
    monkeypatch.setattr("wendelin_stream.sources.tail.tailer.MOST_ABSENT", 5)
    w = world()
    for k in range(9):
        w.write(f"{k}", b"x")
    w.settle()
    for path in w.files.iterdir():
        path.rename(w.folder / path.name)
    w.crank(6.0)
    w.crank(6.0)
    assert len(w.tailer._absent) == 5


def test_the_producer_of_a_file_stays_through_growth_renames_and_restarts(world):
    """It is what the store knows the file by; two files never share it."""
    w = world()
    w.write("a", b"1")
    w.write("b", b"1")
    first, other = (p.producer for p in w.crank())
    assert first != other
    w.store()
    w.restart()
    (w.files / "a").rename(w.files / "c")
    w.write("c", DATA)
    (piece,) = w.crank()
    assert piece.producer == first
    assert 0 < first < 2**64


def test_identity_is_the_same_for_a_path_and_a_descriptor(tmp_path):
    """And a symbolic link is looked at itself."""
    path = tmp_path / "a"
    path.write_bytes(b"1")
    with path.open() as file:
        assert look(str(path)) == look(file.fileno())
    (tmp_path / "link").symlink_to(path)
    assert not look(str(tmp_path / "link")).regular
    with pytest.raises(FileNotFoundError):
        look(str(tmp_path / "none"))
    assert len({producer(1, 0), producer(1, 1), producer(2, 0)}) == 3


def test_the_start_of_a_recording_is_its_birth_unless_it_was_copied_here_with_its_times(tmp_path):
    """What is known of the first sample's time; a copy with an older time of change has only that."""
    path: Path = tmp_path / "a"
    path.write_bytes(b"1")
    born = look(str(path)).start
    os.utime(path, ns=(born + 60 * 10**9, born + 60 * 10**9))
    assert look(str(path)).start == (look(str(path)).born or look(str(path)).changed)
    os.utime(path, ns=(10**9, 10**9))
    assert look(str(path)).start == 10**9
