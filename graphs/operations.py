"""THE PATH, on one screen: event to report. `act` is reached from `gate` only; every other way in
raises.

event -> triage -> agents -> plan -> gate -> act -> wait -> verify -> report
                              ^      |  ^                      |
                              |   approve                   escalate
                              +------+
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from langgraph.graph import END, START, StateGraph

from loop4.graphs import approve, ask_agents, gate, plan, prose, report, triage, verify
from loop4.graphs.act import Actor
from loop4.graphs.fleet import Fleet
from loop4.graphs.guard import guarded
from loop4.graphs.state import RunState

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

Node = Callable[[RunState], Awaitable[RunState]]

# from -> where its "next" may lead; anything else raises before the graph moves
WAYS = {
    "plan": ("gate", "agents", "wait", "report", "escalate", "end"),
    "gate": ("act", "approve", "plan", "verify", "escalate"),
    "approve": ("gate", "approve"),
    "act": ("wait", "plan", "gate", "escalate", "end"),
    "wait": ("verify",),
    "verify": ("wait", "agents", "report", "escalate"),
    "escalate": ("gate", "plan", "report", "end"),
    "report": ("gate", "end"),
}


def operations(fleet: Fleet) -> StateGraph[RunState]:
    """Event to report. Read downward; the router only follows `WAYS`."""
    actor = Actor(fleet)
    nodes: dict[str, Node] = {
        "triage": lambda s: triage.triage(fleet, s),  # event -> severity, agents
        "agents": lambda s: ask_agents.ask_agents(fleet, s),  # event -> findings, proposals
        "plan": lambda s: prose.worded(fleet, s, plan.plan(fleet, s)),  # proposals -> steps
        "gate": lambda s: gate.decide(fleet, s),  # step -> verdict
        "approve": _plain(lambda s: approve.approve(fleet, s)),  # the human's turn
        "act": actor.act,  # permit -> effect -> outcome
        "wait": _plain(verify.wait),  # ends the leg until wake_at
        "verify": lambda s: verify.verify(fleet, s),  # telemetry -> proven or not
        "escalate": _plain(lambda s: report.escalate(fleet, s)),  # a person must own it
        "report": lambda s: prose.worded(fleet, s, report.report(fleet, s)),  # what is learnt
    }
    graph = StateGraph(RunState)
    for name, node in nodes.items():
        graph.add_node(name, guarded(name, node, WAYS.get(name, ())))
    graph.add_edge(START, "triage")
    graph.add_edge("triage", "agents")
    graph.add_edge("agents", "plan")
    for name, ways in WAYS.items():
        graph.add_conditional_edges(
            name, _route, {way: END if way == "end" else way for way in ways}
        )
    return graph


def compiled(
    fleet: Fleet, saver: BaseCheckpointSaver[str] | None
) -> CompiledStateGraph[RunState, None, RunState, RunState]:
    """The graph, ready to run; without a saver nothing can pause."""
    return operations(fleet).compile(checkpointer=saver)


def _route(state: RunState) -> str:
    return state["next"]


def _plain(node: Callable[[RunState], RunState]) -> Node:
    """A plain function as an async node: gate, plan and analysis never await."""

    async def run(state: RunState) -> RunState:
        return node(state)

    return run
