"""`wav`: numbers against scipy and the standard library, and headers that lie."""

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from wendelin_stream.codecs.wav import HEAD, OTHERS, Wav, parse_header
from wendelin_stream.errors import BadData
from wendelin_stream.plugin import Message
from wendelin_stream.testing.codecs import CodecTests, decode_in_pieces, rows_and_times

ALSA = Path("/usr/share/sounds/alsa")
RNG = np.random.default_rng(7)
GUID = bytes.fromhex("00000000 1000 8000 00aa00389b71")


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk, its size stated as `size` if that is given."""
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(tag=1, channels=2, rate=48_000, bits=16, align=None, extra=b"") -> bytes:
    align = channels * (bits // 8) if align is None else align
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits) + extra)


def wav(samples: bytes, *, form=None, before=b"", size=None, behind=b"", riff=None, magic=b"RIFF") -> bytes:
    """A WAV file, honest unless `size` (of the samples) or `riff` (of the file) say otherwise."""
    body = b"WAVE" + (form or fmt()) + before + chunk(b"data", samples, size) + behind
    return magic + struct.pack("<I", len(body) if riff is None else riff) + body


SAMPLES = RNG.integers(-(2**15), 2**15, 2 * 300, dtype="<i2")
LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 5) + b"Lavf\0\0")


def decode(file: bytes, **options) -> np.ndarray:
    decoded = Wav(Wav.Config(**options)).decode(Message(file))
    assert decoded.used == len(file)
    return rows_and_times(decoded.batches)[0]


def grown(file: bytes, *cuts: int) -> np.ndarray:
    """The rows of a file that grew to each cut."""
    return rows_and_times(decode_in_pieces(Wav(Wav.Config()), file, cuts))[0]


class WavTests(CodecTests):
    def make(self):
        return Wav(Wav.Config())


class TestHonestFile(WavTests):
    file = wav(SAMPLES.tobytes(), before=LIST + chunk(b"fact", bytes(4)))
    messages = (file,)


class TestChunksBehindTheSamples(WavTests):
    file = wav(SAMPLES.tobytes(), behind=LIST + chunk(b"id3 ", bytes(31)))
    messages = (file,)


class TestPaddedSamplesOfOddLength(WavTests):
    file = wav(bytes(range(255)), form=fmt(channels=1, bits=24), behind=LIST)
    messages = (file,)


class TestBytes(WavTests):
    file = wav(bytes(range(1, 202)), form=fmt(channels=1, bits=8))
    messages = (file,)


class TestRecordingInProgress(WavTests):
    file = wav(SAMPLES.tobytes(), size=0, riff=36)
    messages = (file,)


class TestHeaderThatWasUpdatedOnTheWay(WavTests):
    file = wav(SAMPLES.tobytes(), size=400, riff=436)


class TestHeaderCaughtBetweenItsTwoUpdates(WavTests):
    file = wav(SAMPLES.tobytes(), size=400, riff=836)


class TestBytesBehindTheFile(WavTests):
    file = wav(SAMPLES.tobytes(), behind=LIST) + b"TAG" + bytes(125)


# --- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_scipy_writes_and_we_read_the_same_numbers(dtype, channels):
    """Oracle: scipy.io.wavfile, sample for sample, the rate from the header exactly."""
    numbers = RNG.integers(0, 256, 40 * channels * np.dtype(dtype).itemsize, dtype=np.uint8).view(dtype)
    expected = np.nan_to_num(numbers).reshape(-1, channels)
    file = io.BytesIO()
    wavfile.write(file, 44_100, expected)
    (batch,) = Wav(Wav.Config()).decode(Message(file.getvalue())).batches
    np.testing.assert_array_equal(batch.rows, expected)
    assert batch.rows.dtype == np.dtype(dtype)
    assert batch.signal.rate == 44_100
    assert batch.signal.channels == tuple(f"ch{k + 1}" for k in range(channels))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_the_standard_library_writes_and_we_read_the_same_bytes(width):
    """Oracle: the wave module, 24 bit included: the int32 has the value of the three bytes, and `bits` says 24."""
    raw = RNG.integers(0, 256, 3 * width * 50, dtype=np.uint8).tobytes()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((3, width, 8000, 0, "NONE", ""))
        writer.writeframes(raw)
    (batch,) = Wav(Wav.Config()).decode(Message(file.getvalue())).batches
    expected = [int.from_bytes(raw[k : k + width], "little", signed=width > 1) for k in range(0, len(raw), width)]
    assert batch.rows.reshape(-1).tolist() == expected
    assert batch.signal.attrs == {"bits": 8 * width}
    assert batch.rows.dtype.itemsize == (4 if width == 3 else width)


def test_alsa_utils_recordings_are_read_sample_for_sample():
    """Real files: the recorded voices of alsa-utils, against the wave module, whole and as they grow."""
    files = sorted(ALSA.glob("*.wav"))
    assert files, f"no recordings in {ALSA}: install the Debian package alsa-utils (make install-tests does it)"
    for path in files:
        with wave.open(str(path)) as reader:
            raw, rate, channels = reader.readframes(reader.getnframes()), reader.getframerate(), reader.getnchannels()
        expected = np.frombuffer(raw, "<i2").reshape(-1, channels)
        file = path.read_bytes()
        np.testing.assert_array_equal(decode(file), expected)
        np.testing.assert_array_equal(grown(file, 7, 50, 99_999), expected)
        assert Wav(Wav.Config()).decode(Message(file)).batches[0].signal.rate == rate


@pytest.mark.parametrize(
    ("tag", "bits", "dtype"), [(1, 16, "<i2"), (1, 32, "<i4"), (3, 32, "<f4"), (3, 64, "<f8"), (1, 8, "u1")]
)
def test_extensible_files_say_their_format_further_down(tag, bits, dtype):
    """WAVE_FORMAT_EXTENSIBLE, what most recorders of more than two channels write."""
    raw = RNG.integers(0, 100, 4 * bits * 5, dtype=np.uint8).tobytes()
    extra = struct.pack("<HHI", 22, bits, 0x33) + struct.pack("<H", tag) + GUID
    rows = decode(wav(raw, form=fmt(0xFFFE, 4, 51_200, bits, extra=extra)))
    assert rows.tobytes() == raw
    assert rows.shape[1] == 4
    assert rows.dtype == np.dtype(dtype)


def test_the_samples_of_a_whole_message_are_not_copied():
    """A view of the message goes on its way."""
    file = wav(SAMPLES.tobytes())
    (batch,) = Wav(Wav.Config()).decode(Message(file)).batches
    assert np.shares_memory(batch.rows, np.frombuffer(file, np.uint8))


def test_options_name_channels_unit_and_a_rate_that_is_no_whole_number_of_hertz():
    """The header knows integers only; a sensor's clock may be 25641 1/39 Hz."""
    codec = Wav(Wav.Config(channels=("x", "y"), unit="m/s2", rate="1000000/39 Hz"))
    signal = codec.decode(Message(wav(SAMPLES.tobytes()))).batches[0].signal
    assert (signal.channels, signal.units, str(signal.rate)) == (("x", "y"), ("m/s2", "m/s2"), "1000000/39")
    assert codec.signal is None


