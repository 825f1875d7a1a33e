"""The end of a run: what the organisation learns, and the handing over when a person must own
it.
"""

from __future__ import annotations

from loop4.graphs import notices
from loop4.graphs.close import close_run
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, Step, put_steps


def report(fleet: Fleet, state: RunState) -> RunState:
    """Plan the closing notices (postmortem, signal, status), or close at once when there is nothing
    to say.
    """
    items = notices.closing_notices(fleet, fleet.incident(state["incident_id"]), state)
    if not items:
        with fleet.drafts.transaction() as tx:
            close_run(tx, state, fleet.clock.now_ms())
        return {"phase": "report", "next": "end"}
    held = put_steps(fleet, [Step(NOTIFY, tuple(items))])
    return {"plan": held, "step": 0, "phase": "report", "next": "gate"}


def escalate(fleet: Fleet, state: RunState) -> RunState:
    """Page a person with the reason; the run then reports and closes as escalated, not as
    resolved.
    """
    incident = fleet.incident(state["incident_id"])
    items = notices.escalation_notices(fleet, incident, state)
    verified = state.get("verified") or "no_data"
    if not items:
        return {"verified": verified, "next": "report"}
    held = put_steps(fleet, [Step(NOTIFY, tuple(items))])
    return {"plan": held, "step": 0, "verified": verified, "phase": "handover", "next": "gate"}
