"""Prose against facts: a sentence passes when every number, name, id, act and quantity in it occurs
in the facts.

It does not judge meaning. So sentences with a negation, an act or a technical cause that the facts
do not have fail as well, those that tie names and numbers together as no fact does (`relations`),
and those that hardly share a word with them; what must be said is appended from the template.
Checked sentence by sentence, before anybody sees one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from loop4.agents.planner.masking import REMOVED, holds_secret
from loop4.agents.planner.port import ProseFacts
from loop4.agents.planner.relations import Relations
from loop4.agents.planner.vocabulary import (
    ACTS,
    FUNCTION_WORDS,
    HYPHENATED,
    NEGATIONS,
    NUMBER_WORDS,
    OPENERS,
    QUANTITIES,
    THINGS,
    UNITS,
)

LONGEST = 400  # characters of a sentence
SHORTEST = 3  # words
STEM = 5  # letters that make two words the same: "failing" and "failed"
GROUNDED_PERCENT = 40  # of a sentence's words of four letters or more must be words of the facts
_ENDS = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_TOKEN = re.compile(r"\S+")
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")
_MEASURE = re.compile(
    r"(?<![\w.,:/-])(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?:\s?(?P<unit>%|[A-Za-z]+))?(?![\w:/-])"
)
_MARKS = ("#", "*", "- ", "|", "`", ">", "+ ")
_ROUND = "\"'()[]{},;:!?*"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and why it was dropped; empty: it stands."""

    text: str
    reason: str = ""


class FactCheck:
    """The facts of one text, prepared once; each sentence then takes well under a millisecond."""

    def __init__(self, facts: ProseFacts) -> None:
        self._facts = facts
        known = "\n".join((facts.template, *facts.more))
        self._known_text = known.casefold()
        self._tokens = {_bare(t).casefold() for t in _TOKEN.findall(known)} - {""}
        self._words = set(re.findall(r"[a-z]+", self._known_text))
        self._stems = {w[:STEM] for w in self._words if len(w) > 3}
        self._measures = set(_measures(known))
        self._numbers = {number for number, _ in self._measures}
        self._names = frozenset(n.casefold() for n in facts.names)
        self._relations = Relations((facts.template, *facts.more), self._names, _placed_measures)

    def fault(self, sentence: str) -> str:
        """Why the sentence may not be shown; empty when it may."""
        if len(sentence) > LONGEST:
            return "longer than a sentence should be"
        if REMOVED in sentence or "[masked-" in sentence or holds_secret(sentence):
            return "holds a secret"
        if not all(_is_plain(c) for c in sentence):
            return "holds characters of another script"
        return (
            self._measure_fault(sentence)
            or self._word_faults(sentence)
            or self._relations.fault(sentence)
        )

    def _measure_fault(self, sentence: str) -> str:
        for number, unit in _measures(sentence):
            if unit and (number, unit) not in self._measures:
                return f"the facts have no {number} {unit}"
            if number not in self._numbers:
                return f"the facts have no number {number}"
        return ""

    def _word_faults(self, sentence: str) -> str:
        words = [_bare(t) for t in _TOKEN.findall(sentence)]
        words = [w for w in words if w]
        plain = [w.casefold() for w in words]
        if len(words) > 7 and not FUNCTION_WORDS & set(plain):
            return "is not English"
        own = [w[:STEM] for w in re.findall(r"[a-z]{4,}", " ".join(plain)) if w not in OPENERS]
        grounded = sum(w in self._stems for w in own)
        if len(words) < SHORTEST or grounded * 100 < len(own) * GROUNDED_PERCENT:
            return "says little of what the facts say"
        for index, word in enumerate(words):
            problem = self._word_fault(word, is_first=index == 0)
            if problem:
                return problem
        return ""

    def _word_fault(self, word: str, *, is_first: bool) -> str:
        low = word.casefold()
        if low in self._tokens:
            return ""
        if low in self._names:
            return f"the facts do not name {word!r}"
        if _NUMBER.fullmatch(word.removesuffix("%")):
            return ""  # judged as a measure
        if any(c.isdigit() for c in word) or any(c in word for c in "_/:@\\=<>|#$~^&"):
            return f"the facts have no {word!r}"
        if "." in word.strip(".") or ("-" in word and low not in HYPHENATED):
            return f"the facts have no {word!r}"
        return self._plain_word_fault(word, low, is_first=is_first)

    def _plain_word_fault(self, word: str, low: str, *, is_first: bool) -> str:
        stem = next((s for s in ACTS if low.startswith(s)), "")
        if stem and stem not in self._known_text:
            return f"the facts have no such act: {word!r}"
        if low in NEGATIONS and not NEGATIONS & self._words:
            return "denies what the facts do not deny"
        if (low in QUANTITIES or low in THINGS) and low not in self._words:
            return f"the facts do not say {word!r}"
        if low in NUMBER_WORDS and NUMBER_WORDS[low] not in self._numbers:
            return f"the facts have no number {word!r}"
        if word[0].isupper() and not (is_first and (low in OPENERS or low in self._words)):
            return (
                "" if low in self._words and word.istitle() else f"the facts do not name {word!r}"
            )
        return ""

    def missing(self, text: str) -> list[str]:
        """Required facts that are not in the text."""
        low = text.casefold()
        return [r for r in self._facts.required if r.casefold() not in low]

    def completed(self, sentences: Sequence[str]) -> str:
        """The text with the template's sentences for what is missing; the template when nothing
        stands.
        """
        if not sentences:
            return self._facts.template
        text = " ".join(sentences)
        own = split(self._facts.template)
        for required in self._facts.required:
            if required.casefold() in text.casefold():
                continue
            said = next((s for s in own if required.casefold() in s.casefold()), required)
            text = f"{text} {said}"
        return text