def test_rows_of_a_file_count_from_its_start():
    """Time of row k = the file's time + k periods, from the first sample, not from the first byte."""
    file = wav(SAMPLES.tobytes())
    piece = Wav(Wav.Config()).decode(Message(file[404:], time=1000, offset=404, head=file))
    assert (piece.batches[0].anchor, piece.batches[0].index) == (1000, 90)
    np.testing.assert_array_equal(piece.batches[0].rows, SAMPLES.reshape(-1, 2)[90:])


# --- lengths that lie ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x80000000, 0x7FFFF000, 400, 1200, 1201, 5000])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF, 0x80000024, 436, 1236])
def test_the_length_of_the_file_is_what_counts(size, riff):
    """Whatever the two sizes claim, all samples are there: unknown, too long, or from an earlier moment."""
    file = wav(SAMPLES.tobytes(), size=size, riff=riff)
    np.testing.assert_array_equal(grown(file, 100, 600), SAMPLES.reshape(-1, 2))
    np.testing.assert_array_equal(decode(file), SAMPLES.reshape(-1, 2))


@given(behind=st.lists(st.binary(max_size=40), min_size=1, max_size=3), cut=st.integers(0, 2000))
def test_chunks_behind_the_samples_are_no_samples(behind, cut):
    """LIST and the like are left out wherever the file is cut, if the header counts them in."""
    others = b"".join(chunk(b"LIST", body) for body in behind)
    file = wav(SAMPLES.tobytes(), behind=others)
    np.testing.assert_array_equal(grown(file, min(cut, len(file))), SAMPLES.reshape(-1, 2))


def test_a_run_of_chunks_longer_than_the_limit_is_taken_for_samples():
    """Nothing is held back without bound, and rather too many rows than a lost one."""
    file = wav(SAMPLES.tobytes(), behind=chunk(b"LIST", bytes(OTHERS)))
    assert len(decode(file)) > OTHERS // 4


def test_samples_that_look_like_a_chunk_are_given_when_the_chain_breaks():
    """A recorder between its two updates, and samples that happen to spell a chunk: late, but not lost."""
    disguised = SAMPLES.tobytes()[:400] + b"LIST" + struct.pack("<I", 50) + SAMPLES.tobytes()[408:]
    file = wav(disguised, size=400, riff=36 + 800)
    assert grown(file, 450, 480, 600, 900).tobytes() == disguised
    assert decode(file).tobytes() == disguised


