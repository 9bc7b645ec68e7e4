"""Quantities and times of day: read exactly, printed readably, refused clearly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from wendelin_stream.units import (
    DURATIONS,
    FREQUENCIES,
    SIZES,
    Duration,
    Frequency,
    Ratio,
    Size,
    duration,
    format_duration,
    format_frequency,
    format_size,
    format_time,
    frequency,
    parse_time,
    ratio,
    size,
)


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (duration, "20 ms", Fraction(1, 50)),
        (duration, "1.5h", 5400),
        (duration, " .5 s ", Fraction(1, 2)),
        (duration, "1/3 s", Fraction(1, 3)),
        (duration, "1e3 us", Fraction(1, 1000)),
        (duration, "30 d", 30 * 86400),
        (duration, "0 s", 0),
        (duration, Fraction(1, 3), Fraction(1, 3)),
        (size, "2 GB", 2 * 10**9),
        (size, "64 MiB", 2**26),
        (size, "1.5 kB", 1500),
        (size, 0, 0),
        (size, 4096, 4096),
        (frequency, "25.6 kHz", 25600),
        (frequency, "30000/1001 Hz", Fraction(30000, 1001)),
        (frequency, "5 mHz", Fraction(1, 200)),
        (ratio, "50 %", Fraction(1, 2)),
        (ratio, "12.5%", Fraction(1, 8)),
        (ratio, 0.5, Fraction(1, 2)),
        (ratio, 1, 1),
        (ratio, 0.1, Fraction(1, 10)),
    ],
)
def test_a_quantity_is_read_exactly(parser, text, value):
    """No float is on the way: 0.1 is a tenth."""
    assert parser(text) == value


@pytest.mark.parametrize(
    ("parser", "text", "says"),
    [
        (duration, "20", "'20' has no unit: use one of ns, us, ms, s, min, h, d, like '20 ms'"),
        (duration, 20, "20 has no unit: use one of ns, us, ms, s, min, h, d, like '20 ms'"),
        (duration, "20 msec", "unknown unit 'msec': use one of ns, us, ms, s, min, h, d, like '20 ms'"),
        (duration, "fast", "'fast' is not a quantity: write it like '20 ms'"),
        (duration, "", "'' is not a quantity: write it like '20 ms'"),
        (duration, True, "True is not a quantity: write it like '20 ms'"),
        (duration, None, "None is not a quantity: write it like '20 ms'"),
        (duration, [1], "[1] is not a quantity: write it like '20 ms'"),
        (duration, float("inf"), "inf is not a quantity: write it like '20 ms'"),
        (duration, "-1 s", "'-1 s' is negative"),
        (duration, "1/0 s", "'1/0 s' divides by zero"),
        (duration, "9" * 5000 + " s", "'999999999999...99999999999 s' is not a quantity: write it like '20 ms'"),
        (size, "1.5 B", "'1.5 B' is no whole number of bytes"),
        (size, "2 Gb", "unknown unit 'Gb': use one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, like '64 MiB'"),
        (size, 1.5, "1.5 has no unit: use one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, like '64 MiB'"),
        (frequency, "25.6 kHzz", "unknown unit 'kHzz': use one of mHz, Hz, kHz, MHz, like '25.6 kHz'"),
        (frequency, "0 Hz", "'0 Hz' must be above zero"),
        (ratio, "50 pct", "unknown unit 'pct': use one of %, like '50 %'"),
    ],
)
def test_what_is_no_quantity_is_told_plainly(parser, text, says):
    """The text says what is wrong and how to write it."""
    with pytest.raises(ValueError, match=r"^") as caught:
        parser(text)
    assert str(caught.value) == says


@given(st.text(max_size=30) | st.integers() | st.floats() | st.none() | st.booleans())
def test_anything_is_a_quantity_or_a_value_error(anything):
    """No input gets another exception out of a parser."""
    for parser in (duration, size, frequency, ratio, parse_time):
        try:
            parser(str(anything) if parser is parse_time else anything)
        except ValueError:
            continue


@given(st.decimals(min_value="0.000001", max_value=10**6, places=6), st.sampled_from(sorted(DURATIONS)))
def test_a_duration_written_and_read(number, unit):
    """Any decimal number of any unit is read as exactly that."""
    assert duration(f"{number} {unit}") == Fraction(number) * DURATIONS[unit]


@given(st.fractions(min_value=Fraction(1, 10**9), max_value=10**9))
def test_a_printed_duration_reads_back_to_three_digits(seconds):
    """Printed with three digits, so it comes back within half a percent, and never as '1e+03'."""
    text = format_duration(seconds)
    assert "e" not in text
    assert abs(duration(text) - seconds) <= seconds * Fraction(1, 200)


@given(st.integers(0, 10**18))
def test_a_printed_size_reads_back_to_three_digits(count):
    """The same for sizes, in decimal units."""
    text = format_size(count)
    assert "e" not in text
    assert abs(size(text) - count) <= count / 200


@given(st.integers(1, 10**9), st.sampled_from([1, 1000]))
def test_a_printed_frequency_reads_back_exactly(number, divisor):
    """Rates of up to nine decimals are printed whole."""
    assert frequency(format_frequency(Fraction(number, divisor))) == Fraction(number, divisor)


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (format_duration(0.02), "20 ms"),
        (format_duration(0), "0 s"),
        (format_duration(Fraction(9996, 10_000)), "1000 ms"),
        (format_duration(90), "1.5 min"),
        (format_duration(-0.5), "-500 ms"),
        (format_size(0), "0 B"),
        (format_size(999_999), "1000 kB"),
        (format_size(2_000_000_000), "2 GB"),
        (format_frequency(25_600), "25.6 kHz"),
        (format_frequency(0.78125), "0.78125 Hz"),
    ],
)
def test_what_is_printed(printed, text):
    """The largest unit that keeps the number at 1 or above."""
    assert printed == text


def test_units_are_what_they_say():
    """A table against its meaning: decimal and binary prefixes, and times."""
    assert SIZES["MiB"] == 1024 * SIZES["KiB"] == 1024**2
    assert FREQUENCIES["MHz"] == 1000 * FREQUENCIES["kHz"] == 10**9 * FREQUENCIES["mHz"]
    assert DURATIONS["d"] == 24 * DURATIONS["h"] == 24 * 60 * DURATIONS["min"]


def test_quantities_are_fields_of_options():
    """In a model: exact inside, numbers in JSON, plain text in errors."""

    class Model(BaseModel):
        wait: Duration
        room: Size
        rate: Frequency
        share: Ratio

    model = Model.model_validate({"wait": "20 ms", "room": "2 kB", "rate": "1 kHz", "share": "50 %"})
    assert (model.wait, model.room, model.rate, model.share) == (Fraction(1, 50), 2000, 1000, Fraction(1, 2))
    assert model.model_dump(mode="json") == {"wait": 0.02, "room": 2000, "rate": 1000.0, "share": 0.5}
    assert Model.model_json_schema()["properties"]["wait"]["examples"] == ["20 ms"]
    with pytest.raises(ValidationError, match="unknown unit 'kHzz'"):
        Model.model_validate({"wait": "20 ms", "room": 1, "rate": "1 kHzz", "share": 1})


# --- times of day ----------------------------------------------------------------------------------


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_printed_time_reads_back_to_the_nanosecond(ns):
    """Over the whole range of datetime64[ns]: 1677 to 2262."""
    assert parse_time(format_time(ns)) == ns


@given(
    st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 - the offset follows
    st.integers(-14 * 60, 14 * 60),
)
def test_an_offset_counts(moment, minutes):
    """A time with an offset is the same moment as Python's own."""
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_time(moment.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01 10:00", "2026-11-01T10:00:00Z"),
        ("2026-11-01T10:00:00,5", "2026-11-01T10:00:00.500Z"),
        ("2026-11-01T10:00:00+0100", "2026-11-01T09:00:00Z"),
        ("2026-11-01+02:00", "2026-10-31T22:00:00Z"),
        (" 2026-11-01T10:00:00 ", "2026-11-01T10:00:00Z"),
    ],
)
def test_forms_of_the_same_time(text, same):
    """Without an offset it is UTC; a date is its beginning, in its own offset."""
    assert parse_time(text) == parse_time(same)


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "2026-11-01.5", "2026-11-01T10:00.5", "10:00", "2026-11"])
def test_what_is_no_time_is_told_plainly(text):
    """Half a time is none; the text shows how to write one."""
    with pytest.raises(ValueError, match=r"is not a time: .*'2026-11-01T10:00:00(.5)?'"):
        parse_time(text)
