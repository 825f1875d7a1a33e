"""Answers about incidents, read from the ledger: which, since when, why, what was done, what
waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from loop4.domain import Incident, Json
from loop4.graphs.conversation.intents import Slots
from loop4.graphs.conversation.judgement import open_incident
from loop4.graphs.conversation.on_services import Looking, service
from loop4.graphs.conversation.sheet import AnswerKind, joined, named, quoted, shown
from loop4.ledger import approvals, evidence, incidents, intents, runs
from loop4.ledger.approvals import Request
from loop4.ledger.evidence import EvidenceRecord
from loop4.ledger.intents import Intent as Act
from loop4.tools.work_items import clock_of, percent, span_of, utc

MOST_CLOSED = 3
MOST_HYPOTHESES = 3
_STATES = {
    "open": "open",
    "mitigating": "being mitigated",
    "monitoring": "mitigated, being watched",
    "escalated": "handed to people",
    "resolved": "resolved",
}


def overview(look: Looking, slots: Slots) -> str:
    """The incidents, or the one that is named. Returns the id of the first one told, or ""."""
    known = _known(look)
    if slots.incident:
        told = [i for i in known if i.incident_id == slots.incident]
    elif slots.service:
        fleet = look.lookout.fleet()
        first = open_incident(fleet, slots.service)
        told = [first] if first else [i for i in known if i.service == slots.service][:1]
        if first is None:
            look.sheet.line(f"no incident is open that concerns {slots.service}", _ledger(look))
    else:
        opened = [i for i in known if i.state != "resolved"]
        told = opened or known[:MOST_CLOSED]
        if not opened:
            look.sheet.line("no incident is open", _ledger(look))
            if told:
                look.sheet.line("the latest that were closed:")
    look.sheet.body["incidents"] = [_tell(look, i) for i in told]
    return told[0].incident_id if told else ""


def since(look: Looking, slots: Slots, remembered: str) -> str:
    """Since when the incident in question lasts."""
    incident = chosen(look, slots, remembered)
    if incident is None:
        return ""
    end_ms = incident.resolved_ms or look.now_ms
    word = "lasted" if incident.resolved_ms else "has lasted"
    look.sheet.line(
        f"{incident.incident_id} ({incident.service}): since {_moment(incident.detected_ms)}; it "
        f"{word} {span_of(incident.detected_ms, end_ms)}",
        f"incident {incident.incident_id}",
    )
    if incident.mitigated_ms:
        look.sheet.line(f"mitigated at {_moment(incident.mitigated_ms)}")
    for record in _records(look, incident, "triage")[:1]:
        look.sheet.line(
            f"first classified {quoted(record.body['severity'])}: "
            f"{quoted(record.body['reason'], 200)}",
            f"evidence #{record.seq}",
        )
    look.sheet.body["incident"] = incident.incident_id
    look.sheet.body["detected_ms"] = incident.detected_ms
    return incident.incident_id


async def cause(look: Looking, slots: Slots, remembered: str) -> str:
    """The hypotheses on record, most confident first, with what speaks for and against them."""
    incident = chosen(look, slots, remembered)
    if incident is None:
        if slots.service and look.sheet.kind is AnswerKind.ANSWERED:
            await service(look, slots)
        return ""
    found = [r for r in _records(look, incident, "finding") if r.body["agent"] == "incident"]
    best = _distinct(found)
    if not best:
        look.sheet.no_data(f"no agent has explained {incident.incident_id} yet")
    for place, record in enumerate(best[:MOST_HYPOTHESES], start=1):
        body = record.body
        look.sheet.line(
            f"{place}. {quoted(body['claim'], 260)} "
            f"(confidence {percent(cast('int', body['confidence_bp']))}, from "
            f"{joined(_words(body['sources']))})",
            f"evidence #{record.seq}",
            *_words(body["evidence"]),
        )
        for against in _words(body["counter_evidence"])[:2]:
            look.sheet.line(f"   against it: {quoted(against, 200)}")
    for gap in [m for r in _records(look, incident, "missing") for m in _words(r.body["missing"])]:
        look.sheet.line(f"missing: {quoted(gap, 200)}")
    look.sheet.body["incident"] = incident.incident_id
    look.sheet.body["findings"] = [
        {k: v for k, v in r.body.items() if k != "finding"} for r in best[:MOST_HYPOTHESES]
    ]
    return incident.incident_id


def done(look: Looking, slots: Slots, remembered: str) -> str:
    """What was done in the incident in question: acts with their outcome, and what was written."""
    incident = chosen(look, slots, remembered)
    if incident is None:
        return ""
    with look.lookout.fleet().ledger.read() as tx:
        acts = intents.list_all(tx, incident_id=incident.incident_id)
    writes = [a for a in acts if "path" not in a.arguments]
    if not writes:
        look.sheet.line(
            f"{incident.incident_id}: nothing was changed so far",
            f"incident {incident.incident_id}",
        )
    for act in writes:
        look.sheet.line(act_sentence(act, look.now_ms), *act_cites(look, act))
    for act in acts:
        if "path" in act.arguments:
            look.sheet.line(
                f"{clock_of(act.intended_ms, look.now_ms)} {act.tool}: {act.state.value}",
                f"file {named(act.arguments['path'])}",
            )
    look.sheet.body["incident"] = incident.incident_id
    look.sheet.body["acts"] = [
        {"tool": a.tool, "target": a.target, "state": a.state.value, "action": a.action_id}
        for a in acts
    ]
    return incident.incident_id


def pending(look: Looking) -> str:
    """What waits for people, and what the fleet waits for. Returns the first incident of them."""
    with look.lookout.fleet().ledger.read() as tx:
        waiting = approvals.pending(tx)
        opened = runs.list_open(tx)
    for request in waiting:
        _tell_request(look, request)
    for run in opened:
        if run.state is runs.RunState.SLEEPING:
            look.sheet.line(
                f"{run.incident_id}: the run looks again at {_moment(run.wake_at_ms)}",
                f"run {run.run_id}",
            )
        elif run.state is runs.RunState.RUNNING:
            look.sheet.line(f"{run.incident_id}: the run is at work", f"run {run.run_id}")
    if not waiting:
        look.sheet.line("nothing waits for a person", _ledger(look))
    look.sheet.body["pending"] = [_request_body(r) for r in waiting]
    first = next((r.incident_id for r in waiting), "")
    return first or next((r.incident_id for r in opened), "")


def chosen(look: Looking, slots: Slots, remembered: str) -> Incident | None:
    """The incident that a question means: named, of the service, remembered, or the only open one.

    Says so on the sheet when there is none.
    """
    known = _known(look)
    if slots.incident or (remembered and not slots.service):
        wanted = slots.incident or remembered
        return next((i for i in known if i.incident_id == wanted), None)
    if slots.service:
        found = open_incident(look.lookout.fleet(), slots.service) or next(
            (i for i in known if i.service == slots.service), None
        )
        if found is None:
            look.sheet.line(
                f"no incident is on record that concerns {slots.service}", _ledger(look)
            )
        return found
    opened = [i for i in known if i.state != "resolved"]
    if not opened and not known:
        look.sheet.line("no incident is on record", _ledger(look))
        return None
    if len(opened) > 1:
        look.sheet.line(f"of {len(opened)} open incidents this is about the newest")
    return opened[0] if opened else known[0]


def act_sentence(act: Act, day_ms: int) -> str:
    """An act with its outcome and what telemetry said of it."""
    proof = f"; telemetry afterwards: {act.verified.value}" if act.verified else ""
    asked = f", with approval {named(act.approval_id)}" if act.approval_id else ""
    detail = f" ({quoted(act.detail, 160)})" if act.detail else ""
    return (
        f"{clock_of(act.intended_ms, day_ms)} {act.tool} on {named(act.target)}: "
        f"{act.state.value}{detail}{asked}{proof}"
    )


def act_cites(look: Looking, act: Act) -> tuple[str, ...]:
    """The chain's records of one act."""
    with look.lookout.fleet().ledger.read() as tx:
        rows = evidence.list_records(
            tx, act.incident_id, kinds=("decision", "outcome", "not_done", "reconciled")
        )
    return tuple(f"evidence #{r.seq}" for r in rows if r.action_id == act.action_id)


