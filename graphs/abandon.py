"""A run that ends its worker again and again is given up: it fails, and a person is paged."""

from __future__ import annotations

from loop4.graphs import notices
from loop4.graphs.act import Actor
from loop4.graphs.legs import Leg
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, Step, put_steps
from loop4.ledger import evidence, runs

POISONOUS = 3  # drivers in a row that died with the run in hand


async def abandon(leg: Leg) -> None:
    """Fail the run, leave its incident to a person, and page one, through the gate as always.

    The run is failed first: should even the page end a worker, nobody tries a fifth time.
    """
    with leg.fleet.ledger.read() as tx:
        run = runs.get(tx, leg.run_id)
    if run is None:
        return
    what = f"given up: {leg.takeovers} workers in a row died while they drove this run"
    leg.fail(what)
    state: RunState = {
        "run_id": leg.run_id,
        "incident_id": run.incident_id,
        "event": "",
        "phase": "handover",
        "agents": [],
        "findings": [],
        "context": "complete" if leg.fleet.read_context(0).is_complete else "incomplete",
        "step": 0,
    }
    with leg.fleet.ledger.transaction() as tx:
        evidence.append(
            tx,
            "not_done",
            run.incident_id,
            leg.run_id,
            {"tool": "", "target": leg.run_id, "reason": what},
            at_ms=leg.fleet.clock.now_ms(),
        )
    incident = leg.fleet.incident(run.incident_id)
    page = Step(NOTIFY, tuple(notices.escalation_notices(leg.fleet, incident, state)))
    await Actor(leg.fleet).act({**state, "plan": put_steps(leg.fleet, [page])})
