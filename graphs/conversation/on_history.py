"""Answers about past decisions: why an act was done, or why it was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from loop4.domain import Json
from loop4.graphs.conversation.intents import Slots
from loop4.graphs.conversation.on_incidents import act_sentence
from loop4.graphs.conversation.on_services import Looking
from loop4.graphs.conversation.sheet import AnswerKind, joined, named, quoted, shown
from loop4.ledger import evidence, intents
from loop4.ledger.evidence import EvidenceRecord
from loop4.tools.work_items import clock_of

MOST_ACTS = 3
DECISIVE = (
    "traffic_share_bp",
    "evidence_sources",
    "runbook_match",
    "known_good",
    "restarts_1h",
    "restart_budget_1h",
)


def why_done(look: Looking, slots: Slots) -> str:
    """The latest acts of that kind: decision, facts, approval, votes, outcome, and the findings it
    stood on. Returns the incident of the newest one.
    """
    verb = slots.verb
    with look.lookout.fleet().ledger.read() as tx:
        acts = intents.list_all(tx, tool=verb.tool if verb else None)
    told = [a for a in acts if "path" not in a.arguments and _is_about(a.target, a.service, slots)]
    name = slots.instance or slots.service or "anything"
    if not told:
        look.sheet.line(f"the ledger holds no such act on {name}", "ledger")
        denied = _decisions(look, slots)
        if denied:
            look.sheet.line("it was considered, though:")
            _tell_decisions(look, denied)
        return ""
    bodies: list[Json] = []
    for act in sorted(told, key=lambda a: -a.intended_ms)[:MOST_ACTS]:
        look.sheet.line(act_sentence(act, look.now_ms), f"incident {act.incident_id}")
        with look.lookout.fleet().ledger.read() as tx:
            rows = evidence.list_records(tx, act.incident_id)
        about = [r for r in rows if r.action_id == act.action_id]
        before = [r for r in rows if r.kind == "finding" and r.at_ms <= act.intended_ms]
        _tell_reason(look, before, act.service)
        for record in about:
            if record.kind == "decision":
                _tell_decision(look, record)
        _tell_votes(look, rows, act.approval_id)
        bodies.append(
            {
                "incident": act.incident_id,
                "action": act.action_id,
                "tool": act.tool,
                "target": act.target,
                "state": act.state.value,
                "verified": act.verified.value if act.verified else "",
                "approval": act.approval_id,
                "evidence": [r.seq for r in about],
            }
        )
    look.sheet.body["acts"] = bodies
    return max(told, key=lambda a: a.intended_ms).incident_id


def why_not_done(look: Looking, slots: Slots) -> str:
    """The decisions on such an act that did not allow it. Returns the newest one's incident."""
    found = [r for r in _decisions(look, slots) if r.body["effect"] != "allow"]
    if not found:
        look.sheet.line("the ledger holds no decision against such an act", "ledger")
        look.sheet.line("nobody proposed it, so nothing had to be decided")
        return ""
    _tell_decisions(look, found)
    return found[-1].incident_id


def _tell_decisions(look: Looking, found: Sequence[EvidenceRecord]) -> None:
    for record in found[-MOST_ACTS:]:
        _tell_decision(look, record)
    look.sheet.body["decisions"] = [_decision_body(r) for r in found[-MOST_ACTS:]]


def _tell_decision(look: Looking, record: EvidenceRecord) -> None:
    body = record.body
    rules = [quoted(r) for r in cast("Sequence[Json]", body["rules"])]
    look.sheet.line(
        f"  {clock_of(record.at_ms, look.now_ms)} the gate on {named(body['tool'])} for "
        f"{named(body['target'])}, asked by {named(body['requester'])}: {quoted(body['effect'])} "
        f"(rules {joined(rules)})",
        f"evidence #{record.seq}",
        f"incident {record.incident_id}",
    )
    for reason in cast("Sequence[Json]", body["reasons"]):
        look.sheet.line(f"    because {shown(str(reason), 240)}")
    facts = cast("Mapping[str, Mapping[str, Json]]", body["facts"])
    seen = [f"{n} = {named(facts[n]['value'])}" for n in DECISIVE if n in facts]
    if seen:
        look.sheet.line(f"    facts then: {', '.join(seen)}")


def _tell_reason(look: Looking, findings: Sequence[EvidenceRecord], service: str) -> None:
    own = [r for r in findings if r.body["agent"] == "incident" and r.body["service"] == service]
    best = max(own, key=lambda r: cast("int", r.body["confidence_bp"]), default=None)
    if best is not None:
        cited = cast("Sequence[Json]", best.body["evidence"])
        look.sheet.line(
            f"  it stood on: {quoted(best.body['claim'], 260)}",
            f"evidence #{best.seq}",
            *(quoted(e) for e in cited),
        )


def _tell_votes(look: Looking, rows: Sequence[EvidenceRecord], approval_id: str) -> None:
    for record in rows:
        if record.kind == "vote" and approval_id and record.body["approval_id"] == approval_id:
            word = "approved" if record.body.get("approve") else "rejected"
            look.sheet.line(
                f"  {named(record.body['person'])} {word} it at "
                f"{clock_of(record.at_ms, look.now_ms)}",
                f"evidence #{record.seq}",
                f"approval {quoted(approval_id)}",
            )


def _decisions(look: Looking, slots: Slots) -> list[EvidenceRecord]:
    with look.lookout.fleet().ledger.read() as tx:
        rows = evidence.list_records(tx, None, kinds=("decision",))
    tool = slots.verb.tool if slots.verb else ""
    return [
        r
        for r in rows
        if tool in ("", r.body["tool"])
        and "path" not in cast("Mapping[str, Json]", r.body["arguments"])
        and _is_about(str(r.body["target"]), "", slots)
    ]


def _is_about(target: str, service: str, slots: Slots) -> bool:
    if slots.instance:
        return target == slots.instance
    replica = slots.service and target.startswith(f"{slots.service}-")
    return slots.service in ("", target, service) or bool(replica)


def _decision_body(record: EvidenceRecord) -> dict[str, Json]:
    kept = ("tool", "target", "effect", "decided", "rules", "reasons", "requester")
    return {"evidence": record.seq, **{k: record.body[k] for k in kept}}


def nothing_about(look: Looking, what: str) -> None:
    """A question that needs something said before it, and nothing was."""
    look.sheet.kind = AnswerKind.NOT_UNDERSTOOD
    look.sheet.line(f"{what} of what? Ask about a service, an incident or an act first.")