def _tell(look: Looking, incident: Incident) -> dict[str, Json]:
    ended = incident.state == "resolved"
    lasted = span_of(incident.detected_ms, incident.resolved_ms if ended else look.now_ms)
    look.sheet.line(
        f"{incident.incident_id}: {incident.severity.value}, {incident.service} "
        f"({incident.environment}), {_STATES.get(incident.state, incident.state)}; since "
        f"{_moment(incident.detected_ms)}, {'took' if ended else 'for'} {lasted}",
        f"incident {incident.incident_id}",
    )
    triaged = _records(look, incident, "triage")
    breached: list[str] = []
    if triaged:
        last = triaged[-1]
        targets = cast("Sequence[Mapping[str, Json]]", last.body.get("targets", []))
        breached = [named(t["target"]) for t in targets if t["reading"] == "fail"]
        impact = last.body.get("customer_impact_bp")
        share = percent(impact) if isinstance(impact, int) else "an unknown share"
        look.sheet.line(
            f"  when it was classified: {share} of edge requests felt it; targets missed: "
            f"{joined(breached)}",
            f"evidence #{last.seq}",
        )
    found = [r for r in _records(look, incident, "finding") if r.body["agent"] == "incident"]
    for record in _distinct(found)[:1]:
        look.sheet.line(
            f"  probable cause: {quoted(record.body['claim'], 260)}", f"evidence #{record.seq}"
        )
    with look.lookout.fleet().ledger.read() as tx:
        acts = intents.list_all(tx, incident_id=incident.incident_id)
        waiting = [r for r in approvals.pending(tx) if r.incident_id == incident.incident_id]
    for act in acts:
        if "path" not in act.arguments:
            look.sheet.line(f"  done: {act_sentence(act, look.now_ms)}", *act_cites(look, act))
    for request in waiting:
        _tell_request(look, request, indent="  ")
    return {
        "incident": incident.incident_id,
        "severity": incident.severity.value,
        "service": incident.service,
        "state": incident.state,
        "detected_ms": incident.detected_ms,
        "resolved_ms": incident.resolved_ms,
        "cause": quoted(incident.cause) if incident.cause else "",
        "targets_missed": list(breached),
        "pending": [_request_body(r) for r in waiting],
    }


