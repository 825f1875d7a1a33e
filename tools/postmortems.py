"""Postmortem drafts: blameless, with a timeline from the ledger and at least one filed signal."""

from __future__ import annotations

from collections.abc import Sequence

from loop4.errors import InputError
from loop4.tools.templates import Section, arrange
from loop4.tools.work_items import (
    FOR_A_PERSON,
    NOT_MEASURED,
    FollowUp,
    PostmortemFacts,
    Rendered,
    bullets,
    clock_of,
    date_of,
    external,
    percent,
    safe,
    span_of,
    utc,
)

POLICIES = ("Security", "Observability", "Delivery", "Architecture")
SIGNAL_CATEGORIES = ("technical", "process", "policy", "architecture")
_OPEN = "not established by the evidence; for the review to answer"


def render_postmortem(facts: PostmortemFacts, template: str = "") -> Rendered:
    """The postmortem draft of an incident. `template` gives order and names of the sections.

    Raises InputError without a filed signal, without a timeline, or for an unknown policy or
    category: a postmortem like that is not one.
    """
    _check(facts)
    incident = facts.incident
    slug = f"{date_of(incident.detected_ms)}-{incident.incident_id.lower()}-{incident.service}"
    path = f"work/retrospectives/{slug}.md"
    head = [
        f"# Postmortem: {safe(incident.incident_id)}, {safe(incident.service)}",
        "",
        f"> **Incident ID:** {safe(incident.incident_id)}  ",
        f"> **Severity:** {incident.severity.value} ({safe(incident.severity_name, 40)})  ",
        "> **Status:** draft  ",
        f"> **Date of incident:** {utc(facts.started_ms or incident.detected_ms)}  ",
        f"> **Date of resolution:** {utc(facts.resolved_ms)}  ",
        f"> **Author:** {safe(facts.author, 80)}  ",
        f"> **Storage:** {path}",
        "",
        "---",
        "",
    ]
    sections = (
        Section("Incident Summary", _summary(facts)),
        Section("Timeline", _timeline(facts)),
        Section("Impact", _impact(facts)),
        Section("Detection", _detection(facts)),
        Section("Root Cause Analysis", _root_cause(facts)),
        Section("Remediation", _remediation(facts)),
        Section("Policy Gap Analysis", _gaps(facts)),
        Section("Follow-Up", _follow_up(facts)),
        Section("Signals Filed", _signals(facts)),
        Section("Lessons", _lessons(facts)),
        Section("Approval", _approval()),
        Section("Revision History", _history(facts)),
    )
    return Rendered(path, "\n".join([*head, *arrange(sections, template)]))


def _check(facts: PostmortemFacts) -> None:
    name = facts.incident.incident_id
    if not facts.signals:
        raise InputError(f"postmortem of {name!r}: names no filed signal; at least one is needed")
    if not facts.timeline:
        raise InputError(f"postmortem of {name!r}: has no timeline; pass the ledger's rows")
    for signal in facts.signals:
        if signal.category not in SIGNAL_CATEGORIES:
            raise InputError(
                f"postmortem of {name!r}: signal category {signal.category!r}, "
                f"expected one of {', '.join(SIGNAL_CATEGORIES)}"
            )
    for policy in facts.gaps:
        if policy not in POLICIES:
            raise InputError(
                f"postmortem of {name!r}: policy {policy!r}, expected one of {', '.join(POLICIES)}"
            )


def _summary(facts: PostmortemFacts) -> list[str]:
    lines = [safe(facts.incident.summary, 1500)]
    for quote in facts.incident.external:
        lines += ["", external(quote)]
    return lines


def _timeline(facts: PostmortemFacts) -> list[str]:
    day_ms = facts.incident.detected_ms
    rows = sorted(facts.timeline, key=lambda entry: entry.at_ms)
    return [
        "| Time (UTC) | Event |",
        "|---|---|",
        *(f"| {clock_of(row.at_ms, day_ms)} | {safe(row.event, 300)} |" for row in rows),
    ]


def _impact(facts: PostmortemFacts) -> list[str]:
    incident = facts.incident
    breached = ", ".join(incident.targets_breached) or "no target breached"
    return [
        "### Blast Radius",
        "",
        f"- **Services affected:** {safe(', '.join(incident.services))}",
        f"- **Customers affected:** {percent(incident.impact_bp)} of edge requests failed or were"
        " too slow (fast window)",
        f"- **Duration:** {span_of(facts.started_ms or incident.detected_ms, facts.resolved_ms)}",
        f"- **Service impact:** {safe(breached)}",
        f"- **Impact on service health targets:** {percent(facts.budget_consumed_bp)}"
        + ("" if facts.budget_consumed_bp is None else " of the error budget consumed"),
        "",
        "### Business Impact",
        "",
        f"- **Revenue impact:** {FOR_A_PERSON}",
        f"- **Customer trust impact:** {FOR_A_PERSON}",
        f"- **Data impact:** {FOR_A_PERSON}",
    ]


