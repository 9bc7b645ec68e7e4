"""What becomes of files that grow, move, shrink and vanish: cranked by hand, step by step."""

import os

import pytest
from pydantic import ValidationError

from wendelin_stream.errors import Corrupt
from wendelin_stream.sources.tail.options import TailOptions

DATA = bytes(range(256)) * 64  # 16 KiB
OTHER = DATA[::-1]


def test_a_growing_file_comes_in_pieces_that_say_where_they_belong(world):
    """Offset, producer and origin name the bytes; the head comes with each piece; the time is the file's."""
    w = world(block=4096)
    w.write("a.wav", DATA)
    pieces = w.crank()
    assert [(p.body.offset, p.seq) for p in pieces] == [(k, k + 4096) for k in range(0, 16384, 4096)]
    assert {(p.tag, p.origin, p.producer, p.chunk_id) for p in pieces} == {
        ("t", pieces[0].origin, pieces[0].producer, b"")
    }
    assert all(p.body.head == DATA for p in pieces)
    assert all(p.body.time == pieces[0].body.time for p in pieces)
    assert abs(pieces[0].body.time - (w.files / "a.wav").stat().st_mtime_ns) < 10**9
    w.write("a.wav", b"more")
    (piece,) = w.crank()
    assert (bytes(piece.body.data), piece.body.offset, piece.origin) == (b"more", 16384, pieces[0].origin)
    assert w.crank() == []


def test_nothing_is_read_twice_between_two_looks(world):
    """Within the poll interval no folder is listed, whatever grows."""
    w = world(poll="1 s")
    w.crank()
    w.write("a", b"1")
    assert w.crank(0.5) == []
    assert len(w.crank(0.5)) == 1


def test_lines_are_handed_on_whole(world):
    """The begun line waits for its end; bytes are untouched, line ends included; text has no start time."""
    w = world(mode="lines")
    w.write("log", b"one\r\ntwo\nthr")
    (piece,) = w.crank()
    assert (bytes(piece.body.data), piece.body.time) == (b"one\r\ntwo\n", None)
    assert w.crank() == []
    w.write("log", b"ee")
    assert w.crank() == []
    w.write("log", b"\n")
    (piece,) = w.crank()
    assert (bytes(piece.body.data), piece.body.offset) == (b"three\n", 9)


def test_a_line_longer_than_a_block_is_whole_and_one_longer_than_the_limit_is_cut(world, said):
    """Memory is bounded by `max_line`, and nothing is left out."""
    w = world(mode="lines", block=1024, max_line=4096)
    w.write("log", b"x" * 3000 + b"\n" + b"y" * 5000 + b"\nend\n")
    assert [len(p.body.data) for p in w.crank()] == [3001, 4096, 909]
    assert any("more than 4096 bytes" in text for text in said())


def test_files_that_appear_are_read_from_their_beginning_and_those_there_before_from_their_end(world, files):
    """`read_from_head: false` is about the very first start only, as nobody expects the history of years then."""
    (files / "old").write_bytes(b"history")
    w = world(read_from_head=False)
    assert w.crank() == []
    w.write("old", b" goes on")
    w.write("new", b"all of it")
    assert {bytes(p.body.data): p.body.offset for p in w.crank()} == {b" goes on": 7, b"all of it": 0}


def test_what_comes_while_we_are_not_running_is_read_after_the_start(world, files):
    """Also with `read_from_head: false`: old files go on where they were, new ones begin, nothing was committed yet."""
    (files / "old").write_bytes(b"history")
    w = world(read_from_head=False)
    w.crash()
    w.write("old", b" goes on")
    w.write("new", b"all of it")
    w.crash()
    w.settle()
    assert sorted(w.contents) == [b" goes on", b"all of it"]


def test_read_from_head_reads_what_was_there(world, files):
    """The other choice."""
    (files / "old").write_bytes(b"history")
    w = world(read_from_head=True)
    assert [bytes(p.body.data) for p in w.crank()] == [b"history"]