def _tell_request(look: Looking, request: Request, *, indent: str = "") -> None:
    approval, body = request.approval, _request_body(request)
    left = max(0, approval.expires_ms - look.now_ms)
    people = [p for p in look.lookout.people_of(approval.role) if p != approval.requester]
    look.sheet.line(
        f"{indent}waits for {approval.need} vote of role {approval.role} "
        f"({joined(people, 'nobody holds it')}), {left // 1000} s left: {body['tool']} on "
        f"{body['target']} {body['arguments']}",
        f"approval {approval.approval_id}",
        *([f"incident {request.incident_id}"] if request.incident_id else []),
    )
    for reason in _words(cast("Mapping[str, Json]", request.payload["loop4"])["reasons"]):
        look.sheet.line(f"{indent}  because {shown(str(reason), 240)}")


def _request_body(request: Request) -> dict[str, Json]:
    asked = cast("Sequence[Mapping[str, Json]]", request.payload["action_requests"])[0]
    extra = cast("Mapping[str, Json]", request.payload["loop4"])
    arguments = cast("Mapping[str, Json]", asked.get("args", {}))
    given = ", ".join(f"{k}: {named(v)}" for k, v in sorted(arguments.items()) if k != "text")
    return {
        "approval": request.approval.approval_id,
        "incident": request.incident_id,
        "tool": named(asked["name"]),
        "target": named(extra["target"]),
        "arguments": "{" + given + "}",
        "role": request.approval.role,
        "requester": named(request.approval.requester),
        "expires_ms": request.approval.expires_ms,
        "rules": list(_words(extra["rules"])),
    }


def _known(look: Looking) -> list[Incident]:
    """Incidents of the system, newest first; people's requests are runs of their own, not told."""
    with look.lookout.fleet().ledger.read() as tx:
        known = incidents.list_all(tx)
    real = [i for i in known if not i.correlation.startswith("request/")]
    return sorted(real, key=lambda i: (-i.detected_ms, i.incident_id))


def _records(look: Looking, incident: Incident, kind: str) -> tuple[EvidenceRecord, ...]:
    with look.lookout.fleet().ledger.read() as tx:
        return evidence.list_records(tx, incident.incident_id, kinds=(kind,))


def _distinct(found: Sequence[EvidenceRecord]) -> list[EvidenceRecord]:
    """The newest record of each claim about a subject, most confident first."""
    newest = {(str(r.body["kind"]), str(r.body["subject"])): r for r in found}
    return sorted(newest.values(), key=lambda r: (-cast("int", r.body["confidence_bp"]), r.seq))


def _words(value: Json) -> tuple[str, ...]:
    return tuple(quoted(v, 200) for v in cast("Sequence[Json]", value or ()))


def _moment(at_ms: int) -> str:
    return f"{utc(at_ms).removesuffix(' UTC')}:{at_ms // 1000 % 60:02d} UTC" if at_ms else "unknown"


def _ledger(look: Looking) -> str:
    return "ledger" if look.lookout.has_ledger else "no ledger in the data folder yet"
