"""What is written when a run ends: the signal, the postmortem where one is due, and the note that
the state changed. All as gated items.
"""

from __future__ import annotations

from loop4.agents.signal import incident_signal
from loop4.domain import Incident, Severity
from loop4.graphs.fleet import Fleet
from loop4.graphs.incident_facts import findings_of, incident_facts, leading, timeline
from loop4.graphs.notices import ROUTES, item_of
from loop4.graphs.state import RunState
from loop4.graphs.steps import Item
from loop4.ledger import intents
from loop4.tools.incident_messages import render_notification
from loop4.tools.postmortems import render_postmortem
from loop4.tools.signals import render_signal
from loop4.tools.templates import read_template
from loop4.tools.work_items import FiledSignal, FollowUp, PostmortemFacts, Rendered, date_of


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
    items = [item_of("signal", "signals.file", filed, incident)]
    rule = fleet.severity.rule(incident.severity)
    if rule.postmortem == "always":
        items.append(
            item_of(
                "incident",
                "incidents.write_postmortem",
                _postmortem(fleet, incident, state, filed),
                incident,
            )
        )
    if rule.page:
        items.append(
            item_of(
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
