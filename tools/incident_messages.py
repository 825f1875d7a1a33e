"""Messages of an open incident: the page, the context package, the draft for customers."""

from __future__ import annotations

from loop4.domain import Finding
from loop4.tools.work_items import (
    ActionTaken,
    IncidentFacts,
    Rendered,
    clock_of,
    external,
    percent,
    safe,
    utc,
)

PAGE_CHARACTERS = 900
PAGE_LINES = 14
HYPOTHESES = 3


def render_page(facts: IncidentFacts, *, to: str, context_path: str = "") -> Rendered:
    """The page that wakes `to` (a role): one screen of a phone, the asked-for decision first."""
    asked = [_action(action) for action in facts.pending[:1]]
    best = max(facts.findings, key=lambda finding: finding.confidence_bp, default=None)
    lines = [
        f"{facts.severity.value} ({safe(facts.severity_name, 20)}) {safe(facts.incident_id, 20)} "
        f"{safe(facts.service, 40)}, {safe(facts.environment, 20)}: {safe(facts.state, 20)}",
        "",
        f"> **To:** {safe(to, 60)}  ",
        f"> **Since:** {utc(facts.detected_ms)}",
        "",
        safe(facts.summary, 160),
        f"Impact: {percent(facts.impact_bp)} of edge requests",
        f"Probable cause: {_cause(best)}",
        f"Waiting for you: {safe(asked[0], 120) if asked else 'no decision'}",
    ]
    if best is not None and best.counter_evidence:
        lines.append(f"Against: {safe(best.counter_evidence[0], 110)}")
    if context_path:
        lines.append(f"More: {safe(context_path, 120)}")
    return Rendered(_path(facts, "page"), "\n".join([*lines, ""]))


def render_context(facts: IncidentFacts) -> Rendered:
    """The context package for the person who takes over: what, since when, how wide, why, what was
    done, what is pending, and what is missing. One page.
    """
    ranked = sorted(facts.findings, key=lambda finding: -finding.confidence_bp)[:HYPOTHESES]
    lines = [
        f"# {safe(facts.incident_id)}: {safe(facts.service)}, {safe(facts.state)}",
        "",
        f"> **Incident ID:** {safe(facts.incident_id)}  ",
        f"> **Severity:** {facts.severity.value} ({safe(facts.severity_name, 40)})  ",
        f"> **Since:** {utc(facts.detected_ms)}  ",
        f"> **As of:** {utc(facts.now_ms)}",
        "",
        "## What",
        "",
        safe(facts.summary, 600),
        *(line for quote in facts.external[:2] for line in ("", external(quote))),
        "",
        "## Blast Radius",
        "",
        f"- **Services:** {safe(', '.join(facts.services), 200)}",
        f"- **Edge requests failed or too slow:** {percent(facts.impact_bp)}",
        f"- **Targets breached:** {safe(', '.join(facts.targets_breached) or 'none', 300)}",
        "",
        "## Hypotheses",
        "",
        *(
            line
            for number, finding in enumerate(ranked, 1)
            for line in _hypothesis(number, finding)
        ),
        *([] if ranked else ["None yet."]),
        *(f"- Missing: {safe(what, 200)}" for what in facts.missing),
        "",
        "## Actions Taken",
        "",
        *(f"- {clock_of(a.at_ms, facts.detected_ms)} {_action(a)}" for a in facts.taken),
        *([] if facts.taken else ["None."]),
        "",
        "## Actions Pending",
        "",
        *(f"- {_action(action)}" for action in facts.pending),
        *([] if facts.pending else ["None."]),
        "",
        "## Links",
        "",
        *(f"- {safe(label, 60)}: {safe(target, 200)}" for label, target in facts.links),
        *([] if facts.links else ["None."]),
        "",
    ]
    return Rendered(_path(facts, "context"), "\n".join(lines))


def render_notification(facts: IncidentFacts, *, to: str) -> Rendered:
    """The note that an incident changed state, for a role that need not be woken."""
    lines = [
        f"# {safe(facts.incident_id)}: {safe(facts.state)}",
        "",
        f"> **To:** {safe(to, 80)}  ",
        f"> **Severity:** {facts.severity.value} ({safe(facts.severity_name, 40)})  ",
        f"> **As of:** {utc(facts.now_ms)}",
        "",
        safe(facts.summary, 600),
        "",
        f"Impact: {percent(facts.impact_bp)} of edge requests failed or were too slow.",
        "",
        *(f"- {_action(action)}" for action in (*facts.taken, *facts.pending)),
        "",
    ]
    return Rendered(_path(facts, "notification"), "\n".join(lines))


def render_customer_update(facts: IncidentFacts, *, product: str) -> Rendered:
    """A draft for customers, for a person to read and send. No internal name, cause or promise.

    `product` is the public name of what they use.
    """
    over = facts.state == "resolved"
    when = utc(facts.detected_ms)
    share = percent(facts.impact_bp)
    measured = facts.impact_bp is not None and facts.impact_bp > 0
    body = [
        f"Between {when} and {utc(facts.now_ms)}, some requests to {safe(product, 60)} failed or "
        "took too long. Requests are served normally again, and we have confirmed this by "
        "measurement."
        if over
        else f"Since {when}, some requests to {safe(product, 60)} fail or take too long. We are "
        "working on it and will write again when something changes.",
    ]
    if measured and not over:
        body.append(f"At the moment this concerns about {share} of requests.")
    body.append("We are sorry for the disruption.")
    lines = [
        f"# Customer update, draft {facts.update}",
        "",
        f"> **Incident ID:** {safe(facts.incident_id)}  ",
        "> **Status:** draft, to be read and sent by a person  ",
        f"> **Prepared:** {utc(facts.now_ms)}",
        "",
        "## Message",
        "",
        *(line for paragraph in body for line in (paragraph, "")),
    ]
    return Rendered(_path(facts, "customer-update"), "\n".join(lines))


def _path(facts: IncidentFacts, what: str) -> str:
    return f"work/incidents/{facts.incident_id}/{what}-{facts.update:02d}.md"


def _cause(finding: Finding | None) -> str:
    if finding is None:
        return "unknown"
    return f"{safe(finding.claim, 140)} ({percent(finding.confidence_bp)} sure)"


def _action(action: ActionTaken) -> str:
    who = f", approved by {safe(action.approved_by, 60)}" if action.approved_by else ""
    detail = f": {safe(action.detail, 160)}" if action.detail else ""
    what = f"{safe(action.tool, 60)} on {safe(action.target, 60)}, {safe(action.state, 40)}"
    return what + who + detail


def _hypothesis(number: int, finding: Finding) -> list[str]:
    ids = ", ".join(safe(evidence, 80) for evidence in finding.evidence[:4])
    return [
        f"{number}. {safe(finding.claim, 300)} ({percent(finding.confidence_bp)} sure)",
        f"   - evidence: {ids or 'none'}",
        *(f"   - against: {safe(counter, 200)}" for counter in finding.counter_evidence[:2]),
    ]
