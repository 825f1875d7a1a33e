"""Numbers with units as people write them, normalised: shares to basis points, times to seconds or
milliseconds, multiples to basis points of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

_UNITS: dict[str, tuple[str, Fraction]] = {
    **dict.fromkeys(("%", "percent", "pp", "percentage point", "percentage points"),
                    ("share", Fraction(100))),
    **dict.fromkeys(("bp", "bps", "basis point", "basis points"), ("share", Fraction(1))),
    **dict.fromkeys(("x", "\N{MULTIPLICATION SIGN}", "times"), ("ratio", Fraction(10_000))),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), ("time", Fraction(1))),
    **dict.fromkeys(("s", "sec", "second", "seconds"), ("time", Fraction(1_000))),
    **dict.fromkeys(("min", "mins", "minute", "minutes", "m"), ("time", Fraction(60_000))),
    **dict.fromkeys(("h", "hour", "hours", "hr", "hrs"), ("time", Fraction(3_600_000))),
    **dict.fromkeys(("d", "day", "days"), ("time", Fraction(86_400_000))),
    **dict.fromkeys(("w", "week", "weeks"), ("time", Fraction(604_800_000))),
    **dict.fromkeys(("business day", "business days", "bd"), ("business_days", Fraction(1))),
}  # fmt: skip
UNIT_NAMES = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))
NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_WORDS = "|".join(NUMBER_WORDS)
QUANTITY = (
    rf"(?:(?<![\w.])\d{{1,9}}(?:\.\d{{1,6}})?(?:\s?(?:{UNIT_NAMES})(?![A-Za-z]))?|\b(?:{_WORDS})\b)"
)
_QUANTITY = re.compile(
    rf"(\d{{1,9}}(?:\.\d{{1,6}})?)(?:\s?({UNIT_NAMES})(?![A-Za-z]))?|({_WORDS})", re.IGNORECASE
)


class Unit(StrEnum):
    """What a limit is measured in."""

    SHARE_BP = "bp"
    RATIO_BP = "bp of normal"
    SECONDS = "s"
    MILLISECONDS = "ms"
    COUNT = "count"
    BUSINESS_DAYS = "business days"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A whole number in its unit, or why there is none (`fault`)."""

    value: int
    unit: Unit
    fault: str = ""


_DIMENSION = {
    Unit.SHARE_BP: "share",
    Unit.RATIO_BP: "ratio",
    Unit.SECONDS: "time",
    Unit.MILLISECONDS: "time",
    Unit.COUNT: "count",
}
_EXPECTED = {
    Unit.SHARE_BP: "a share like 10 % or 250 bp",
    Unit.RATIO_BP: "a multiple like 2x",
    Unit.SECONDS: "a time like 15 min",
    Unit.MILLISECONDS: "a time like 300 ms",
    Unit.COUNT: "a whole number without unit",
}


def quantity(text: str, unit: Unit) -> Quantity:
    """The quantity that `text` is, in `unit`. A time in whole business days keeps that unit.

    A unit of another dimension, no unit where one is needed, and a value that is no whole number
    of the unit are faults.
    """
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        return Quantity(0, unit, f"{text.strip()!r} is no number; expected {_EXPECTED[unit]}")
    number, name, word = found.groups()
    amount = Fraction(NUMBER_WORDS[word.lower()]) if word else Fraction(number)
    dimension, factor = _UNITS[name.lower()] if name else ("count", Fraction(1))
    if dimension == "business_days" and unit is Unit.SECONDS:
        return _whole(amount, Unit.BUSINESS_DAYS, text)
    if dimension != _DIMENSION[unit]:
        return Quantity(0, unit, f"{text.strip()!r} is not {_EXPECTED[unit]}")
    if unit is Unit.SECONDS:
        factor /= 1000
    return _whole(amount * factor, unit, text)


def _whole(amount: Fraction, unit: Unit, text: str) -> Quantity:
    if amount.denominator != 1:
        return Quantity(0, unit, f"{text.strip()!r} is no whole number of {unit}")
    return Quantity(int(amount), unit)
