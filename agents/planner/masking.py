"""Secrets and addresses out of everything that a model sees, and out of everything that it says.

In: `Masker.mask` puts a placeholder for each one; the same value has the same placeholder within a
run, and `unmask` puts them back (for a query that runs on our side). Out: `scrub` removes for good.
"""

from __future__ import annotations

import re

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
            r"(?P<random>\b(?=[A-Za-z0-9+/_-]*[a-z])(?=[A-Za-z0-9+/_-]*[A-Z])"
            r"(?=[A-Za-z0-9+/_-]*[0-9])[A-Za-z0-9+/_-]{24,}={0,2})",
        )
    ),
    re.DOTALL,
)
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
            parts = _OWN.split(masked)
            again = "".join(
                part if index % 2 else _SECRETS.sub(self._masked, part)
                for index, part in enumerate(parts)
            )
            if again == masked:
                break
            masked = again
        return masked

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
        if again == text:
            break
        text = again
    return text


def holds_secret(text: str) -> bool:
    """Whether `scrub` would remove anything."""
    return scrub(text) != text
