"""What is known of an incident, read from the ledger: the one source of pages, drafts and
postmortems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from loop4.domain import Finding, Incident, Json, SourceKind
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.ledger import approvals, evidence, intents
from loop4.ledger.evidence import EvidenceRecord
from loop4.tools.work_items import ActionTaken, IncidentFacts, TimelineEntry

UPDATES = ("oncall.page", "incidents.notify")  # each begins a new number of files


def findings_of(fleet: Fleet, state: RunState) -> tuple[Finding, ...]:
    """The run's findings, most confident first; one that a crash lost is left out."""
    bodies = [fleet.drafts.get(d) for d in state.get("findings", [])]
    return tuple(_finding(cast("Mapping[str, Json]", b)) for b in bodies if b is not None)


def _finding(body: Mapping[str, Json]) -> Finding:
    def words(key: str) -> tuple[str, ...]:
        return tuple(str(v) for v in cast("Sequence[Json]", body[key]))

    return Finding(
        agent=str(body["agent"]),
        kind=str(body["kind"]),
        claim=str(body["claim"]),
        subject=str(body["subject"]),
        evidence=words("evidence"),
        sources=tuple(SourceKind(w) for w in words("sources")),
        confidence_bp=cast("int", body["confidence_bp"]),
        counter_evidence=words("counter_evidence"),
        missing=words("missing"),
        service=str(body["service"]),
    )


def cause_of(findings: Sequence[Finding]) -> str:
    """The cause in one word and name, e.g. `guilty_change:orders`; `none` without an
    explanation.
    """
    best = leading(findings)
    if best is None or best.kind in ("no_guilty_change", "unknown"):
        return "none"
    name = best.service if best.kind == "guilty_change" else best.subject
    return f"{best.kind}:{name}"


def leading(findings: Sequence[Finding]) -> Finding | None:
    """The incident agent's best explanation, or None."""
    return next((f for f in findings if f.agent == "incident"), None)


def incident_facts(
    fleet: Fleet,
    incident: Incident,
    state: RunState,
    *,
    summary: str,
    told: str,
    proposed: Sequence[ActionTaken] = (),
) -> IncidentFacts:
    """The facts of this moment. `told` is the state's word for readers (investigating, resolved),
    `proposed` the acts that the gate will judge next. Hypotheses are the incident agent's; what the
    targets read stands among the breached targets.
    """
    findings = tuple(f for f in findings_of(fleet, state) if f.agent == "incident")
    rule = fleet.severity.rule(incident.severity)
    with fleet.ledger.read() as tx:
        acts = intents.list_all(tx, incident_id=incident.incident_id)
        waiting = [r for r in approvals.pending(tx) if r.incident_id == incident.incident_id]
        records = evidence.list_records(tx, incident.incident_id, kinds=("triage", "missing"))
    triaged = next((r.body for r in records if r.kind == "triage"), {})
    missing = [
        str(m)
        for r in records
        if r.kind == "missing"
        for m in cast("Sequence[Json]", r.body["missing"])
    ]
    targets = cast("Sequence[Mapping[str, Json]]", triaged.get("targets", []))
    impact = triaged.get("customer_impact_bp")
    return IncidentFacts(
        incident_id=incident.incident_id,
        update=1 + sum(a.tool in UPDATES for a in acts),
        severity=incident.severity,
        severity_name=rule.name,
        state=told,
        service=incident.service,
        environment=incident.environment,
        services=(incident.service,),
        detected_ms=incident.detected_ms,
        now_ms=fleet.clock.now_ms(),
        summary=summary,
        impact_bp=impact if isinstance(impact, int) else None,
        targets_breached=tuple(str(t["target"]) for t in targets if t["reading"] == "fail"),
        findings=findings,
        taken=tuple(
            ActionTaken(
                a.tool,
                a.target,
                a.state.value,
                a.settled_ms,
                a.detail,
                "on-call" if a.approval_id else "",
            )
            for a in acts
            if "path" not in a.arguments
        ),
        pending=(
            *(
                ActionTaken(
                    str(_first_request(r.payload).get("name", "")),
                    str(_extra(r.payload).get("target", "")),
                    f"pending approval by {r.approval.role}",
                )
                for r in waiting
            ),
            *proposed,
        ),
        missing=tuple(missing),
        links=(("evidence", f"loop4 evidence show --incident {incident.incident_id}"),),
    )


def _first_request(payload: Mapping[str, Json]) -> Mapping[str, Json]:
    requests = cast("Sequence[Mapping[str, Json]]", payload.get("action_requests") or [{}])
    return requests[0]


def _extra(payload: Mapping[str, Json]) -> Mapping[str, Json]:
    return cast("Mapping[str, Json]", payload.get("loop4") or {})


def timeline(fleet: Fleet, incident: Incident) -> tuple[TimelineEntry, ...]:
    """The incident told from the ledger's records, never from memory."""
    with fleet.ledger.read() as tx:
        records = evidence.list_records(tx, incident.incident_id)
    entries = [TimelineEntry(incident.detected_ms, "detected")]
    for record in records:
        sentence = _sentence(record)
        if sentence:
            entries.append(TimelineEntry(record.at_ms, sentence))
    return tuple(entries)


def _sentence(record: EvidenceRecord) -> str:
    body = record.body
    match record.kind:
        case "triage":
            return f"classified {body['severity']}: {body['reason']}"
        case "finding":
            return f"{body['agent']}: {body['claim']}" if body["agent"] == "incident" else ""
        case "decision":
            rules = ", ".join(str(r) for r in cast("Sequence[Json]", body["rules"]))
            return f"gate: {body['tool']} on {body['target']}: {body['effect']} ({rules})"
        case "vote":
            word = "approved" if body.get("approve") else "rejected"
            return f"{body.get('person')} {word} request {body.get('approval_id')}"
        case "outcome":
            return f"{body['tool']} on {body['target']}: {body['state']}, {body['detail']}"
        case "verification":
            return f"verification: {body['reading']}"
        case "note":
            return f"{body['person']} asked to look at {body['look_at']}"
        case "severity_raised":
            return f"severity raised from {body['from']} to {body['to']}"
        case _:
            return ""
