"""Whom to tell what, and when: at the start, when a person must own it, and at the end. All as
gated items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loop4.agents.signal import incident_signal
from loop4.domain import Incident, Severity
from loop4.graphs.fleet import Fleet
from loop4.graphs.incident_facts import (
    UPDATES,
    findings_of,
    incident_facts,
    leading,
    timeline,
)
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, Item, Step
from loop4.ledger import evidence, intents
from loop4.tools.incident_messages import (
    render_context,
    render_customer_update,
    render_notification,
    render_page,
)
from loop4.tools.postmortems import render_postmortem
from loop4.tools.signals import render_signal
from loop4.tools.templates import read_template
from loop4.tools.work_items import (
    ActionTaken,
    FiledSignal,
    FollowUp,
    IncidentFacts,
    PostmortemFacts,
    Rendered,
    date_of,
)

ROUTES = "operations-policy-author"


def first_notices(
    fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]
) -> list[Step]:
    """SEV1 and SEV2: page, context package, customer draft, and the policy author's note, as one
    batch.
    """
    return _batch(
        [*_calls(fleet, incident, state, writes), *_texts(fleet, incident, state, writes)]
    )


def first_calls(
    fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]
) -> list[Step]:
    """What of the first notices wakes people: it waits for no model."""
    return _batch(_calls(fleet, incident, state, writes))


def first_texts(
    fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]
) -> list[Step]:
    """The rest of the first notices, which a model may word."""
    return _batch(_texts(fleet, incident, state, writes))


def _batch(items: Sequence[Item]) -> list[Step]:
    return [Step(NOTIFY, tuple(items))] if items else []


def _first_facts(
    fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]
) -> IncidentFacts:
    """Page and context package have one number, also when a model was asked between them."""
    best = leading(findings_of(fleet, state))
    facts = incident_facts(
        fleet,
        incident,
        state,
        summary=best.claim if best else f"{incident.service} misses its target, cause unknown",
        told="investigating",
        proposed=[ActionTaken(w.tool, w.target, "proposed to the gate") for w in writes],
    )
    with fleet.ledger.read() as tx:
        of_this_run = intents.list_all(tx, run_id=state["run_id"])
    return replace(facts, update=facts.update - sum(a.tool in UPDATES for a in of_this_run))


def _calls(fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]) -> list[Item]:
    rule = fleet.severity.rule(incident.severity)
    if not rule.page:
        return []
    facts = _first_facts(fleet, incident, state, writes)
    page = render_page(
        facts,
        to=_people(fleet, incident, rule.page),
        context_path=render_context(facts).path,
    )
    items = [_item("incident", "oncall.page", page, incident)]
    if facts.impact_bp and facts.targets_breached:
        note = render_notification(facts, to=ROUTES)
        items.append(_item("incident", "incidents.notify", note, incident))
    return items


def _texts(fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]) -> list[Item]:
    rule = fleet.severity.rule(incident.severity)
    if not rule.page:
        return []
    facts = _first_facts(fleet, incident, state, writes)
    items = []
    if rule.context_package:
        items.append(_item("incident", "incidents.write_context", render_context(facts), incident))
    if rule.customer_update and facts.impact_bp:
        draft = render_customer_update(facts, product=_product(fleet))
        items.append(_item("incident", "incidents.draft_customer_update", draft, incident))
    return items


def escalation_notices(fleet: Fleet, incident: Incident, state: RunState) -> list[Item]:
    """A page that says what the fleet could not or may not do."""
    return [page_of(fleet, incident, state, _why_handed_over(fleet, incident, state))]


def page_of(fleet: Fleet, incident: Incident, state: RunState, reason: str) -> Item:
    """The page that hands an incident to a person."""
    facts = incident_facts(
        fleet, incident, state, summary=f"A person must own this: {reason}", told="escalated"
    )
    page = render_page(facts, to=_people(fleet, incident, ("primary",)))
    return _item("incident", "oncall.page", page, incident)


def closing_notices(fleet: Fleet, incident: Incident, state: RunState) -> list[Item]:
    """Postmortem where it is due, its signal, and the note that the state changed; nothing after a
    mere request.
    """
    if state["phase"] == "request" or not state["agents"]:
        return []
    verified = state.get("verified") == "pass"
    best = leading(findings_of(fleet, state))
    claim = best.claim if best else "the cause is not known"
    facts = incident_facts(
        fleet,
        incident,
        state,
        summary=claim,
        told="resolved" if verified else "escalated",
    )
    signal = incident_signal(
        incident.incident_id,
        best.subject if best and best.kind == "external_dependency" else incident.service,
        best.kind if best else "unknown",
        claim,
    )
    filed = render_signal(
        signal,
        at_ms=facts.now_ms,
        template="",
    )
    items = [_item("signal", "signals.file", filed, incident)]
    rule = fleet.severity.rule(incident.severity)
    if rule.postmortem == "always":
        items.append(
            _item(
                "incident",
                "incidents.write_postmortem",
                _postmortem(fleet, incident, state, filed),
                incident,
            )
        )
    if rule.page:
        items.append(
            _item(
                "incident",
                "incidents.notify",
                render_notification(facts, to="on-call, " + ROUTES),
                incident,
            )
        )
    return items


def _postmortem(fleet: Fleet, incident: Incident, state: RunState, filed: Rendered) -> Rendered:
    findings = findings_of(fleet, state)
    best = leading(findings)
    cause = best.claim if best else "The evidence at hand does not explain it."
    verified = state.get("verified") == "pass"
    facts = incident_facts(
        fleet, incident, state, summary=cause, told="resolved" if verified else "escalated"
    )
    name = filed.path.rsplit("/", 1)[-1].removesuffix(".md")
    whys = [cause]
    if best is not None and best.kind == "guilty_change":
        whys.append("The change reached customers before its own telemetry was compared.")
    due = date_of(facts.now_ms + 7 * 86_400_000)
    operations = fleet.operations
    return render_postmortem(
        PostmortemFacts(
            incident=facts,
            started_ms=0,
            resolved_ms=facts.now_ms if verified else 0,
            timeline=timeline(fleet, incident),
            root_cause=cause,
            five_whys=tuple(whys),
            signals=(
                FiledSignal(
                    name, "what this incident asks of the product", "technical", filed.path
                ),
            ),
            runbook=_runbook(fleet, incident),
            gaps={"Delivery": "a fault reached a share of traffic that only a person may undo"}
            if best is not None
            and best.kind == "guilty_change"
            and incident.severity in (Severity.SEV1, Severity.SEV2)
            else {},
            follow_ups=(FollowUp("Review this postmortem", "on-call", due),),
            contributing=tuple(c for f in findings[:1] for c in f.counter_evidence),
        ),
        read_template(operations, "postmortem") if operations is not None else "",
    )


def _runbook(fleet: Fleet, incident: Incident) -> str:
    """The runbook that an act of this incident claimed, if one did."""
    with fleet.ledger.read() as tx:
        acts = intents.list_all(tx, incident_id=incident.incident_id)
    tools = {a.tool for a in acts}
    return next(
        (r.name for r in fleet.runbooks if tools & {s.tool for s in r.steps}),
        "",
    )


def _why_handed_over(fleet: Fleet, incident: Incident, state: RunState) -> str:
    with fleet.ledger.read() as tx:
        records = evidence.list_records(
            tx,
            incident.incident_id,
            kinds=("decision", "outcome", "not_done", "verification", "approval_closed"),
        )
    if not records:
        return "the evidence names no safe act"
    last = records[-1]
    match last.kind:
        case "verification":
            return f"telemetry does not show the recovery (reading {last.body['reading']})"
        case "outcome":
            return f"{last.body['tool']} on {last.body['target']}: {last.body['detail']}"
        case "not_done":
            return str(last.body["reason"])
        case "approval_closed":
            return "nobody answered the request for approval in time"
        case _:
            reasons = last.body.get("reasons")
            return "; ".join(str(r) for r in reasons) if isinstance(reasons, list) else "denied"


def _people(fleet: Fleet, incident: Incident, roles: tuple[str, ...]) -> str:
    """Whom the catalogue names for these turns, or the role when it names nobody."""
    service = fleet.catalogue.service(incident.service)
    if service is None:
        return "on-call"
    names = {"primary": service.primary, "secondary": service.secondary}
    return ", ".join(n for n in (names.get(role, "") for role in roles) if n) or "on-call"


def _product(fleet: Fleet) -> str:
    edges = fleet.catalogue.edge_services()
    return edges[0].name if edges else "our service"


def _item(agent: str, tool: str, rendered: Rendered, incident: Incident) -> Item:
    return Item(
        agent=agent,
        tool=tool,
        target=rendered.path,
        service=incident.service,
        arguments={"path": rendered.path, "text": rendered.text},
        reason="notify on a change of state",
    )