def _detection(facts: PostmortemFacts) -> list[str]:
    adequate = "yes" if facts.is_detection_adequate else "no"
    note = f", {safe(facts.detection_note)}" if facts.detection_note else ""
    return [
        f"- **How was it detected?** {safe(facts.detected_by)}",
        f"- **Time to detect (TTD):** {span_of(facts.started_ms, facts.incident.detected_ms)}",
        f"- **Was the detection method adequate?** {adequate}{note}",
    ]


def _root_cause(facts: PostmortemFacts) -> list[str]:
    whys = [safe(why) for why in facts.five_whys[:5]]
    whys += [_OPEN] * (5 - len(whys))
    lines = ["### Root Cause", "", safe(facts.root_cause, 1000), "", "### 5 Whys", ""]
    lines += [f"{number}. **Why?** {why}" for number, why in enumerate(whys, 1)]
    lines += ["", "### Evidence", ""]
    for finding in facts.incident.findings:
        ids = ", ".join(safe(evidence, 80) for evidence in finding.evidence)
        lines.append(f"- {safe(finding.claim)} (evidence: {ids or 'none'})")
        lines += [f"  - against: {safe(counter)}" for counter in finding.counter_evidence]
    if not facts.incident.findings:
        lines.append("- no finding")
    lines += [f"- missing: {safe(what)}" for what in facts.incident.missing]
    lines += ["", "### Contributing Factors", ""]
    return lines + bullets(facts.contributing, _OPEN)


def _remediation(facts: PostmortemFacts) -> list[str]:
    lines = ["### Immediate Actions Taken", ""]
    for action in facts.incident.taken:
        who = (
            f"approved by {safe(action.approved_by, 60)}"
            if action.approved_by
            else "allowed by rule"
        )
        detail = f": {safe(action.detail)}" if action.detail else ""
        lines.append(
            f"- {safe(action.tool)} on {safe(action.target)}, {safe(action.state)}, {who}{detail}"
        )
    if not facts.incident.taken:
        lines.append("- none")
    used, adequate = bool(facts.runbook), "yes" if facts.is_runbook_adequate else "no"
    lines += ["", "### Was a Runbook Used?", ""]
    if used:
        lines.append(f"- [x] **Yes:** {safe(facts.runbook)}. Adequate: {adequate}")
    else:
        lines.append("- [x] **No:** no runbook covers this")
    return lines


def _gaps(facts: PostmortemFacts) -> list[str]:
    lines = ["| Policy | Gap Identified? | Description |", "|---|---|---|"]
    for policy in POLICIES:
        gap = facts.gaps.get(policy, "")
        lines.append(f"| {policy} | {'yes' if gap else 'no'} | {safe(gap) if gap else '-'} |")
    return lines


def _follow_up(facts: PostmortemFacts) -> list[str]:
    week = [item for item in facts.follow_ups if item.horizon == "week"]
    month = [item for item in facts.follow_ups if item.horizon != "week"]
    return [
        "### This Week",
        "",
        *_items(week),
        "",
        "### This Month",
        "",
        *_items(month),
        "",
        "### Long-Term",
        "",
        "| Action | Signal Filed? | Link |",
        "|---|---|---|",
        *(f"| {safe(s.description, 200)} | yes | {safe(s.path, 200)} |" for s in facts.signals),
    ]


def _items(items: Sequence[FollowUp]) -> list[str]:
    rows = [
        f"| {safe(item.action, 200)} | {safe(item.owner, 80)} | {safe(item.due, 20)} | open |"
        for item in items
    ]
    return [
        "| Action | Owner | Due Date | Status |",
        "|---|---|---|---|",
        *(rows or ["| none | - | - | - |"]),
    ]


def _signals(facts: PostmortemFacts) -> list[str]:
    return [
        "| ID | Description | Category | Link |",
        "|---|---|---|---|",
        *(
            f"| {safe(s.signal_id, 120)} | {safe(s.description, 200)} | {s.category} |"
            f" {safe(s.path, 200)} |"
            for s in facts.signals
        ),
    ]


def _lessons(facts: PostmortemFacts) -> list[str]:
    return [
        "### What went well",
        "",
        *bullets(facts.went_well, NOT_MEASURED),
        "",
        "### What could be improved",
        "",
        *bullets(facts.to_improve, FOR_A_PERSON),
        "",
        "### Systemic observations",
        "",
        *bullets(facts.systemic, FOR_A_PERSON),
    ]


def _approval() -> list[str]:
    return [
        "- [ ] On-call engineer reviewed and validated the timeline",
        "- [ ] Operations Policy Author reviewed the policy gap analysis",
        "- [ ] All follow-up items are assigned and tracked",
        "- [ ] Improvement signals are filed in work/signals/",
    ]


def _history(facts: PostmortemFacts) -> list[str]:
    day = date_of(facts.incident.now_ms)
    return [
        "| Rev | Date | Author | Summary |",
        "|---|---|---|---|",
        f"| 1 | {day} | {safe(facts.author, 80)} | Draft from the ledger |",
    ]
