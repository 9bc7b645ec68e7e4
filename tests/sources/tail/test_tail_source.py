"""The asynchronous side: what the runtime sees, with real threads and no waiting for the clock."""

import asyncio
import wave
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from wendelin_stream.codecs.wav import Wav
from wendelin_stream.errors import Corrupt, Retry
from wendelin_stream.plugin import Message, SourceContext, load
from wendelin_stream.sources.tail import TailSource
from wendelin_stream.testing.codecs import rows_and_times

ALSA = Path("/usr/share/sounds/alsa")
DATA = bytes(range(256)) * 1024


@pytest.fixture
async def source(tmp_path, files):
    """Call it with options for an opened source; it is closed after the test."""
    sources = []

    async def make(**options) -> TailSource:
        options = {"path": str(files / "*"), "tag": "t", "read_from_head": True, "poll": "1 ms", **options}
        one = TailSource(TailSource.Config(**options), SourceContext("audio", tmp_path / "state" / "audio"))
        sources.append(one)
        await one.open()
        return one

    yield make
    for one in sources:
        await one.aclose()


def test_it_is_registered_by_its_name():
    """`type: tail` in the configuration."""
    assert load("sources", "tail") is TailSource


async def test_what_is_appended_comes_and_what_is_committed_is_not_sent_again(source, files):
    """Read, append, read; after a commit and a restart only what is new."""
    (files / "a").write_bytes(b"first")
    one = await source()
    async with aclosing(one.read()) as pieces:
        first = await anext(pieces)
        await one.commit(first.origin, first.seq)
        with (files / "a").open("ab") as file:
            file.write(b"second")
        second = await anext(pieces)
    assert [bytes(p.body.data) for p in (first, second)] == [b"first", b"second"]
    await one.quiesce()
    await one.aclose()
    again = await source()
    async with aclosing(again.read()) as pieces:
        assert bytes((await anext(pieces)).body.data) == b"second"


async def test_quiesce_ends_the_reading_and_commits_are_still_taken(source, files):
    """The order of a clean stop: nothing new, the last answers, then the position file."""
    (files / "a").write_bytes(b"first")
    one = await source(poll="1 h")
    pieces = one.read()
    received = await anext(pieces)
    ended = asyncio.create_task(anext(pieces, None))
    await asyncio.sleep(0)
    await one.quiesce()
    assert await ended is None
    await one.commit(received.origin, received.seq)
    await one.aclose()
    await one.aclose()
    assert '"offset": 5' in (files.parent / "state" / "audio" / "positions.json").read_text()


async def test_a_commit_wakes_the_reading_that_waits_for_the_disk(source, files):
    """Not the next poll: that would be slow, and here never."""
    (files / "a").write_bytes(DATA * 5)
    one = await source(poll="1 h", buffer="1 MiB")
    async with aclosing(one.read()) as pieces:
        received = [await anext(pieces) for _ in range(4)]
        blocked = asyncio.create_task(anext(pieces))
        while not one._tailer.waiting:
            await asyncio.sleep(0)
        assert not blocked.done()
        await one.commit(received[0].origin, received[0].seq)
        assert (await blocked).body.offset == 2**20


async def test_what_was_read_while_a_refusal_came_in_is_not_handed_on(source, files):
    """It would stand in the stream behind bytes that are missing."""
    (files / "a").write_bytes(DATA * 3)
    one = await source()
    async with aclosing(one.read()) as pieces:
        first = await anext(pieces)
        step = one._step

        def step_and_be_refused():
            received = step()
            one._refused.add(first.origin)
            one._tailer.refuse(first.origin, first.seq, Retry("no space", delay=0))
            one._step = step
            return received

        one._step = step_and_be_refused
        again = await anext(pieces)
    assert again.body.offset == 0
    assert again.origin != first.origin


async def test_refused_for_good_the_other_files_go_on(source, files):
    """The source itself does not fail."""
    (files / "a").write_bytes(b"a")
    one = await source()
    async with aclosing(one.read()) as pieces:
        received = await anext(pieces)
        await one.refuse(received.origin, received.seq, Corrupt("checksum"))
        (files / "b").write_bytes(b"b")
        assert bytes((await anext(pieces)).body.data) == b"b"


async def test_a_state_folder_that_cannot_be_made_stops_the_start(tmp_path, files):
    """An error at the start, where the operator looks, not at the first commit."""
    (tmp_path / "state").write_bytes(b"a file")
    one = TailSource(
        TailSource.Config(path=str(files / "*"), tag="t"), SourceContext("audio", tmp_path / "state" / "audio")
    )
    with pytest.raises(OSError, match="state"):
        await one.open()
    await one.aclose()


# --- with the wav codec: record, let it be picked up, see the stream grow ---------------------------


def decoded(world, codec):
    """Rows and times of each file as an ingest would store them, from what the world's disk holds."""
    results = []
    for stored in world.disk.values():
        head = bytes(stored.data[: 64 * 1024])
        message = Message(bytes(stored.data), time=stored.time, offset=0, head=head)
        results.append(rows_and_times(codec.decode(message).batches))
    return results


def test_alsa_utils_recordings_are_picked_up_sample_for_sample(world, files):
    """Real files, copied into the folder, one after the other; then one grows."""
    originals = sorted(ALSA.glob("*.wav"))
    assert originals, f"no recordings in {ALSA}: install the Debian package alsa-utils (make install-tests does it)"
    w = world(path=str(files / "*.wav"), block=65536)
    for original in originals:
        (files / original.name).write_bytes(original.read_bytes())
        w.settle()
    for original, (rows, _) in zip(originals, decoded(w, Wav(Wav.Config())), strict=True):
        with wave.open(str(original)) as reader:
            np.testing.assert_array_equal(rows[:, 0], np.frombuffer(reader.readframes(reader.getnframes()), "<i2"))


@pytest.mark.parametrize("crash", [True, False])
def test_a_recording_in_progress_grows_the_stream_and_a_restart_loses_no_sample(world, files, crash):
    """The standard library records 24 bit and writes its header again after each block, while we read."""
    w = world(path=str(files / "*.wav"), block=1024)
    codec = Wav(Wav.Config())
    raw = np.random.default_rng(3).integers(0, 256, 2 * 3 * 2000, dtype=np.uint8).tobytes()
    rows, begin, origin = [], 0, None
    with (files / "mic.wav").open("wb") as file, wave.open(file) as recorder:
        recorder.setparams((2, 3, 48_000, 0, "NONE", ""))
        for block in range(10):
            recorder.writeframes(raw[block * 1200 : (block + 1) * 1200])
            file.flush()
            for received in w.crank():
                begin = received.body.offset if received.origin != origin else begin
                origin = received.origin
                data = (files / "mic.wav").read_bytes()[begin : received.seq]
                piece = codec.decode(Message(data, time=received.body.time, offset=begin, head=received.body.head))
                rows += [batch.rows for batch in piece.batches]
                begin += piece.used
                w.tailer.commit(received.origin, begin)
            w.under_way.clear()
            if block in (3, 4, 8):
                w.now += 1.0
                w.tailer.step()
                w.crash() if crash else w.restart()
    expected = [int.from_bytes(raw[k : k + 3], "little", signed=True) for k in range(0, len(raw), 3)]
    assert np.concatenate(rows).reshape(-1).tolist() == expected
