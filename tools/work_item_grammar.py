"""Checks a file under work/ against the organisation's grammar: fields, sections, enumerations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from loop4.domain import Severity
from loop4.tools.postmortems import POLICIES, SIGNAL_CATEGORIES
from loop4.tools.signals import CATEGORIES, LEVELS, URGENCIES
from loop4.tools.templates import headings, key_of

SIGNAL_SECTIONS = (
    "Source",
    "Observation",
    "Initial Assessment",
    "Related Signals",
    "Recommended Disposition",
    "Notes",
)
POSTMORTEM_SECTIONS = (
    "Incident Summary",
    "Timeline",
    "Impact",
    "Detection",
    "Root Cause Analysis",
    "Remediation",
    "Policy Gap Analysis",
    "Follow-Up",
    "Signals Filed",
    "Lessons",
    "Approval",
)

_DAY = r"\d{4}-\d{2}-\d{2}"
_MOMENT = rf"{_DAY} \d{{2}}:\d{{2}} UTC"
_SIGNAL_PATH = re.compile(rf"work/signals/{_DAY}-[a-z0-9-]+\.md")
_POSTMORTEM_PATH = re.compile(rf"work/retrospectives/{_DAY}-[a-z0-9-]+\.md")
_PLACEHOLDER = re.compile(r"\{\{[^}]*\}\}|\[(?:short|incident|list|describe|link|answer)\b[^\]]*\]")


def field(text: str, key: str) -> str:
    """The value of the first `**Key:** value`, without surrounding space; empty if absent."""
    found = re.search(rf"\*\*{re.escape(key)}:\*\*\s*([^|\n]+)", text)
    return found.group(1).strip() if found else ""


def section(text: str, heading: str) -> str:
    """The lines below the `##` heading of that name (or an alias of it), up to the next one."""
    wanted = key_of(heading)
    parts = re.split(r"^## +(.+?) *$", text, flags=re.MULTILINE)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if key_of(name) == wanted:
            return body.strip()
    return ""


def rows(table: str) -> tuple[tuple[str, ...], ...]:
    """The cells of a Markdown table's rows, head and rule left out."""
    lines = [line.strip() for line in table.splitlines() if line.strip().startswith("|")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return tuple(row for row in cells[1:] if not all(set(cell) <= set("-: ") for cell in row))


def signal_problems(path: str, text: str) -> tuple[str, ...]:
    """What is wrong with a signal file; empty if it keeps the grammar."""
    problems = _common(text, SIGNAL_SECTIONS, {"Created": _DAY, "Author": r".+"})
    if not _SIGNAL_PATH.fullmatch(path):
        problems.append(f"path {path!r}: expected work/signals/YYYY-MM-DD-<slug>.md")
    problems += _enumerations(
        text,
        {
            "Category": {*CATEGORIES.values(), "market", "internal", "competitive"},
            "Confidence": LEVELS,
            "Urgency": URGENCIES,
            "Potential impact": LEVELS,
        },
    )
    boxes = re.findall(r"^- \[( |x)\]", section(text, "Recommended Disposition"), re.MULTILINE)
    if boxes != [" "] * 4:
        problems.append("Recommended Disposition: expected four boxes, none ticked")
    return tuple(problems)


def postmortem_problems(path: str, text: str, *, people: Collection[str] = ()) -> tuple[str, ...]:
    """What is wrong with a postmortem file; empty if it keeps the grammar.

    `people` are names that must not appear: a postmortem is blameless.
    """
    problems = _common(
        text,
        POSTMORTEM_SECTIONS,
        {
            "Incident ID": r"INC-\d{4}-\d{3,}",
            "Severity": rf"({'|'.join(Severity)}) \([A-Za-z]+\)",
            "Status": "draft|reviewed|accepted",
            "Date of incident": _MOMENT,
            "Date of resolution": f"{_MOMENT}|unknown",
            "Author": r".+",
        },
    )
    if not _POSTMORTEM_PATH.fullmatch(path):
        problems.append(f"path {path!r}: expected work/retrospectives/YYYY-MM-DD-<name>.md")
    if not rows(section(text, "Timeline")):
        problems.append("Timeline: has no row")
    whys = re.findall(r"^\d\. \*\*Why", section(text, "Root Cause Analysis"), re.MULTILINE)
    if len(whys) != 5:
        problems.append(f"Root Cause Analysis: {len(whys)} whys, expected 5")
    gaps = {row[0]: row[1] for row in rows(section(text, "Policy Gap Analysis")) if len(row) > 1}
    if set(gaps) != set(POLICIES) or not set(gaps.values()) <= {"yes", "no"}:
        problems.append("Policy Gap Analysis: expected yes or no for " + ", ".join(POLICIES))
    signals = rows(section(text, "Signals Filed"))
    if not signals:
        problems.append("Signals Filed: expected at least one")
    for row in signals:
        if len(row) != 4 or row[2] not in SIGNAL_CATEGORIES:
            problems.append(f"Signals Filed: row {row!r} is not id, description, category, link")
    if len(re.findall(r"^- \[[ x]\]", section(text, "Approval"), re.MULTILINE)) != 4:
        problems.append("Approval: expected four boxes")
    problems += [f"names the person {name!r}" for name in people if name and name in text]
    return tuple(problems)


def _common(text: str, sections: Collection[str], fields: Mapping[str, str]) -> list[str]:
    problems: list[str] = []
    if text.startswith("---"):
        problems.append("begins with YAML front matter; expected block-quote fields")
    if not text.startswith("# "):
        problems.append("has no title")
    present = {key_of(heading) for heading in headings(text)}
    problems += [f"section {name!r} is missing" for name in sections if key_of(name) not in present]
    for key, pattern in fields.items():
        value = field(text, key)
        if not re.fullmatch(pattern, value):
            problems.append(f"field {key!r}: found {value!r}")
    unfilled = _PLACEHOLDER.search(text)
    if unfilled:
        problems.append(f"placeholder {unfilled.group(0)!r} is not filled in")
    return problems


def _enumerations(text: str, words: Mapping[str, Collection[str]]) -> list[str]:
    return [
        f"field {key!r}: found {field(text, key)!r}, expected one of {', '.join(sorted(allowed))}"
        for key, allowed in words.items()
        if field(text, key) not in allowed
    ]
