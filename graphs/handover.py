"""A person is paged for a run that failed by itself: through the gate like any notice, and not
forgotten by a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from langgraph.graph import END, START, StateGraph

from loop4.errors import LedgerError, Loop4Error
from loop4.graphs import gate, notices
from loop4.graphs.act import Actor
from loop4.graphs.fleet import Fleet
from loop4.graphs.guard import guarded
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, Step, put_steps
from loop4.ledger import evidence, outbox
from loop4.ledger.ledger import Tx

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

KIND = "handover"


def promise(tx: Tx, run_id: str, incident_id: str, reason: str, *, now_ms: int) -> None:
    """Promise the page, in the transaction that ends the run."""
    payload = {"run_id": run_id, "incident_id": incident_id, "reason": reason[:400]}
    outbox.put(tx, f"{KIND}:{run_id}", KIND, payload, now_ms=now_ms)


async def hand_over(fleet: Fleet) -> int:
    """Send the pages that are promised; how many runs were handed over.

    A page that cannot be sent is evidence, and is not tried again: the incident stands as
    escalated. Raises LedgerError when nothing can be written.
    """
    with fleet.ledger.read() as tx:
        rows = [r for r in outbox.due(tx, fleet.clock.now_ms()) if r.kind == KIND]
    for row in rows:
        run_id, incident_id = str(row.payload["run_id"]), str(row.payload["incident_id"])
        problem = ""
        try:
            await _page(fleet, run_id, incident_id, str(row.payload["reason"]))
        except LedgerError:
            raise
        except Loop4Error as error:
            problem = f"the page could not be sent: {error}"
        with fleet.drafts.transaction() as tx:
            now_ms = fleet.clock.now_ms()
            if problem:
                body = {"agent": "", "what": problem}
                evidence.append(tx, "violation", incident_id, run_id, body, at_ms=now_ms)
            outbox.done(tx, row.key, now_ms=now_ms)
    return len(rows)


async def _page(fleet: Fleet, run_id: str, incident_id: str, reason: str) -> None:
    state: RunState = {
        "run_id": run_id,
        "incident_id": incident_id,
        "phase": "handover",
        "context": "complete",
        "approval": "",
    }
    item = notices.page_of(fleet, fleet.incident(incident_id), state, reason)
    held = put_steps(fleet, [Step(NOTIFY, (item,))])
    await _graph(fleet).ainvoke(cast("RunState", {**state, "plan": held, "step": 0}))


def _graph(fleet: Fleet) -> CompiledStateGraph[RunState, None, RunState, RunState]:
    """gate -> act, with the nodes of the long graph: there is no shorter way to an executor."""
    graph = StateGraph(RunState)
    graph.add_node("gate", guarded("gate", lambda s: gate.decide(fleet, s), ("act", "plan")))
    graph.add_node("act", guarded("act", Actor(fleet).act, ("plan",)))
    graph.add_edge(START, "gate")
    graph.add_conditional_edges("gate", lambda s: s["next"], {"act": "act", "plan": END})
    graph.add_edge("act", END)
    return graph.compile()
