"""Findings and proposals to steps: whom to tell first, then one act at a time, the smallest safe
one first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from loop4.canonical import digest
from loop4.domain import Event, EventKind, Incident, Json, JsonObject
from loop4.errors import LedgerError
from loop4.graphs import notices
from loop4.graphs.close import close_run
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.graphs.steps import WRITE, Item, Step, put_steps, read_steps
from loop4.ledger import events, runs

MAX_WRITES = 4
WATCH_MS = 5_000


def plan(fleet: Fleet, state: RunState) -> RunState:
    """Make the plan on the first visit; afterwards take its next step, or go on when there is none.

    The reducer is deterministic: the same proposals in any order give the same steps.
    """
    steps = read_steps(fleet, state["plan"]) if state.get("plan") else ()
    if not steps:
        return _first_of_phase(fleet, state)
    index = state["step"] + 1
    if index < len(steps):
        return {"step": index, "approval": "", "next": "gate"}
    if state["phase"] == "report":  # every closing notice was denied: still the end of the run
        with fleet.drafts.transaction() as tx:
            close_run(tx, state, fleet.clock.now_ms())
        return {"step": index, "next": "end"}
    return {"step": index, "approval": "", **_after(fleet, state)}


def _after(fleet: Fleet, state: RunState) -> RunState:
    """Without a further step: watch until telemetry is well, or report when there is nothing to
    watch.
    """
    handed_over = state["phase"] == "handover" and bool(state.get("verified"))
    if state["phase"] == "request" or not state["agents"] or handed_over:
        return {"next": "report"}
    if state.get("paged") == "due":
        return {"plan": "", "paged": "done", "next": "agents"}
    now_ms = fleet.clock.now_ms()
    wake_ms = now_ms + WATCH_MS
    with fleet.drafts.transaction() as tx:
        runs.set_state(
            tx, state["run_id"], runs.RunState.SLEEPING, now_ms=now_ms, wake_at_ms=wake_ms
        )
    return {"next": "wait", "wake_at_ms": wake_ms}


def _first_of_phase(fleet: Fleet, state: RunState) -> RunState:
    """The phase's first plan. Only a crash can have lost the drafts of a later phase: begin that
    phase again, never an earlier one.
    """
    match state["phase"]:
        case "report":
            return {"plan": "", "next": "report"}
        case "handover":
            return {"plan": "", "next": "escalate"}
        case _:
            return _first(fleet, state)


def _first(fleet: Fleet, state: RunState) -> RunState:
    with fleet.ledger.read() as tx:
        event = events.get(tx, state["event"])
    if event is None:
        raise LedgerError(f"the ledger has no event {state['event']!r}")
    incident = fleet.incident(state["incident_id"])
    if event.kind is EventKind.REQUEST:
        steps: list[Step] = [Step(WRITE, (_requested(event),))]
        phase = "request"
    else:
        phase = "act"
        proposals = fleet.drafts.get(state["proposals"])
        if proposals is None:  # a crash lost what the agents said; they only read, so ask again
            return {"plan": "", "asked": max(0, state["asked"] - 1), "next": "agents"}
        steps = _told_and_done(fleet, incident, state, order(_items(proposals))[:MAX_WRITES])
    if not steps:
        told: RunState = {**state, "phase": phase}
        return {"plan": "", "step": 0, "phase": phase, **_after(fleet, told)}
    return {"plan": put_steps(fleet, steps), "step": 0, "phase": phase, "next": "gate"}


def _told_and_done(
    fleet: Fleet, incident: Incident, state: RunState, writes: Sequence[Item]
) -> list[Step]:
    """Whom to tell and what to do. With a model the page goes out alone, before it is asked."""
    match state.get("paged", ""), state["asked"]:
        case "due", _:
            return notices.first_notices(fleet, incident, state, writes, texts=False)
        case "done", 1:
            told = notices.first_notices(fleet, incident, state, writes, calls=False)
        case "", 1:
            told = notices.first_notices(fleet, incident, state, writes)
        case _:
            told = []
    return [*told, *(Step(WRITE, (item,)) for item in writes)]


def order(items: Sequence[tuple[Item, bool, int]]) -> list[Item]:
    """Reversible first, then small blast radius, then agent, then digest; doubles fall away."""
    seen: set[str] = set()
    ordered = []
    for item, _, _ in sorted(items, key=lambda i: (not i[1], i[2], i[0].agent, i[0].action_id(""))):
        key = digest({"tool": item.tool, "target": item.target, "arguments": item.arguments})
        if key not in seen:
            seen.add(key)
            ordered.append(item)
    return ordered


def _items(proposals: Json) -> list[tuple[Item, bool, int]]:
    bodies = cast("Sequence[Mapping[str, Json]]", proposals)
    return [
        (
            Item(
                agent=str(b["agent"]),
                tool=str(b["tool"]),
                target=str(b["target"]),
                service=str(b["service"]),
                arguments=cast("JsonObject", b["arguments"]),
                reason=str(b["reason"]),
                evidence=tuple(str(e) for e in cast("Sequence[Json]", b["evidence"])),
                runbook=str(b["runbook"]),
                inverse=cast("JsonObject | None", b["inverse"]),
            ),
            bool(b["reversible"]),
            cast("int", b["blast_radius_bp"]),
        )
        for b in bodies
    ]


def _requested(event: Event) -> Item:
    request = event.request or {}
    return Item(
        agent="person",
        tool=str(request.get("tool", "")),
        target=str(request.get("target", "")),
        service=event.service,
        arguments=cast("JsonObject", request.get("arguments", {})),
        reason="asked for by a person",
        requester=event.requester,
    )