def test_a_pattern_finds_files_in_all_folders_below_and_names_their_tags(world, files):
    """Tags are made of the file's own name; a second name of a file (hard link) does not double it."""
    w = world(path=[str(files / "**" / "*.wav"), str(files / "*.pcm")], tag="park.{folder}.{stem}")
    for name in ("wt1/mic.wav", "wt2/deep/mic.wav", "other.txt", "x.pcm"):
        path = w.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    os.link(w.files / "wt1/mic.wav", w.files / "wt2/same.wav")
    assert {p.tag: bytes(p.body.data) for p in w.crank()} == {
        "park.wt1.mic": b"wt1/mic.wav",
        "park.deep.mic": b"wt2/deep/mic.wav",
        "park.files.x": b"x.pcm",
    }


def test_symbolic_links_do_not_lead_out(world, files, said, tmp_path):
    """What is read lies below the folder of the pattern; a link is named once and left alone."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"secret")
    w = world(path=str(files / "**"))
    (w.files / "link").symlink_to(tmp_path / "secret" / "key")
    (w.files / "way").symlink_to(tmp_path / "secret")
    os.mkfifo(w.files / "fifo")
    assert w.crank() == []
    texts = said()
    assert any("link is a symbolic link" in text for text in texts)
    assert any("way/key is reached by a symbolic link" in text for text in texts)
    w.crank()
    assert said() == []


def test_files_of_a_tag_are_read_one_after_the_other_by_name_or_by_age(world, files):
    """Many small recordings of one tag become one stream in their order."""
    for age, name in enumerate(["c", "a", "b"]):
        (files / name).write_text(name * 3)
        os.utime(files / name, (age, age))
    assert [bytes(p.body.data) for p in world().crank()] == [b"aaa", b"bbb", b"ccc"]
    assert [bytes(p.body.data) for p in world(order="mtime").crank()] == [b"ccc", b"aaa", b"bbb"]


def test_a_file_that_grows_quickly_does_not_starve_the_others(world):
    """Each is read to the size that it had when its turn was given."""
    w = world(block=1024)
    w.write("a", DATA[:2048])
    w.write("b", b"b")
    w.now += 1
    names = []
    while (received := w.tailer.step()) is not None:
        names.append(received.peer[-1])
        w.write("a", bytes(1024))
        w.now += 0.3
        assert len(names) < 6
        if names[-1] == "b":
            break
    assert names == ["a", "a", "b"]


def test_many_files_need_few_descriptors(world):
    """At most `max_open` at once; all are read, also when they grow again."""
    w = world(max_open=3)
    for k in range(20):
        w.write(f"{k:02}", b"first")
    held = []
    w.now += 1
    while (received := w.tailer.step()) is not None:
        w.take(received)
        held.append(sum(file.descriptor is not None for file in w.tailer._files.values()))
    assert max(held) == 3
    for k in range(20):
        w.write(f"{k:02}", b"second")
    w.settle()
    assert w.contents == [b"firstsecond"] * 20


def test_rotation_by_rename_finishes_the_old_file_before_the_new_one(world, files):
    """Its last bytes come first although its new name sorts behind."""
    w = world(mode="lines", path=str(files / "app.log*"))
    w.write("app.log", b"1\n")
    w.settle()
    w.write("app.log", b"2\n")
    (w.files / "app.log").rename(w.files / "app.log.1")
    w.write("app.log", b"3\n")
    assert [bytes(p.body.data) for p in w.crank()] == [b"2\n", b"3\n"]


def test_a_file_renamed_out_of_sight_is_finished_and_then_let_go(world):
    """What its writer adds before it notices is read too; a last line without its end comes when it is quiet."""
    w = world(mode="lines", rotate_wait="5 s")
    w.write("app.log", b"1\n")
    w.settle()
    w.write("app.log", b"2\nla")
    gone = (w.files / "app.log").rename(w.folder / "app.log.1")
    w.write("app.log", b"new\n")
    assert [bytes(p.body.data) for p in w.crank()] == [b"2\n", b"new\n"]
    with gone.open("ab") as file:
        file.write(b"te")
    w.crank(4.0)
    assert w.crank(4.0) == []
    assert [bytes(p.body.data) for p in w.crank(4.0)] == [b"late"]
    w.store()
    w.crank(6.0)
    w.crank(6.0)
    assert len(w.tailer._files) == 1


def test_a_file_deleted_while_we_are_behind_is_still_read(world):
    """The descriptor keeps it; afterwards it is closed and its position forgotten."""
    w = world(block=4096)
    w.write("a", DATA)
    w.now += 1
    w.take(w.tailer.step())
    (w.files / "a").unlink()
    w.settle()
    assert w.contents == [DATA]
    w.crank(6.0)
    w.crank(6.0)
    assert (len(w.tailer._files), len(w.tailer._open)) == (0, 0)
    w.restart()
    assert w.tailer._absent == {}


def test_a_deleted_file_is_kept_until_it_is_durable(world):
    """Its last pieces may have to be read again."""
    w = world()
    w.write("a", DATA)
    w.crank()
    (w.files / "a").unlink()
    w.crank(6.0)
    w.crank(6.0)
    w.refuse()
    assert w.crank() == []
    w.crank(3.0)
    w.settle()
    assert w.contents == [DATA]


def test_a_file_that_ends_within_a_row_is_not_kept_for_ever(world, said):
    """The rest never becomes durable; after a while the file is closed all the same, and it is said."""
    w = world(row=10, rotate_wait="1 s")
    w.write("a", bytes(25))
    w.settle()
    (w.files / "a").unlink()
    for _ in range(14):
        w.crank(1.0)
    assert len(w.tailer._files) == 0
    assert any("last 5 bytes gave nothing" in text for text in said())


def test_truncation_in_place_begins_anew(world, said):
    """copytruncate: new origin, new producer, from byte 0, and a line in the journal."""
    w = world()
    w.write("a", DATA)
    (before, *_) = w.crank()
    w.store()
    os.truncate(w.files / "a", 0)
    w.write("a", b"new")
    (piece,) = w.crank()
    assert (bytes(piece.body.data), piece.body.offset) == (b"new", 0)
    assert piece.producer != before.producer
    assert piece.origin != before.origin
    assert any("truncated or written over" in text for text in said())
    w.store()
    w.restart()
    w.write("a", b"er")
    w.settle()
    assert w.contents == [DATA, b"newer"]


@pytest.mark.parametrize("when", ["running", "stopped"])
def test_a_file_truncated_and_grown_beyond_our_offset_is_found_out(world, when):
    """Two looks later the size says nothing: the bytes before our offset do."""
    w = world()
    w.write("a", DATA)
    w.settle()
    os.truncate(w.files / "a", 0)
    w.write("a", OTHER + b"longer")
    if when == "stopped":
        w.crash()
    w.settle()
    assert w.contents == [DATA, OTHER + b"longer"]


def test_a_log_truncated_and_grown_is_found_out_from_its_first_line(world):
    """Text has no header that would be written again, so the first 64 bytes are proof enough."""
    w = world(mode="lines")
    w.write("a", b"2026-11-01 first line of an old log, long enough to be told apart from others\n")
    w.settle()
    os.truncate(w.files / "a", 0)
    new = b"2026-11-02 first line of a new log, long enough to be told apart from the others\nmore\n"
    w.write("a", new)
    w.settle()
    assert w.contents[1] == new


def test_a_header_that_is_written_again_is_no_new_file(world):
    """A recorder updates the lengths in its header while we read behind it."""
    w = world()
    w.write("a", bytes(44) + DATA)
    w.settle()
    for length in (b"1111", b"2222"):
        with (w.files / "a").open("r+b") as file:
            file.seek(40)
            file.write(length)
        w.write("a", DATA)
        (piece,) = w.crank()
        w.store()
        assert piece.body.offset > 0
        assert piece.body.head[40:44] == length, "the head is as new as the piece"


def test_after_a_power_cut_a_shorter_file_is_not_read_again(world):
    """The store had synced what the recorder had not: same beginning, so the same file; we wait at our offset."""
    w = world()
    w.write("a", DATA)
    w.settle()
    os.truncate(w.files / "a", 10_000)
    w.crash()
    assert w.crank() == []
    w.write("a", DATA[10_000:] + b"more")
    w.settle()
    assert w.contents == [DATA + b"more"]


def test_an_inode_number_used_again_is_another_file(world, reuse_inode):
    """The time of birth tells them apart at once, although both begin alike."""
    w = world()
    w.write("a", DATA)
    w.settle()
    w.crash()
    reuse_inode(w.files / "a")
    w.write("a", DATA + b"longer")
    w.settle()
    assert w.contents == [DATA, DATA + b"longer"]


@pytest.mark.parametrize("new", [b"short", OTHER, OTHER + DATA])
@pytest.mark.parametrize("seen", [True, False])
def test_an_inode_number_used_again_is_found_out_without_birth_times(world, no_birth_times, reuse_inode, new, seen):
    """By the size or by the bytes before our offset; whether we saw the old file go or were not running."""
    w = world()
    w.write("a", DATA)
    w.settle()
    if seen:
        path = (w.files / "a").rename(w.folder / "a")
        w.crank(6.0)
        path.rename(w.files / "a")
    else:
        w.crash()
    if seen:
        (w.files / "a").rename(w.folder / "a")
        (w.folder / "a").unlink()
        w.crank(6.0)
        w.crank(6.0)
        w.write("a", new)
    else:
        reuse_inode(w.files / "a")
        w.write("a", new)
    w.settle()
    w.write("a", b"x")
    w.settle()
    assert w.contents[0] == DATA
    assert w.contents[1] == new + b"x"


def test_a_file_that_cannot_be_read_is_named_once_and_read_when_it_can_be(world, said, monkeypatch):
    """The others go on meanwhile."""
    w = world()
    w.write("a", b"locked")
    w.write("b", b"free")
    real = os.open

    def refuse(path, *rest, **more):
        if str(path).endswith("files/a"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr("wendelin_stream.sources.tail.files.os.open", refuse)
        assert [bytes(p.body.data) for p in w.crank()] == [b"free"]
        w.crank()
        assert [text for text in said() if "Permission denied" in text] == [
            f"{w.files / 'a'} cannot be read: Permission denied; it is tried again"
        ]
    assert [bytes(p.body.data) for p in w.crank()] == [b"locked"]


def test_reading_stops_when_too_much_is_under_way(world):
    """One file has at most `buffer` bytes without a commit; others of its tag wait behind it, other tags go on."""
    w = world(buffer="1 MiB", block=65536, tag="{stem}")
    w.write("big.1", bytes(3 * 2**20))
    w.write("big.2", b"later")
    w.write("small", b"goes on")
    w.crank()
    assert sum(len(u.data) for u in w.under_way if u.received.tag == "big") == 2**20
    assert [u.data for u in w.under_way if u.received.tag == "small"] == [b"goes on"]
    assert w.tailer.waiting
    w.store(1)
    assert w.tailer.has_answers
    assert sum(len(p.body.data) for p in w.crank()) == 65536
    w.settle()
    assert sorted(map(len, w.contents)) == [5, 7, 3 * 2**20]


def test_a_refusal_for_now_reads_again_from_the_last_commit_after_the_delay(world):
    """Under a new origin, since offsets only grow within one; the others of the tag wait behind it."""
    w = world(block=4096)
    w.write("a", DATA)
    (first, *_) = w.crank()
    w.store(1)
    w.refuse()
    w.write("b", b"behind")
    assert w.crank(1.0) == []
    again = w.crank(2.0)
    assert [p.body.offset for p in again] == [4096, 8192, 12288, 0]
    assert again[0].origin != first.origin
    assert again[0].producer == first.producer
    w.tailer.refuse(first.origin, 8192, Corrupt("late answer to what was read before"))
    w.settle()
    assert w.contents == [DATA, b"behind"]


def test_a_refusal_for_good_leaves_that_file_alone(world, said):
    """It is said once, the others go on."""
    w = world()
    w.write("a", DATA)
    w.crank()
    w.refuse(Corrupt("checksum", stream="t"))
    w.write("a", DATA)
    w.write("b", b"goes on")
    w.settle()
    assert w.contents == [b"goes on"]
    assert len([text for text in said() if "left alone from byte 0 on" in text]) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tag": "{stam}"}, "{stam} is unknown"),
        ({"tag": "{name.x}"}, "is unknown"),
        ({"tag": "a{"}, "expected '}'|Single '{'"),
        ({"tag": ""}, "at least 1 character"),
        ({"path": []}, "at least 1 item"),
        ({"poll": "0 s"}, "poll must be above zero"),
        ({"block": "1 MiB", "buffer": "1 MiB"}, "buffer must hold two blocks"),
        ({"read_from_haed": True}, "Extra inputs"),
    ],
)
def test_wrong_options_are_named(options, reason):
    """At the start, not at the first file."""
    with pytest.raises(ValidationError, match=reason):
        TailOptions(**{"path": "/srv/*", "tag": "t", **options})


def test_every_option_is_described():
    """The reference is made of it."""
    assert all(field.description for field in TailOptions.model_fields.values())
