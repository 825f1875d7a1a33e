"""Secrets and addresses out of everything that a model sees, and out of everything that it says.

In: `Masker.mask` puts a placeholder for each one; the same value has the same placeholder within a
run, and `unmask` puts them back (for a query that runs on our side). Out: `scrub` removes for good.

What has a known form is found first, in the whole text; what only looks random is judged after it.
Paths below `work/` and our own ids look random and are not: there each part is judged alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable

REMOVED = "[removed]"
PASSES = 4

_VALUE = r"(?:\"[^\"\n]{1,400}\"|'[^'\n]{1,400}'|[^\s,;&\"'<>|\[\]]{3,400})"
_NAMED = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[ _-]?key|access[ _-]?key|private[ _-]?key|"
    r"signing[ _-]?key|client[ _-]?secret|credentials?|authorization|cookie|session[ _-]?id)"
)
_PLACEHOLDER = r"\[masked-[a-z]+-\d{1,6}\]"
_SECRETS = re.compile(
    "|".join(
        (
            r"(?P<literal>" + _PLACEHOLDER + ")",
            r"(?P<pem>-----BEGIN [A-Z0-9 ]*(?:KEY|CERTIFICATE)[A-Z ]*-----"
            r".*?(?:-----END [A-Z0-9 ]*-----|\Z))",
            r"(?P<jwt>\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?)",
            r"(?P<connection>\b[a-z][a-z0-9+.-]{1,20}://[^\s/@:]*:[^\s/@]+@[^\s\"'<>]+)",
            r"(?P<key>\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{12,}|\bgh[pousr]_[A-Za-z0-9]{16,}|"
            r"\bgithub_pat_[A-Za-z0-9_]{16,}|\bglpat-[A-Za-z0-9_-]{12,}|\bxox[abprs]-[A-Za-z0-9-]{8,}|"
            r"\bA(?:KIA|SIA)[A-Z0-9]{12,}|\bAIza[A-Za-z0-9_-]{20,}|\bhvs\.[A-Za-z0-9_-]{12,}|"
            r"\bya29\.[A-Za-z0-9_-]{12,}|\bnpm_[A-Za-z0-9]{16,}|\bpypi-[A-Za-z0-9_-]{16,}|"
            r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{8,}|\bdop_v1_[a-f0-9]{16,})",
            r"(?:(?i:\b(?:bearer|basic)\s+))(?P<bearer>[A-Za-z0-9._~+/=-]{8,})",
            r"(?i:[\"']?\b[\w-]*?"
            + _NAMED
            + r"\b[\"']?\s*(?:[=:]{1,2}>?|\bis\b|\bwas\b)\s*(?:(?:bearer|basic)\s+)?)"
            r"(?P<password>" + _VALUE + ")",
            r"(?P<email>[A-Za-z0-9._%+-]{1,64}[@＠][A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+)",  # noqa: RUF001  (a full-width @ is one too)
        )
    ),
    re.DOTALL,
)
_RANDOM = re.compile(
    r"\b(?=[A-Za-z0-9+/_-]*[a-z])(?=[A-Za-z0-9+/_-]*[A-Z])"
    r"(?=[A-Za-z0-9+/_-]*[0-9])[A-Za-z0-9+/_-]{24,}={0,2}"
)
_WORK = re.compile(r"(?:(?<=/)|\A)work/")
_SEGMENT = re.compile(r"[^/]+")
_OURS = re.compile(
    r"(?<![A-Za-z0-9])(?:INC-\d{4}-\d{3,6}|ev-[0-9a-f]{16}|\d{4}-\d\d-\d\d(?:T\d{4,6}Z)?)"
    r"(?![A-Za-z0-9])"
)
_TITLE = re.compile(r"(?:[A-Za-z]{1,16}|\d{1,8})(?:-+(?:[A-Za-z]{1,16}|\d{1,8}))+")
_MASKED = re.compile(_PLACEHOLDER)
_OWN = re.compile(f"({_PLACEHOLDER})")


class Masker:
    """The masks of one run. Not shared between runs: a placeholder means nothing elsewhere."""

    def __init__(self) -> None:
        self._by_value: dict[str, str] = {}
        self._by_mask: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many different values are masked."""
        return len(self._by_value)

    def mask(self, text: str) -> str:
        """The text with a placeholder for each secret; `unmask` of it is the text again.

        A placeholder that stands in the text already (somebody wrote it into a log line) is masked
        like a value, so that nobody outside can have a secret put back.
        """
        masked = _SECRETS.sub(self._masked, text)
        for _ in range(PASSES):  # a secret that stood right behind another one
            again = _between(masked, lambda part: _SECRETS.sub(self._masked, part))
            if again == masked:
                break
            masked = again
        return _between(masked, lambda part: _without_random(part, self._random))

    def _random(self, value: str) -> str:
        return self._placeholder("random", value)

    def unmask(self, text: str) -> str:
        """The text with the values back. Unknown placeholders stay."""
        return _MASKED.sub(lambda m: self._by_mask.get(m.group(), m.group()), text)

    def scrub(self, text: str) -> str:
        """The text without any secret, known or found, and without placeholders."""
        for value in sorted(self._by_value, key=len, reverse=True):
            if len(value) >= 6:
                text = text.replace(value, REMOVED)
        return scrub(_MASKED.sub(REMOVED, text))

    def _masked(self, match: re.Match[str]) -> str:
        kind = match.lastgroup or "secret"
        value = match.group(kind)
        start = match.start(kind) - match.start()
        whole = match.group()
        return whole[:start] + self._placeholder(kind, value) + whole[start + len(value) :]

    def _placeholder(self, kind: str, value: str) -> str:
        known = self._by_value.get(value)
        if known is None:
            known = f"[masked-{kind}-{len(self._by_value) + 1}]"
            self._by_value[value], self._by_mask[known] = known, value
        return known