def test_rf64_takes_its_sizes_from_its_own_chunk():
    """Files over 4 GB: the 32-bit sizes are all ones, ds64 has the right ones, or none while recording."""
    data = SAMPLES.tobytes()
    rest = fmt() + chunk(b"data", data, 0xFFFFFFFF)
    for sizes, behind in (((40 + len(rest) + len(LIST), len(data)), LIST), ((0, 0), b"")):
        body = b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", *sizes, 0, 0)) + rest + behind
        file = b"RF64\xff\xff\xff\xff" + body
        np.testing.assert_array_equal(decode(file), SAMPLES.reshape(-1, 2))
        np.testing.assert_array_equal(grown(file, 70, 1300), SAMPLES.reshape(-1, 2))


def test_an_empty_recording_gives_no_rows():
    """A header alone is a good file: the recorder has just begun."""
    assert Wav(Wav.Config()).decode(Message(wav(b""))).batches == ()


# --- what is no WAV file ---------------------------------------------------------------------------

LONG = wav(SAMPLES.tobytes(), before=chunk(b"junk", bytes(HEAD)))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"ID3\x03", "not a WAV file: it begins with b'ID3"),
        (wav(b"", magic=b"RIFX"), "not a WAV file"),
        (b"RIFF\x24\0\0\0AVI LIST", "not a WAV file"),
        (b"", "no samples begin within 0 bytes"),
        (wav(b"")[:40], "no samples begin within 40 bytes"),
        (LONG, "no samples begin within 65536 bytes"),
        (wav(bytes(4), form=fmt(channels=0)), "0 channels"),
        (wav(bytes(4), form=fmt(rate=0)), "at 0 Hz"),
        (wav(bytes(4), form=fmt(align=3)), "2 channels of 16 bits do not fill rows of 3 bytes"),
        (wav(bytes(4), form=fmt(bits=0)), "0 bits PCM"),
        (wav(bytes(4), form=fmt(bits=64)), "64 bits PCM"),
        (wav(bytes(4), form=fmt(tag=3, bits=16)), "16 bits float"),
        (wav(bytes(4), form=fmt(tag=0x11)), "WAV format 0x0011 is compressed or unknown"),
        (wav(bytes(4), form=fmt(tag=0xFFFE, extra=bytes(24))), "unknown extensible sub-format"),
        (wav(bytes(4), form=fmt(tag=0xFFFE)), "unknown extensible sub-format"),
        (wav(bytes(4), form=chunk(b"fmt ", bytes(14))), "fmt chunk of 14 bytes"),
        (wav(bytes(4), form=LIST), "samples come before the fmt chunk"),
        (wav(bytes(6)), "ends within a row of 4 bytes: 2 bytes"),
    ],
)
def test_what_is_no_wav_says_so(file, reason):
    """Each has a reason that tells a user what is wrong with the file."""
    with pytest.raises(BadData, match=reason):
        Wav(Wav.Config()).decode(Message(file))


def test_a_file_that_is_no_wav_is_refused_at_its_first_bytes_and_not_held():
    """A growing file waits for its header only as long as it can be one."""
    with pytest.raises(BadData, match="not a WAV"):
        Wav(Wav.Config()).decode(Message(b"no", offset=0, head=b"no"))
    assert Wav(Wav.Config()).decode(Message(b"RIF", offset=0, head=b"RIF")).used == 0
    with pytest.raises(BadData, match="no samples begin"):
        grown(LONG, 1000)
    with pytest.raises(BadData, match="no samples begin"):
        Wav(Wav.Config()).decode(Message(bytes(100), offset=10**6, head=LONG[:100]))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"channels": ("x",)}, "the WAV file has 2 channels, configured are 1: x"),
        ({"channels": ("x", "x")}, "does not fit the options"),
        ({"unit": ("g",)}, "2 channels but 1 units"),
    ],
)
def test_a_file_that_does_not_fit_the_options_says_both_sides(options, reason):
    """The reader of the dead letter sees which of the two to change."""
    with pytest.raises(BadData, match=reason):
        decode(wav(SAMPLES.tobytes()), **options)


@given(
    size=st.integers(0, 2**32 - 1) | st.integers(0, 1500),
    riff=st.integers(0, 2000),
    cuts=st.lists(st.integers(0, 1500)),
)
def test_no_lie_about_lengths_makes_the_rows_depend_on_the_cut(size, riff, cuts):
    """Any two sizes in the header: pieces give what the file as one piece gives."""
    file = wav(SAMPLES.tobytes(), size=size, riff=riff, behind=LIST)
    np.testing.assert_array_equal(grown(file, *(min(cut, len(file)) for cut in cuts)), grown(file))


def test_the_header_is_parsed_once():
    """A recording of a day has thousands of pieces and one header."""
    head = wav(b"")
    assert parse_header(head) is parse_header(bytes(bytearray(head)))
