"""From a line that a person typed to an intent with slots. Deterministic; no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from loop4.errors import InputError
from loop4.graphs.conversation.intents import (
    TABLE,
    VERBS,
    Intent,
    Row,
    Slots,
    Understood,
    Verb,
)
from loop4.graphs.conversation.names import Names

MOST_CHARACTERS = 500
MOST_WORDS = 60

_FILLER = frozenset(
    "a an the please just now currently right me show tell hey hi hello so our my some any all"
    " there recently".split()
)
_SHORT = {
    "what's": "what is",
    "who's": "who is",
    "how's": "how is",
    "why's": "why is",
    "didn't": "did not",
    "can't": "can not",
    "couldn't": "could not",
    "haven't": "have not",
    "wasn't": "was not",
    "let's": "",
    "i'd": "i",
}
_POLITE = re.compile(
    r"^(please )?(can|could|would|will) you (please )?(tell|show|list|give|say|explain)\b"
)
_ELEMENT = re.compile(r"\.\.\.|\[[^\]]+\]|\S+")
_SLOTS = {
    "name": r"(?P<name>\S+) ",
    "incident": r"(?P<incident>inc-\S+) ",
    "number": r"(?P<number>\d{1,9}) ",
    "act": "(?P<act>" + "|".join(f for v in VERBS for f in v.forms) + ") ",
}
_NO_NAMES = frozenset("it that this them they everything anything something you i we".split())


def checked(text: str) -> str:
    """The question on one line. Raises InputError for one that is empty, too long, or holds
    characters that do not show.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"the question has {len(text)} characters; expected at most {MOST_CHARACTERS}"
        )
    line = " ".join(text.split())
    for place, character in enumerate(line, start=1):
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn"):
            raise InputError(
                f"the question holds a character that does not show (U+{ord(character):04X}) at "
                f"place {place}; type it anew without it"
            )
    if not line:
        raise InputError("the question is empty; type one, or `help` for what can be asked")
    return line


def words_of(line: str) -> tuple[str, ...]:
    """The words that matter, in lower case: without filler, punctuation and short forms."""
    text = (
        unicodedata.normalize("NFKC", line)
        .casefold()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    words: list[str] = []
    for raw in _POLITE.sub("", text).split():
        word = raw.strip("?!.,;:\"'()[]`")
        for part in _SHORT.get(word, word.removesuffix("'s")).split():
            if part not in _FILLER:
                words.append(part)
    return tuple(
        re.sub(r"\broll(ed|ing)? (\S+) back\b", r"roll\1 back \2", " ".join(words)).split()
    )


def understand(line: str, names: Names) -> Understood | None:
    """What the line asks, or None. Sentences of the table first, then keywords, then a name."""
    words = words_of(line)[:MOST_WORDS]
    if not words:
        return None
    text = " ".join(words) + " "
    for row, pattern in _patterns():
        found = pattern.fullmatch(text)
        if found:
            return Understood(row.intent, _slots(found.groupdict(), words, names))
    row_by_words = _by_keywords(words)
    if row_by_words is not None:
        return Understood(row_by_words.intent, _slots({}, words, names), by="keyword")
    if len(words) == 1 and names.incident(words[0]):
        return Understood(Intent.INCIDENTS, _slots({}, words, names), by="name")
    if len(words) == 1 and names.service_of(words[0]):
        return Understood(Intent.SERVICE, _slots({}, words, names), by="name")
    return None


def slots_named(text: str, names: Names) -> Slots:
    """The slots of a free text, e.g. of a model's choice: only names that exist."""
    return _slots({}, words_of(text)[:MOST_WORDS], names)


def verb_of(form: str) -> Verb | None:
    """The verb of a word form."""
    return next((v for v in VERBS if form in v.forms), None)


def _by_keywords(words: Sequence[str]) -> Row | None:
    counted = [(len(row.keywords & set(words)), row) for row in TABLE]
    most = max(count for count, _ in counted)
    best = [row for count, row in counted if count == most]
    return best[0] if most and len(best) == 1 else None


def _slots(captured: dict[str, str | None], words: tuple[str, ...], names: Names) -> Slots:
    """Captured words first; what they do not fill comes from the other words."""
    name, unknown = captured.get("name") or "", ""
    named = [name] if name else [w for w in words if names.service_of(w)]
    if name in _NO_NAMES:
        named = []
    elif name and not names.service_of(name):
        named, unknown = [], name
    incident = captured.get("incident") or next((w for w in words if names.incident(w)), "")
    if incident and not names.incident(incident):
        unknown, incident = incident, ""
    number = captured.get("number")
    if number is None:
        number = next((w for w in words if w.isascii() and w.isdigit() and len(w) < 10), None)
    word = named[0] if named else ""
    return Slots(
        service=names.service_of(word),
        instance=word if names.is_instance(word) else "",
        incident=names.incident(incident),
        verb=verb_of(captured.get("act") or ""),
        number=None if number is None else int(number),
        words=words,
        unknown=unknown,
    )


@cache
def _patterns() -> tuple[tuple[Row, re.Pattern[str]], ...]:
    return tuple((row, re.compile(_regex(s))) for row in TABLE for s in row.sentences)


def _regex(sentence: str) -> str:
    return "".join(_element(e) for e in _ELEMENT.findall(sentence))


def _element(element: str) -> str:
    if element == "...":
        return r"(?:\S+ )*?"
    if element.startswith("["):
        return f"(?:{_element(element[1:-1])})?"
    if element.startswith("{"):
        return _SLOTS[element[1:-1]]
    return "(?:" + "|".join(re.escape(w) for w in element.split("|")) + ") "
