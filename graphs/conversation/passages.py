"""Passages of the organisation's documents, and which of them fit some words best.

Ranking is BM25 (Robertson and Zaragoza 2009) with k1 = 1.2 and b = 0.75, over headings and text; a
word in a heading counts three times, one in the title once for every section below it. The same
folder and words give the same order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

K1, B = 1.2, 0.75
HEADING_WEIGHT = 3
MOST_BYTES = 200_000
MOST_FILES = 500
KINDS = {
    "runbook": "policies/runbooks",
    "decision": "work/decisions",
    "postmortem": "work/retrospectives",
    "signal": "work/signals",
    "policy": "org/4-quality/policies",
}
_WORD = re.compile(r"[a-z0-9]+")
_STOP = frozenset(
    "a an and are as at be but by can could did do does for from had has have how i if in is it its"
    " me of on or our say says search find look see seen should that the their there they this to"
    " up us was we what when where which who why will with would you your about know decide decided"
    " runbook runbooks playbook policy policies decision decisions postmortem postmortems".split()
)


@dataclass(frozen=True, slots=True)
class Passage:
    """One section of a document. `path` is relative to the operations folder, `line` its heading's.

    `title` is that of the document.
    """

    kind: str
    path: str
    line: int
    title: str
    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage, how well it fits, and which of the words it holds."""

    passage: Passage
    score: float
    words: tuple[str, ...]


def read_passages(operations: Path) -> tuple[Passage, ...]:
    """Every section of runbooks, decisions, postmortems, signals and policies, in order of path.

    Templates, links that lead out of the folder, and files that cannot be read are left out.
    """
    found: list[Passage] = []
    for kind, folder in KINDS.items():
        for path in sorted((operations / folder).rglob("*.md"))[:MOST_FILES]:
            text = _text(operations, path)
            if text and not path.name.startswith("_TEMPLATE"):
                found += _sections(kind, path.relative_to(operations).as_posix(), text)
    return tuple(found)


def ranked(passages: Sequence[Passage], words: Sequence[str]) -> tuple[Hit, ...]:
    """The passages that hold any of the words, best first; ties by path and line."""
    wanted = sorted({t for w in words for t in _terms(w)})
    counts = [_counted(p) for p in passages]
    if not wanted or not counts:
        return ()
    average = sum(sum(c.values()) for c in counts) / len(counts)
    holders = Counter(t for c in counts for t in wanted if t in c)
    hits = []
    for passage, count in zip(passages, counts, strict=True):
        score = 0.0
        for term in wanted:
            if count[term]:
                rarity = math.log(1 + (len(counts) - holders[term] + 0.5) / (holders[term] + 0.5))
                length = max(1.0, sum(count.values()) / average)  # being short is no merit
                weight = count[term] + K1 * (1 - B + B * length)
                score += rarity * count[term] * (K1 + 1) / weight
        if score > 0:
            hits.append(Hit(passage, score, tuple(t for t in wanted if count[t])))
    hits.sort(key=lambda h: (-round(h.score, 9), h.passage.path, h.passage.line))
    return tuple(hits)


def _terms(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.casefold()):
        if word not in _STOP and len(word) > 1:
            yield _stem(word)


def _stem(word: str) -> str:
    """Plural and -ing endings off, so that a question need not hit the exact form."""
    for ending in ("ies", "ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending) + ("y" if ending == "ies" else "")
    return word


def _counted(passage: Passage) -> Counter[str]:
    count = Counter(t for line in passage.lines for t in _terms(line))
    for term in _terms(passage.heading if passage.heading != passage.title else ""):
        count[term] += HEADING_WEIGHT
    count.update(_terms(passage.title))
    return count


def _text(operations: Path, path: Path) -> str:
    try:
        inside = path.resolve().is_relative_to(operations.resolve())
        if not inside or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sections(kind: str, path: str, text: str) -> Iterator[Passage]:
    """Sections by heading. What stands inside `<external-content>` is no part of any."""
    title, heading, start, kept = "", "", 1, list[str]()
    outside = fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if "<external-content>" in line:
            outside = True
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if line.startswith("#") and not fenced and not outside:
            if kept:
                yield Passage(kind, path, start, title, heading, tuple(kept))
            heading, start, kept = line.lstrip("# ").strip(), number, []
            title = title or heading
        elif line.strip() and not outside:
            kept.append(line.strip())
        if "</external-content>" in line:
            outside = False
    if kept:
        yield Passage(kind, path, start, title, heading, tuple(kept))
