"""An answer: what was understood, lines for people, the same as JSON, and the evidence for it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from loop4.agents.planner.masking import scrub
from loop4.domain import Json
from loop4.tools.reader import Read, ReadRecord
from loop4.tools.work_items import safe

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}")
MOST_LINE = 400
MOST_CITED = 4  # in a line; `evidence` holds all


class AnswerKind(StrEnum):
    """What kind of answer it is."""

    ANSWERED = "answered"
    NO_DATA = "no_data"  # understood, and nothing could be read that answers it
    UNKNOWN_NAME = "unknown_name"
    INCOMPLETE = "incomplete"  # e.g. which replica?
    NOT_UNDERSTOOD = "not_understood"
    ASKS = "asks"  # shows what would be asked for, and waits for a yes
    SUBMITTED = "submitted"  # handed to the fleet
    REFUSED = "refused"  # e.g. nobody is signed in


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `lines` hold no text from telemetry; `evidence` names what each fact stands on.

    `prose` is a model's retelling of the lines, empty without one; it adds nothing.
    """

    question: str
    understood: str
    intent: str
    kind: AnswerKind
    lines: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    body: Mapping[str, Json] = field(default_factory=dict)
    reads: tuple[ReadRecord, ...] = ()
    prose: str = ""

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "question": self.question,
            "understood": self.understood,
            "intent": self.intent,
            "kind": self.kind.value,
            "answer": list(self.lines),
            "prose": self.prose,
            "facts": dict(self.body),
            "evidence": list(self.evidence),
            "reads": [
                {
                    "evidence": r.evidence,
                    "tool": r.tool,
                    "arguments": r.arguments,
                    "at_ms": r.at_ms,
                    "answer_digest": r.answer_digest,
                    "missing": r.denied or ("" if r.answer_digest else r.summary),
                }
                for r in self.reads
            ],
        }


def nobody_listens(line: str) -> None:
    """The default for `Sheet.say`."""


@dataclass(slots=True)
class Sheet:
    """An answer being written. Each line is told to `say` as soon as it is known."""

    say: Callable[[str], None] = nobody_listens
    understood: str = ""
    kind: AnswerKind = AnswerKind.ANSWERED
    lines: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    body: dict[str, Json] = field(default_factory=dict)

    def understand(self, words: str) -> None:
        """Say how the question was understood, before anything else."""
        self.understood = shown(words)
        self.say(f"I understood: {self.understood}.")

    def line(self, text: str, *cites: str) -> None:
        """One line, with the ids of what it stands on in brackets behind it."""
        cited = tuple(dict.fromkeys(c for c in cites if c))
        self.evidence += [c for c in cited if c not in self.evidence]
        more = f", and {len(cited) - MOST_CITED} more" if len(cited) > MOST_CITED else ""
        told = ", ".join(shown(c, 160) for c in cited[:MOST_CITED])
        whole = shown(text) + (f" [{told}{more}]" if cited else "")
        self.lines.append(whole)
        self.say(whole)

    def no_data(self, text: str) -> None:
        """A line that says what could not be read."""
        if not self.lines:
            self.kind = AnswerKind.NO_DATA
        self.line(f"no data: {text}")

    def gap(self, read: Read[T]) -> None:
        """Say why a read gave nothing."""
        self.no_data(quoted(read.denied or read.missing, 160))


def named(text: object) -> str:
    """A name from outside (a version, an actor, a replica) if it has the shape of one; else its
    digest, since what is no name is text and could say anything.
    """
    word = str(text)
    if not word or _NAME.fullmatch(word):
        return word or "-"
    digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).hexdigest()
    return f"(text of {len(word)} characters, sha256 {digest[:12]}, not quoted)"


def quoted(text: object, limit: int = 60) -> str:
    """A sentence that may hold words from outside, inert, short and without secrets."""
    return safe(scrub(str(text)), limit)


def shown(text: str, limit: int = MOST_LINE) -> str:
    """One line without a character that does not show, cut at `limit`."""
    indent = " " * min(4, len(text) - len(text.lstrip(" ")))
    line = indent + " ".join(text.split())
    line = "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Cn"))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def joined(words: Sequence[str], empty: str = "none") -> str:
    """The words with commas, or `empty`."""
    return ", ".join(words) if words else empty
