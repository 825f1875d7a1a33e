"""Whether a sentence ties names and numbers together as the facts do.

Right words in a wrong relation are a lie that a look at single words cannot see: another version's
failures, a roll back the wrong way round. What stands together in one clause must do so in a fact,
and two things of one kind must come in a fact's order. A true sentence that turns the order round
(a passive) is dropped too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

_CLAUSES = re.compile(r"[,;:]\s+|\s+(?:and|but|while|whereas|which)\s+")
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_DIRECTIONS = {"from": "to", "after": "before", "to": "from", "before": "after"}
_DIRECTED = re.compile(
    r"\b(from|after|to|into|before)\s+"
    r"(?:(?:the|a|revision|version|service|change|about|only)\s+)*\Z"
)
_VERSION = re.compile(r"(?<![\w.])(?:v?\d+(?:\.\d+){2,}|v\d+(?:\.\d+)?|[a-z]+-\d[\w-]*)(?![\w-])")


OWNERS = ("name", "target", "version")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A thing that a sentence is about. `kind`: name, target (a name and what is measured of it),
    version, or a number's unit. `way`: from, to, after, before, or nothing.
    """

    kind: str
    value: str
    at: int
    way: str = ""

    @property
    def is_number(self) -> bool:
        """Whether this is a quantity, not what has it."""
        return self.kind not in OWNERS


class Relations:
    """What the facts tie together, prepared once. `measures` finds (value, unit, place) in a
    text.
    """

    def __init__(
        self,
        lines: Iterable[str],
        names: frozenset[str],
        measures: Callable[[str], Iterable[tuple[str, str, int]]],
    ) -> None:
        self._names = (
            re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, sorted(names))) + r")(?![\w-])")
            if names
            else None
        )
        self._targets = (
            re.compile(
                r"(?<![\w-])(?:" + "|".join(map(re.escape, sorted(names))) + r")-[a-z][a-z-]+"
            )
            if names
            else None
        )
        self._measures = measures
        self._ways: set[tuple[str, str, str]] = set()
        self._tied: list[frozenset[tuple[str, str]]] = []
        self._orders: list[list[tuple[str, str]]] = []
        for line in lines:
            for sentence in _SENTENCES.split(line):
                self._learn(sentence)

    def _learn(self, sentence: str) -> None:
        whole = self._anchors(sentence)
        self._orders.append([(a.kind, a.value) for a in whole])
        self._ways |= {(a.kind, a.value, a.way) for a in whole if a.way}
        owners = {(a.kind, a.value) for a in whole if not a.is_number}
        by_kind = [sum(kind == k for kind, _ in owners) for k in OWNERS]
        units = [sentence] if max(by_kind) <= 1 else _CLAUSES.split(sentence)
        self._tied += [frozenset((a.kind, a.value) for a in self._anchors(u)) for u in units]

    def fault(self, sentence: str) -> str:
        """Why the sentence ties together what the facts do not; empty when it does not."""
        for clause in _CLAUSES.split(sentence):
            found = self._anchors(clause)
            for owner in (a for a in found if not a.is_number):
                for number in (a for a in found if a.is_number):
                    if not self._are_tied(owner, number):
                        return f"the facts do not tie {number.value} to {owner.value!r}"
        whole = self._anchors(sentence)
        for anchor in whole:
            if self._is_turned(anchor):
                return f"the facts do not say {anchor.way} {anchor.value!r}"
        for index, first in enumerate(whole):
            for second in whole[index + 1 :]:
                if first.kind == second.kind and first.value != second.value:
                    if not self._in_order(first, second):
                        return f"the facts do not say {first.value!r} before {second.value!r}"
        return ""

    def _are_tied(self, one: Anchor, other: Anchor) -> bool:
        pair = {(one.kind, one.value), (other.kind, other.value)}
        return any(pair <= unit for unit in self._tied)

    def _is_turned(self, anchor: Anchor) -> bool:
        """Whether the facts have the other way only: to where this says from."""
        if not anchor.way or (anchor.kind, anchor.value, anchor.way) in self._ways:
            return False
        return (anchor.kind, anchor.value, _DIRECTIONS[anchor.way]) in self._ways

    def _in_order(self, first: Anchor, second: Anchor) -> bool:
        a, b = (first.kind, first.value), (second.kind, second.value)
        return any(a in order and b in order[order.index(a) + 1 :] for order in self._orders)

    def _anchors(self, text: str) -> list[Anchor]:
        low = text.casefold()
        versions = list(_VERSION.finditer(low))
        found = [Anchor("version", m.group(), m.start()) for m in versions]
        found += [
            Anchor(unit or "number", value, at)
            for value, unit, at in self._measures(text)
            if not any(m.start() <= at < m.end() for m in versions)
        ]
        if self._names is not None:
            found += [Anchor("name", m.group(), m.start()) for m in self._names.finditer(low)]
        if self._targets is not None:
            found += [Anchor("target", m.group(), m.start()) for m in self._targets.finditer(low)]
        return [replace(a, way=_way(low[: a.at])) for a in sorted(found, key=lambda a: a.at)]


def _way(before: str) -> str:
    """The direction that the words before a thing give it."""
    found = _DIRECTED.search(before[-60:])
    return {"into": "to"}.get(found[1], found[1]) if found else ""
