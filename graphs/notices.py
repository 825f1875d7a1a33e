"""Whom to tell what, and when: at the start, while a request waits, and when a person must own it.
All as gated items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from loop4.domain import Incident, Json
from loop4.graphs.fleet import Fleet
from loop4.graphs.incident_facts import (
    UPDATES,
    findings_of,
    incident_facts,
    leading,
)
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, Item, Step
from loop4.ledger import evidence, intents
from loop4.ledger.approvals import Request
from loop4.tools.incident_messages import (
    render_context,
    render_customer_update,
    render_notification,
    render_page,
)
from loop4.tools.work_items import (
    ActionTaken,
    IncidentFacts,
    Rendered,
    utc,
)

ROUTES = "operations-policy-author"
PRIMARY = ("primary",)


def first_notices(
    fleet: Fleet,
    incident: Incident,
    state: RunState,
    writes: Sequence[Item],
    *,
    calls: bool = True,
    texts: bool = True,
) -> list[Step]:
    """SEV1 and SEV2, as one batch: the `calls` that wake people (page, policy author's note), and
    the `texts` that a model may word (context package, customer draft).
    """
    rule = fleet.severity.rule(incident.severity)
    if not rule.page:
        return []
    facts = _first_facts(fleet, incident, state, writes)
    context = render_context(facts)
    told: list[tuple[str, Rendered]] = []
    if calls:
        to = _people(fleet, incident, rule.page)
        told.append(("oncall.page", render_page(facts, to=to, context_path=context.path)))
        if facts.impact_bp and facts.targets_breached:
            told.append(("incidents.notify", render_notification(facts, to=ROUTES)))
    if texts and rule.context_package:
        told.append(("incidents.write_context", context))
    if texts and rule.customer_update and facts.impact_bp:
        draft = render_customer_update(facts, product=_product(fleet))
        told.append(("incidents.draft_customer_update", draft))
    items = tuple(item_of("incident", tool, rendered, incident) for tool, rendered in told)
    return [Step(NOTIFY, items)] if items else []


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


def escalation_notices(fleet: Fleet, incident: Incident, state: RunState) -> list[Item]:
    """A page that says what the fleet could not or may not do."""
    return [page_of(fleet, incident, state, _why_handed_over(fleet, incident, state))]


def page_of(fleet: Fleet, incident: Incident, state: RunState, reason: str) -> Item:
    """The page that hands an incident to a person."""
    facts = incident_facts(
        fleet, incident, state, summary=f"A person must own this: {reason}", told="escalated"
    )
    page = render_page(facts, to=_people(fleet, incident, PRIMARY))
    return item_of("incident", "oncall.page", page, incident)


def reminder(fleet: Fleet, incident: Incident, state: RunState, asked: Request) -> Item:
    """The note that a request still waits: to those who may answer it."""
    facts = incident_facts(
        fleet, incident, state, summary=_still_waits(asked), told="waiting for approval"
    )
    return item_of(
        "incident",
        "incidents.notify",
        render_notification(
            facts, to=f"{asked.approval.role}, {_people(fleet, incident, PRIMARY)}"
        ),
        incident,
    )


def second_page(fleet: Fleet, incident: Incident, state: RunState, asked: Request) -> Item:
    """The page to the secondary, shortly before a request expires."""
    facts = incident_facts(
        fleet, incident, state, summary=_still_waits(asked), told="waiting for approval"
    )
    page = render_page(facts, to=_people(fleet, incident, ("secondary",)))
    return item_of("incident", "oncall.page", page, incident)


def _still_waits(asked: Request) -> str:
    action = cast("Sequence[Mapping[str, Json]]", asked.payload["action_requests"])[0]
    until = asked.approval.expires_ms
    return (
        f"Nobody has answered yet: {action['name']}, {asked.approval.need} of role "
        f"{asked.approval.role} needed until {utc(until)}; then it expires and nothing is done"
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


def item_of(agent: str, tool: str, rendered: Rendered, incident: Incident) -> Item:
    """A rendered text as an action for the gate."""
    return Item(
        agent=agent,
        tool=tool,
        target=rendered.path,
        service=incident.service,
        arguments={"path": rendered.path, "text": rendered.text},
        reason="notify on a change of state",
    )
