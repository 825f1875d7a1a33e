"""The seam for a model: it may choose an intent that the grammar missed, or retell an answer.

It can do no more. A chosen intent must be one that only reads; names come from the person's own
words. A retelling that holds a number, an id or a name that the answer does not hold is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from loop4.graphs.conversation.intents import TABLE, Intent
from loop4.graphs.conversation.sheet import Answer, shown

WRITING = frozenset({Intent.REQUEST, Intent.NOTE, Intent.YES, Intent.NO})
MOST_PROSE = 1_500
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")
_IDENTIFIER = re.compile(r"[A-Za-z_]+(?:[-._/#:][A-Za-z0-9_]+)+|[A-Za-z]+\d[\w-]*")


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be asked, as a model is shown it."""

    intent: str
    example: str


CHOICES: tuple[Choice, ...] = tuple(
    Choice(row.intent.value, row.example)
    for row in TABLE
    if row.intent not in WRITING and row.is_shown
)


class Answerer(Protocol):
    """A model behind the conversation. Both return None when there is nothing usable; errors of the
    model are its own to handle.
    """

    async def choose(self, question: str, choices: Sequence[Choice]) -> str | None:
        """The `intent` of one of the choices that the question means, or None."""
        ...

    async def rephrase(self, question: str, lines: Sequence[str]) -> str | None:
        """The lines retold for this question, adding nothing; or None."""
        ...


def readable(chosen: str | None) -> Intent | None:
    """A model's choice, if it is one of those offered."""
    return next((Intent(c.intent) for c in CHOICES if c.intent == chosen), None)


def fitting(prose: str | None, answer: Answer, names: Collection[str]) -> str:
    """The retelling on one line if everything in it stands in the answer; else empty."""
    if not prose or len(prose) > MOST_PROSE:
        return ""
    told = shown(prose, MOST_PROSE)
    source = " ".join((*answer.lines, *answer.evidence, answer.question)).casefold()
    figures = set(_FIGURE.findall(source))
    if not set(_FIGURE.findall(told)) <= figures:
        return ""
    words = {w.casefold() for w in _IDENTIFIER.findall(told)}
    words |= {n.casefold() for n in names if re.search(rf"\b{re.escape(n)}\b", told, re.IGNORECASE)}
    return told if all(w in source for w in words) else ""
