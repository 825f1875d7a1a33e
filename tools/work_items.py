"""What the fleet writes down: the facts that go into a file, and text made safe for it.

The renderers beside this file (signals, postmortems, messages of an incident) are pure: the same
facts give the same bytes. Facts come from the ledger and from computed findings. Free text from
outside never enters a file: it is named by digest and length, inside `<external-content>`.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import unicodedata
from dataclasses import dataclass, field

from loop4.domain import Finding, Severity

NOT_MEASURED = "not measured"
FOR_A_PERSON = "not assessed by the fleet; for the review to fill in"

_SCHEME = re.compile(r"\b(https?|ftp|file|data|javascript)(:)", re.IGNORECASE)
_UNSAFE = str.maketrans({"<": "&lt;", ">": "&gt;", "`": "'", "|": "/", "@": "(at)"})
_LEADING = re.compile(r"^([-#*+=~]+\s+|[#=~]+)+")  # would begin a heading, a list, a fence


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file to write: its path below the operations folder, and all of its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class ExternalText:
    """Free text from outside: a log line, an alert's annotation. `evidence` says where it is."""

    source: str
    text: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class ActionTaken:
    """One act of the incident. `state` is a word of the ledger: done, failed, pending approval, ...

    `approved_by` is a role, never a name; empty means that the rules allowed it.
    """

    tool: str
    target: str
    state: str
    at_ms: int = 0
    detail: str = ""
    approved_by: str = ""


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """What is known of an incident at one moment.

    `update` counts its messages from 1 and becomes part of their file names. `impact_bp` is the
    share of edge requests that failed or were too slow, None if nobody could measure it.
    `services` are those affected, the origin first.
    """

    incident_id: str
    update: int
    severity: Severity
    severity_name: str
    state: str
    service: str
    environment: str
    services: tuple[str, ...]
    detected_ms: int
    now_ms: int
    summary: str
    impact_bp: int | None = None
    targets_breached: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    taken: tuple[ActionTaken, ...] = ()
    pending: tuple[ActionTaken, ...] = ()
    missing: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    external: tuple[ExternalText, ...] = ()


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One row of the ledger, told in a sentence of ours."""

    at_ms: int
    event: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Something to do after the incident. `due` is YYYY-MM-DD; `horizon` week or month."""

    action: str
    owner: str
    due: str
    horizon: str = "week"


@dataclass(frozen=True, slots=True)
class FiledSignal:
    """A signal that the incident led to. `category`: technical, process, policy or architecture."""

    signal_id: str
    description: str
    category: str
    path: str


@dataclass(frozen=True, slots=True)
class PostmortemFacts:
    """What goes into a postmortem beside the incident itself. Times of 0 are unknown.

    `gaps` maps a policy (Security, Observability, Delivery, Architecture) to the gap that was
    found; a policy without a gap is left out. `runbook` is the path of the one that was used.
    `five_whys` are answers, outermost first; fewer than five are filled up as open.
    `budget_consumed_bp` is the share of the error budget that the incident used.
    """

    incident: IncidentFacts
    started_ms: int
    resolved_ms: int
    timeline: tuple[TimelineEntry, ...]
    root_cause: str
    five_whys: tuple[str, ...]
    signals: tuple[FiledSignal, ...]
    detected_by: str = "the fleet's own sweep of health targets"
    is_detection_adequate: bool = True
    detection_note: str = ""
    contributing: tuple[str, ...] = ()
    budget_consumed_bp: int | None = None
    runbook: str = ""
    is_runbook_adequate: bool = True
    gaps: dict[str, str] = field(default_factory=dict)
    follow_ups: tuple[FollowUp, ...] = ()
    went_well: tuple[str, ...] = ()
    to_improve: tuple[str, ...] = ()
    systemic: tuple[str, ...] = ()
    author: str = "Loop4 incident agent, with the on-call engineer"


def safe(text: str, limit: int = 400) -> str:
    """The text on one line, inert in Markdown and HTML, at most `limit` characters.

    Invisible and direction-changing characters go; links, mentions, bold keys, HTML and table bars
    are broken up; nothing at its start begins a heading or a list. Empty becomes "-".
    """
    visible = text if text.isascii() and text.isprintable() else _visible(text)
    line = " ".join(visible.split()).translate(_UNSAFE)
    line = _SCHEME.sub(r"\1[\2]", line.replace("](", "] (").replace("**", "*"))
    line = _LEADING.sub("", line)
    if len(line) > limit:
        line = line[: limit - 3].rstrip() + "..."
    return line or "-"


def _visible(text: str) -> str:
    return "".join(
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character
        for character in unicodedata.normalize("NFKC", text)
        if unicodedata.category(character) not in ("Cf", "Co", "Cs", "Cn")
    )


def external(item: ExternalText) -> str:
    """A reference to text from outside: digest, length and place, none of its characters."""
    digest = hashlib.sha256(item.text.encode("utf-8", "surrogatepass")).hexdigest()
    lines = item.text.count("\n") + 1
    where = f", kept as evidence {safe(item.evidence, 80)}" if item.evidence else ""
    return (
        "<external-content>\n"
        f"Text from {safe(item.source, 80)}, not quoted: {len(item.text)} characters in "
        f"{lines} lines, sha256 {digest}{where}.\n"
        "</external-content>"
    )


def utc(at_ms: int) -> str:
    """`YYYY-MM-DD HH:MM UTC`, or "unknown" for 0."""
    return f"{_time(at_ms):%Y-%m-%d %H:%M} UTC" if at_ms else "unknown"


def date_of(at_ms: int) -> str:
    """`YYYY-MM-DD`, in UTC."""
    return f"{_time(at_ms):%Y-%m-%d}"


def clock_of(at_ms: int, day_ms: int) -> str:
    """`HH:MM:SS`, with the date before it on another day than `day_ms`."""
    same = date_of(at_ms) == date_of(day_ms)
    return f"{_time(at_ms):%H:%M:%S}" if same else f"{_time(at_ms):%Y-%m-%d %H:%M:%S}"


def span_of(start_ms: int, end_ms: int) -> str:
    """A duration in words: "42 s", "12 min 5 s", "3 h 20 min"; "not measured" if an end is 0."""
    if not start_ms or not end_ms or end_ms < start_ms:
        return NOT_MEASURED
    seconds = (end_ms - start_ms) // 1000
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def percent(share_bp: int | None) -> str:
    """A share as "12.5 %", or "not measured"."""
    return NOT_MEASURED if share_bp is None else f"{share_bp / 100:.4g} %"


def bullets(items: tuple[str, ...], empty: str) -> list[str]:
    """A Markdown list of safe lines; one saying `empty` if there is nothing."""
    return [f"- {safe(item)}" for item in items] or [f"- {empty}"]


def _time(at_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
