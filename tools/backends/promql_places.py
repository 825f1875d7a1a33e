"""Where in a query something stands: promql-parser's tree carries no positions."""

from __future__ import annotations

import re
from collections.abc import Callable

_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`')
_COMMENT = re.compile(r"#[^\n]*")
_WINDOW = re.compile(r"\[(?P<window>[^\]]*)\]?|\boffset\b\s*(?P<offset>-?\s*[\w.+]*)", re.I)
DURATION = re.compile(r"(?:\d{1,9}(?:ms|[smhdwy]))+")
_TOKEN = re.compile(r"[A-Za-z_:][\w:.]*|[\d.]+\w*|[=!<>~]+|\S")


def masked(text: str) -> str:
    """The text with the insides of strings and comments blanked, every character in its place."""

    def blank(match: re.Match[str]) -> str:
        inside = len(match.group()) - 2
        return match.group()[0] + " " * inside + match.group()[-1] if inside >= 0 else " "

    without_strings = _STRING.sub(blank, text)
    return _COMMENT.sub(lambda match: " " * len(match.group()), without_strings)


def column_of(text: str, pattern: str) -> int:
    """The 1-based column where a pattern first stands outside strings; 1 if it stands nowhere."""
    found = re.search(pattern, masked(text))
    return found.start() + 1 if found else 1


def column_of_word(text: str, word: str) -> int:
    """The 1-based column of a whole word outside strings."""
    return column_of(text, rf"(?<![\w:]){re.escape(word)}(?![\w:])")


def column_of_fault(text: str, message: str, parses: Callable[[str], bool]) -> int:
    """The column nearest to a parse error, from the parser's message and from what still parses."""
    plain = masked(text)
    if "unclosed left paren" in message:
        return _open_bracket(plain)
    quoted = re.search(r"'([^']+)'", message)
    if quoted:
        found = plain.find(quoted.group(1))
        if found >= 0:
            return found + 1
    if "unexpected end" in message:
        return len(text.rstrip()) + 1
    tokens = [match.start() for match in _TOKEN.finditer(plain)][:200]
    for start in reversed(tokens):
        if start and parses(text[:start]):
            return start + 1
    return tokens[0] + 1 if tokens else 1


def column_of_odd_duration(text: str) -> int:
    """The 1-based column of a window or offset that is not written with a unit; 0 if all are.

    promql-parser panics, past every `except Exception`, on plain numbers there that are too big.
    """
    for found in _WINDOW.finditer(masked(text)):
        for part in (found.group("window") or found.group("offset") or "").split(":"):
            if part.strip() and not DURATION.fullmatch(part.strip().removeprefix("-")):
                return found.start() + 1
    return 0


def nesting(text: str) -> int:
    """How deep brackets nest, outside strings."""
    depth = deepest = 0
    for character in masked(text):
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def _open_bracket(plain: str) -> int:
    open_at: list[int] = []
    for index, character in enumerate(plain):
        if character == "(":
            open_at.append(index)
        elif character == ")" and open_at:
            open_at.pop()
    return open_at[-1] + 1 if open_at else len(plain)