class SentenceStream:
    """A stream of text to checked sentences, each as soon as it is whole.

    Small models end in a loop, and write headings: what is said twice or is no plain sentence
    falls as well.
    """

    def __init__(self, check: FactCheck) -> None:
        self._check = check
        self._held = ""
        self._said: set[str] = set()

    def feed(self, text: str) -> list[Sentence]:
        """The sentences that this piece completes."""
        self._held += text
        parts = _ENDS.split(self._held)
        self._held = parts.pop()
        return [s for part in parts for s in self._judged(part)]

    def finish(self) -> list[Sentence]:
        """The last sentence, if it was not ended."""
        rest, self._held = self._held, ""
        return self._judged(rest)

    def _judged(self, part: str) -> list[Sentence]:
        sentence = " ".join(part.split())
        if not sentence:
            return []
        reason = self._form_fault(sentence) or self._check.fault(sentence)
        self._said.add(sentence.casefold())
        return [Sentence(sentence, reason)]

    def _form_fault(self, sentence: str) -> str:
        if sentence.casefold() in self._said:
            return "says the same again"
        is_plain = not sentence.startswith(_MARKS) and not sentence.endswith(":")
        return "" if is_plain else "is no plain sentence"


def split(text: str) -> list[str]:
    """The sentences of a text."""
    return [" ".join(p.split()) for p in _ENDS.split(text) if p and p.strip()]


def checked(facts: ProseFacts, text: str) -> tuple[str, list[Sentence]]:
    """The text that may be shown, and every sentence with its verdict."""
    check = FactCheck(facts)
    stream = SentenceStream(check)
    sentences = [*stream.feed(text), *stream.finish()]
    return check.completed([s.text for s in sentences if not s.reason]), sentences


def _bare(token: str) -> str:
    """The token without punctuation round it and without a genitive."""
    word = token.strip(_ROUND).rstrip(".").strip(_ROUND)
    return re.sub(r"['\u2019]s?$", "", word)


def _measures(text: str) -> Iterable[tuple[str, str]]:
    """Numbers with their unit ("" if none that is known). 5000 bp is 50 % as well."""
    for number, unit, _ in _placed_measures(text):
        yield number, unit
        if unit == "bp":
            yield _shown(Decimal(number) / 100), "%"


def _placed_measures(text: str) -> Iterable[tuple[str, str, int]]:
    """Numbers with their unit and place; shares all in basis points."""
    for match in _MEASURE.finditer(text):
        value = Decimal(match.group("number").replace(",", ""))
        unit = UNITS.get((match.group("unit") or "").casefold(), "")
        if unit == "%":
            value, unit = value * 100, "bp"
        yield _shown(value), unit, match.start()


def _shown(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _is_plain(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    name = unicodedata.name(character, "")
    return name.startswith("LATIN ") or character in "–—’‘“”…§°±×"  # noqa: RUF001  (typographic)
