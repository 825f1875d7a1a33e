"""The seam for a model: it may choose an intent that the grammar missed, or retell an answer.

It can do no more. A chosen intent must be one that only reads, and names come from the person's own
words. A retelling is checked sentence by sentence against the answer before anybody sees it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from loop4.agents.planner.fact_check import FactCheck
from loop4.agents.planner.port import ProseFacts
from loop4.graphs.conversation.intents import TABLE, Intent

WRITING = frozenset({Intent.REQUEST, Intent.NOTE, Intent.YES, Intent.NO})


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
    """A model behind the conversation. Its errors are its own to handle: nothing usable is None, or
    no sentence.
    """

    async def choose(self, question: str, choices: Sequence[Choice]) -> str | None:
        """The `intent` of one of the choices that the question means, or None."""
        ...

    def retell(self, question: str, facts: ProseFacts) -> AsyncIterator[str]:
        """The facts retold for this question, sentence by sentence, adding nothing."""
        ...


def readable(chosen: str | None) -> Intent | None:
    """A model's choice, if it is one of those offered."""
    return next((Intent(c.intent) for c in CHOICES if c.intent == chosen), None)


def facts_of(lines: Sequence[str], names: Collection[str]) -> ProseFacts:
    """What a retelling may say: the answer's lines. The words of the question are no facts."""
    return ProseFacts(template="\n".join(lines), names=frozenset(names))


async def retold(answerer: Answerer, question: str, facts: ProseFacts) -> AsyncIterator[str]:
    """The sentences of a retelling that hold nothing which the facts do not."""
    check = FactCheck(facts)
    async for sentence in answerer.retell(question, facts):
        if not check.fault(sentence):
            yield sentence
