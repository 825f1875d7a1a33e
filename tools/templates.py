"""The organisation's templates: the order and the names of the sections of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TEMPLATE_PATHS = {
    "postmortem": "work/retrospectives/_TEMPLATE-postmortem.md",
    "signal": "work/signals/_TEMPLATE-signal.md",
}

# our name of a section -> other names that templates give it
ALIASES = {
    "Follow-Up": ("follow up items", "follow up actions"),
    "Signals Filed": ("generated signals",),
    "Lessons": ("lessons learned",),
    "Root Cause Analysis": ("root cause",),
    "Policy Gap Analysis": ("policy gaps",),
}

_HEADING = re.compile(r"^## +(.+?) *#*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LEFT_OUT = ("changelog", "change log")  # a template's own history, not the instance's
_MAX_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Section:
    """One `##` section: its heading in our words, and its lines."""

    heading: str
    lines: Sequence[str]


def read_template(operations: Path, name: str) -> str:
    """The template's text, or empty if the organisation has none (or it cannot be read).

    `name` is a key of TEMPLATE_PATHS. Our own order of sections holds where there is none.
    """
    try:
        text = (operations / TEMPLATE_PATHS[name]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return text[:_MAX_CHARACTERS]


def headings(text: str) -> tuple[str, ...]:
    """The `##` headings of a Markdown text, in order, those in fenced blocks left out."""
    return tuple(found.strip() for found in _HEADING.findall(_FENCE.sub("", text)))


def arrange(sections: Sequence[Section], template: str) -> list[str]:
    """The sections as lines, in the template's order and under its headings.

    Sections that the template does not know come last, in our order; sections of the template that
    the fleet cannot fill stay, and say so.
    """
    left = {key_of(section.heading): section for section in sections}
    ordered: list[Section] = []
    for heading in headings(template):
        key = key_of(heading)
        if key in _LEFT_OUT:
            continue
        section = left.pop(key, None)
        if section is not None:
            ordered.append(Section(heading, section.lines))
        elif all(key != key_of(done.heading) for done in ordered):
            ordered.append(Section(heading, ["Not filled in by the fleet."]))
    lines: list[str] = []
    for section in (*ordered, *left.values()):
        lines += [f"## {section.heading}", "", *section.lines, ""]
    return lines


def key_of(heading: str) -> str:
    """A heading without case, numbers, marks and remarks in brackets, in our own word for it."""
    bare = re.sub(r"\([^)]*\)", " ", heading.lower())
    bare = " ".join(re.sub(r"[^a-z ]", " ", bare).split())
    for ours, others in ALIASES.items():
        if bare in others:
            return " ".join(re.sub(r"[^a-z ]", " ", ours.lower()).split())
    return bare