def scrub(text: str) -> str:
    """The text with everything that looks like a secret removed for good; placeholders stay."""

    def removed(match: re.Match[str]) -> str:
        kind = match.lastgroup or "secret"
        value = match.group(kind)
        if kind == "literal" or value == REMOVED:
            return match.group()
        start = match.start(kind) - match.start()
        whole = match.group()
        return whole[:start] + REMOVED + whole[start + len(value) :]

    for _ in range(PASSES):
        again = _SECRETS.sub(removed, text)
        again = _between(again, lambda part: _without_random(part, _gone))
        if again == text:
            break
        text = again
    return text


def _between(text: str, change: Callable[[str], str]) -> str:
    """The text with everything between its placeholders changed."""
    return "".join(
        part if index % 2 else change(part) for index, part in enumerate(_OWN.split(text))
    )


def _gone(value: str) -> str:
    return REMOVED


def _without_random(text: str, put: Callable[[str], str]) -> str:
    return _RANDOM.sub(lambda m: _parts_replaced(m.group(), put), text)


def _parts_replaced(found: str, put: Callable[[str], str]) -> str:
    """What looks random, with `put` in the place of each part that is not ours."""
    work = _WORK.search(found)
    if work is None:
        return put(found) if _looks_random(found) else found
    before, below = found[: work.start()], found[work.start() :]
    before = put(before) if _looks_random(before) else before
    return before + _SEGMENT.sub(
        lambda m: put(m.group()) if _is_no_title(m.group()) else m.group(), below
    )


def _is_no_title(segment: str) -> bool:
    """Words and numbers joined by hyphens are a title, however long and in whatever case."""
    return _looks_random(segment) and _TITLE.fullmatch(segment) is None


def _looks_random(text: str) -> bool:
    return _RANDOM.search(_OURS.sub("", text)) is not None


def holds_secret(text: str) -> bool:
    """Whether `scrub` would remove anything."""
    return scrub(text) != text
