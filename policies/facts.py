"""What the gate may know: declared facts, and the port of those who compute them.

A fact is a boolean, an integer in a range or a word of a closed set; fractions are integer basis
points. A fact that is missing, mistyped, out of range, too old or from the future denies the
action: `FactSchema.fault` says which in words, `compile.py` makes the fast form of the same check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from loop4.domain import Action, Fact, FactScalar

FUTURE_SKEW_MS = 5_000  # clocks of a source and of ours may differ by this much


class FactType(StrEnum):
    """The three types that a condition knows."""

    BOOL = "bool"
    INT = "int"
    ENUM = "enum"


@dataclass(frozen=True, slots=True)
class FactSchema:
    """The declaration of one fact.

    `low` and `high` bound an INT, both included; `values` are the words of an ENUM. `max_age_s` is
    the age above which the fact is stale. `safe` is the value to which no shipped rule objects:
    policy tests start from it.
    """

    name: str
    type: FactType
    source: str
    max_age_s: int
    safe: FactScalar
    low: int = 0
    high: int = 0
    values: tuple[str, ...] = ()
    description: str = ""

    def accepts(self, value: object) -> bool:
        """Whether a value has exactly this type and lies in range. True is not 1, 1.0 is not 1."""
        if self.type is FactType.BOOL:
            return value is True or value is False
        if self.type is FactType.INT:
            return type(value) is int and self.low <= value <= self.high
        return isinstance(value, str) and value in self.values

    def expected(self) -> str:
        """What a value must be, in words."""
        if self.type is FactType.BOOL:
            return "true or false"
        if self.type is FactType.INT:
            return f"an integer from {self.low} to {self.high}"
        return f"one of {', '.join(self.values)}"

    def fault(self, facts: Mapping[str, Fact], now_ms: int) -> str:
        """Why this fact cannot be used now, naming it; empty if it can."""
        fact: object = facts.get(self.name)
        if fact is None:
            return f"fact {self.name!r} is missing"
        if not isinstance(fact, Fact):
            return f"fact {self.name!r} is a bare {type(fact).__name__}, without time and source"
        if not self.accepts(fact.value):
            return f"fact {self.name!r} is {shown(fact.value)}, expected {self.expected()}"
        if type(fact.at_ms) is not int:
            return f"fact {self.name!r} has no time: {shown(fact.at_ms)}"
        age_ms = now_ms - fact.at_ms
        if age_ms > self.max_age_s * 1000:
            return f"fact {self.name!r} is stale: {age_ms} ms old, limit {self.max_age_s} s"
        if age_ms < -FUTURE_SKEW_MS:
            return f"fact {self.name!r} is from the future: {-age_ms} ms ahead"
        return ""


def shown(value: object) -> str:
    """A value and its type for a message, cut to a readable length."""
    kind = type(value).__name__
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits ({kind})"
    text = repr(value)
    return f"{text[:60]}{'...' if len(text) > 60 else ''} ({kind})"


class FactProvider(Protocol):
    """Computes facts from the world or the ledger; never from a model, a log line or a claim.

    The providers themselves live in `tools/facts/`.
    """

    @property
    def provides(self) -> frozenset[str]:
        """The names of the facts that this provider can compute."""
        ...

    async def facts(self, action: Action, names: Sequence[str], now_ms: int) -> Mapping[str, Fact]:
        """The named facts about one action, with the time at which each was true.

        A fact that cannot be computed (no answer, no data) is left out: the gate then denies and
        names it. Never raises for an unreachable source.
        """
        ...
