"""Promised notices that are due, sent: through the gate and the acting node like any other notice.

A crash forgets none of them; what is no longer true is not sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.graph import END, START, StateGraph

from loop4.domain import ApprovalState, JsonObject
from loop4.errors import LedgerError, Loop4Error
from loop4.graphs import gate, notices
from loop4.graphs.act import Actor
from loop4.graphs.fleet import Fleet
from loop4.graphs.guard import guarded
from loop4.graphs.promises import HANDOVER, REMINDER, SECOND_PAGE
from loop4.graphs.state import RunState
from loop4.graphs.steps import NOTIFY, Item, Step, put_steps
from loop4.ledger import approvals, evidence, outbox
from loop4.ledger.outbox import OutboxRow

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph


async def keep_promises(fleet: Fleet) -> int:
    """Send what is promised and due; how many were sent.

    What cannot be sent is evidence and is not tried again. Raises LedgerError when nothing can be
    written.
    """
    now_ms = fleet.clock.now_ms()
    with fleet.ledger.read() as tx:
        rows = [r for r in outbox.due(tx, now_ms) if r.kind in _ITEMS]
    sent = 0
    for row in rows:
        run_id, incident_id = str(row.payload["run_id"]), str(row.payload["incident_id"])
        problem = ""
        try:
            sent += await _keep(fleet, row, {"run_id": run_id, "incident_id": incident_id})
        except LedgerError:
            raise
        except Loop4Error as error:
            problem = f"a promised notice could not be sent: {error}"
        with fleet.drafts.transaction() as tx:
            if problem:
                body: JsonObject = {"agent": "", "what": problem}
                evidence.append(tx, "violation", incident_id, run_id, body, at_ms=now_ms)
            outbox.done(tx, row.key, now_ms=now_ms)
    return sent


async def _keep(fleet: Fleet, row: OutboxRow, run: RunState) -> bool:
    item = _ITEMS[row.kind](fleet, row, run)
    if item is None:
        return False
    held = put_steps(fleet, [Step(NOTIFY, (item,))])
    state: RunState = {
        **run,
        "phase": "handover",
        "context": "",  # none was read for this
        "approval": "",
        "plan": held,
        "step": 0,
    }
    await _graph(fleet).ainvoke(state)
    return True


def _graph(fleet: Fleet) -> CompiledStateGraph[RunState, None, RunState, RunState]:
    """gate -> act, with the nodes of the long graph: there is no shorter way to an executor."""
    graph = StateGraph(RunState)
    graph.add_node("gate", guarded("gate", lambda s: gate.decide(fleet, s), ("act", "plan")))
    graph.add_node("act", guarded("act", Actor(fleet).act, ("plan",)))
    graph.add_edge(START, "gate")
    graph.add_conditional_edges("gate", lambda s: s["next"], {"act": "act", "plan": END})
    graph.add_edge("act", END)
    return graph.compile()


def _handover(fleet: Fleet, row: OutboxRow, run: RunState) -> Item | None:
    incident = fleet.incident(run["incident_id"])
    return notices.page_of(fleet, incident, run, str(row.payload["reason"]))


def _reminder(fleet: Fleet, row: OutboxRow, run: RunState) -> Item | None:
    waiting = _waiting(fleet, row)
    if waiting is None:
        return None
    return notices.reminder(fleet, fleet.incident(run["incident_id"]), run, waiting)


def _second_page(fleet: Fleet, row: OutboxRow, run: RunState) -> Item | None:
    waiting = _waiting(fleet, row)
    if waiting is None:
        return None
    return notices.second_page(fleet, fleet.incident(run["incident_id"]), run, waiting)


def _waiting(fleet: Fleet, row: OutboxRow) -> approvals.Request | None:
    """The request if it still waits for an answer."""
    with fleet.ledger.read() as tx:
        request = approvals.get(tx, str(row.payload["approval"]))
    if request is None or request.approval.state is not ApprovalState.PENDING:
        return None
    return request if fleet.clock.now_ms() < request.approval.expires_ms else None


_ITEMS = {HANDOVER: _handover, REMINDER: _reminder, SECOND_PAGE: _second_page}
