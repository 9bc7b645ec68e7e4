"""Quantities as users write them: ``20 ms``, ``2 GB``, ``25.6 kHz``, ``50 %``, and times of day.

The parsers give exact numbers (`Fraction` or `int`), the annotated types make them usable as fields of a
pydantic model. A bare number is refused where the unit matters: nobody should have to guess.
"""

from __future__ import annotations

import re
import reprlib
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?(?:/\d+)?)\s*([^\d\s]\S*|)\s*\Z")

DURATIONS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
SIZES = {
    "B": Fraction(1),
    "kB": Fraction(10**3),
    "MB": Fraction(10**6),
    "GB": Fraction(10**9),
    "TB": Fraction(10**12),
    "KiB": Fraction(2**10),
    "MiB": Fraction(2**20),
    "GiB": Fraction(2**30),
    "TiB": Fraction(2**40),
}
FREQUENCIES = {"mHz": Fraction(1, 1000), "Hz": Fraction(1), "kHz": Fraction(1000), "MHz": Fraction(10**6)}
RATIOS = {"%": Fraction(1, 100), "": Fraction(1)}


def _quantity(text: object, units: dict[str, Fraction], example: str) -> Fraction:
    known_type = isinstance(text, str | int | float) and not isinstance(text, bool)
    match = _NUMBER.match(str(text)) if known_type and len(str(text)) <= 60 else None
    if match is None:
        raise ValueError(f"{reprlib.repr(text)} is not a quantity: write it like {example!r}")
    number, unit = match.groups()
    if unit not in units:
        known = ", ".join(u for u in units if u)
        problem = f"unknown unit {unit!r}" if unit else f"{text!r} has no unit"
        raise ValueError(f"{problem}: use one of {known}, like {example!r}")
    try:
        mantissa, _, divisor = number.partition("/")
        value = Fraction(mantissa) / int(divisor or 1)
    except ZeroDivisionError:
        raise ValueError(f"{text!r} divides by zero") from None
    if value < 0:
        raise ValueError(f"{text!r} is negative")
    return value * units[unit]


def duration(text: object) -> Fraction:
    """Seconds: ``duration("20 ms") == Fraction(1, 50)``. Raises ValueError."""
    return text if isinstance(text, Fraction) else _quantity(text, DURATIONS, "20 ms")


def size(text: object) -> int:
    """Bytes, a whole number: ``size("2 GB") == 2_000_000_000``. Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    value = _quantity(text, SIZES, "64 MiB")
    if value.denominator != 1:
        raise ValueError(f"{text!r} is no whole number of bytes")
    return int(value)


def frequency(text: object) -> Fraction:
    """Hertz, above 0: ``frequency("25.6 kHz") == 25600``. Raises ValueError."""
    value = text if isinstance(text, Fraction) else _quantity(text, FREQUENCIES, "25.6 kHz")
    if value <= 0:
        raise ValueError(f"{text!r} must be above zero")
    return value


def ratio(text: object) -> Fraction:
    """A share of one: ``ratio("50 %") == Fraction(1, 2)``, ``ratio(0.5)`` too. Raises ValueError."""
    return text if isinstance(text, Fraction) else _quantity(text, RATIOS, "50 %")


def format_duration(seconds: Fraction | float) -> str:
    """``format_duration(0.02) == "20 ms"``: the largest unit that keeps the number at 1 or above."""
    return _shortest(Fraction(seconds), DURATIONS)


def format_size(count: int) -> str:
    """``format_size(2_000_000_000) == "2 GB"``: decimal units, three digits."""
    return _shortest(Fraction(count), {u: f for u, f in SIZES.items() if "i" not in u})


def format_frequency(hertz: Fraction | float) -> str:
    """``format_frequency(25600) == "25.6 kHz"``."""
    value = Fraction(hertz)
    unit = "kHz" if value >= 1000 else "Hz"
    number = value / FREQUENCIES[unit]
    return f"{_decimal(number)} {unit}"


def _shortest(value: Fraction, units: dict[str, Fraction]) -> str:
    if value < 0:
        return f"-{_shortest(-value, units)}"
    if value == 0:
        return f"0 {'s' if 's' in units else 'B'}"
    fitting = [unit for unit, factor in units.items() if factor <= value]
    unit = max(fitting or units, key=lambda u: units[u] if fitting else -units[u])
    number = float(value / units[unit])
    return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"


def _decimal(value: Fraction) -> str:
    return f"{float(value):.9f}".rstrip("0").rstrip(".")


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 UTC of an ISO 8601 time, to the nanosecond; without an offset it is UTC.

    ``parse_time("1970-01-01T00:00:01") == 1_000_000_000``. Raises ValueError.
    """
    match = re.fullmatch(r"\s*([0-9T: -]+?)(?:[.,](\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time: write it like '2026-11-01T10:00:00' (UTC) or with an offset")
    whole, fraction, offset = match.groups()
    day, _, clock = whole.replace(" ", "T").partition("T")
    if fraction and clock.count(":") != 2:
        raise ValueError(f"{text!r} is not a time: only seconds have a fraction, as in '2026-11-01T10:00:00.5'")
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}{'+00:00' if offset in (None, 'Z') else offset}")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: {error}; write it like '2026-11-01T10:00:00'") from None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 10**9 + int((fraction or "0").ljust(9, "0"))


def format_time(ns: int) -> str:
    """ISO 8601 in UTC with as many digits as needed: ``format_time(10**9) == "1970-01-01T00:00:01Z"``."""
    text = str(np.datetime64(ns, "ns"))
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def _field(parser: Any, example: str, what: str) -> Any:
    return (
        BeforeValidator(parser),
        PlainSerializer(float, return_type=float, when_used="json"),
        WithJsonSchema({"type": ["string", "number"], "description": what, "examples": [example]}),
    )


Duration = Annotated[Fraction, *_field(duration, "20 ms", "a duration with its unit")]
Size = Annotated[int, *_field(size, "64 MiB", "a size in bytes with its unit")]
Frequency = Annotated[Fraction, *_field(frequency, "25.6 kHz", "a frequency with its unit")]
Ratio = Annotated[Fraction, *_field(ratio, "50 %", "a share, as percent or as a number")]
