"""The end of a run: what the organisation learns, and the handing over when a person must own
it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from loop4.domain import JsonObject, Reading
from loop4.graphs import notices
from loop4.graphs.close import close_run
from loop4.graphs.closing import closing_notices
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, WRITE, Step, put_steps, read_steps
from loop4.ledger import incidents


def report(fleet: Fleet, state: RunState) -> RunState:
    """Plan the closing notices (postmortem, signal, status), or close at once when there is nothing
    to say.
    """
    items = closing_notices(fleet, fleet.incident(state["incident_id"]), state)
    if not items:
        with fleet.drafts.transaction() as tx:
            close_run(tx, state, fleet.clock.now_ms())
        return {"phase": "report", "next": "end"}
    held = put_steps(fleet, [Step(NOTIFY, tuple(items))])
    return {"plan": held, "step": 0, "phase": "report", "next": "gate"}


def escalate(fleet: Fleet, state: RunState) -> RunState:
    """Page a person with the reason, after trying to undo an act that did not help.

    Before a verification has failed, the run goes on watching: the person may mend it. After one
    has, it reports and closes as escalated, not as resolved.
    """
    incident = fleet.incident(state["incident_id"])
    steps = _undoing(fleet, state)
    items = notices.escalation_notices(fleet, incident, state)
    verified = state.get("verified", "")
    with fleet.drafts.transaction() as tx:
        incidents.update(tx, incident.incident_id, state="escalated")
    if items:
        steps.append(Step(NOTIFY, tuple(items)))
    if not steps:
        return {"verified": verified or "no_data", "next": "report"}
    held = put_steps(fleet, steps)
    return {"plan": held, "step": 0, "phase": "handover", "next": "gate"}


def _undoing(fleet: Fleet, state: RunState) -> list[Step]:
    """The declared inverse of the act that did not help, once; the gate judges it like any."""
    acted = state.get("verified") == Reading.FAIL and state.get("acted_at_ms", 0)
    if not acted or state["phase"] != "act":
        return []
    step = next((s for s in read_steps(fleet, state.get("plan", "")) if s.kind == WRITE), None)
    inverse = step.items[0].inverse if step is not None else None
    if step is None or inverse is None:
        return []
    undo = replace(
        step.items[0],
        tool=str(inverse["tool"]),
        arguments=cast("JsonObject", inverse["arguments"]),
        reason="the act did not help: its declared inverse",
        inverse=None,
        ordinal=step.items[0].ordinal + 1,
    )
    return [Step(WRITE, (undo,))]
