"""Telemetry proves the fix: the breached indicator is back inside its target, over samples after
the act.
"""

from __future__ import annotations

from langgraph.types import interrupt

from loop4.domain import Event, Json, Reading
from loop4.errors import LedgerError
from loop4.graphs.fleet import Fleet
from loop4.graphs.incident_facts import cause_of, findings_of
from loop4.graphs.recovery import Check, breached_targets, check_recovery, overall
from loop4.graphs.state import RunState
from loop4.graphs.steps import WRITE, read_steps
from loop4.graphs.triage import measure, reader_for, related
from loop4.ledger import events, evidence, incidents, intents, runs
from loop4.policies.severity import deadlines
from loop4.telemetry import current_trace_id

RECHECK_MS = 3_000
DEADLINE_WINDOWS = 4  # give up after this many verification windows


def wait(state: RunState) -> RunState:
    """End the leg; the runner wakes it at `wake_at_ms`. Nothing sleeps, a crash loses nothing."""
    interrupt({"wake_at_ms": state["wake_at_ms"]})
    return {"next": "verify"}


async def verify(fleet: Fleet, state: RunState) -> RunState:
    """Read the affected targets after the act: proven, not yet, failed, or no data."""
    with fleet.ledger.read() as tx:
        event = events.get(tx, state["event"])
    if event is None:
        raise LedgerError(f"the ledger has no event {state['event']!r}")
    checks = await check_recovery(
        fleet,
        event,
        breached_targets(fleet, state["incident_id"]),
        since_ms=state.get("acted_at_ms", 0),
    )
    now_ms = fleet.clock.now_ms()
    looked = state.get("checks", 0) + 1
    reading = overall(checks)
    if reading is Reading.FAIL and _may_ask_again(fleet, state, now_ms):
        return {"next": "agents", "plan": "", "checks": looked}
    if reading is not Reading.PASS and not _out_of_time(fleet, state, event, now_ms):
        return await _look_again(fleet, state, event, looked, now_ms)
    _record(fleet, state, checks, reading, now_ms)
    if reading is Reading.PASS:
        return {"verified": "pass", "checks": looked, "next": "report"}
    return {"verified": reading.value, "checks": looked, "next": "escalate"}


def _may_ask_again(fleet: Fleet, state: RunState, now_ms: int) -> bool:
    """Whether the agents get another look: nothing was proposed so far, and more evidence has come
    in.
    """
    due = state.get("ask_again_ms", 0)
    if not due or now_ms < due or state.get("acted_at_ms", 0) or state["phase"] != "act":
        return False
    return all(step.kind != WRITE for step in read_steps(fleet, state.get("plan", "")))


def _out_of_time(fleet: Fleet, state: RunState, event: Event, now_ms: int) -> bool:
    """After an act: some verification windows. Without one: the time to mitigate of the
    severity.
    """
    acted = state.get("acted_at_ms", 0)
    services = related(fleet, event.service)
    longest = max(
        (t.verification_window_s for t in fleet.targets if t.service in services), default=300
    )
    if acted:
        return now_ms > acted + DEADLINE_WINDOWS * longest * 1000
    severity = fleet.incident(state["incident_id"]).severity
    return now_ms > deadlines(fleet.severity, severity, event.at_ms).mitigate_ms


async def _look_again(
    fleet: Fleet, state: RunState, event: Event, looked: int, now_ms: int
) -> RunState:
    """Not yet: take what came into the inbox, let severity rise if it must, and sleep a little
    more.
    """
    wake_ms = now_ms + RECHECK_MS
    with fleet.ledger.read() as tx:
        inbox = events.inbox(tx, state["incident_id"])
    incident = fleet.incident(state["incident_id"])
    severity = incident.severity
    if inbox:
        measured = await measure(fleet, event, reader_for(fleet, event, incident.incident_id))
        if measured.assessment.severity.rank < severity.rank:
            severity = measured.assessment.severity
    if not inbox:
        return {"next": "wait", "wake_at_ms": wake_ms, "checks": looked}
    with fleet.drafts.transaction() as tx:
        events.take(tx, [e.event_id for e in inbox], now_ms=now_ms)
        if severity is not incident.severity:
            incidents.update(tx, incident.incident_id, severity=severity)
            evidence.append(
                tx,
                "severity_raised",
                incident.incident_id,
                state["run_id"],
                {"from": incident.severity.value, "to": severity.value},
                at_ms=now_ms,
                trace_id=current_trace_id(),
            )
    return {
        "next": "wait",
        "wake_at_ms": wake_ms,
        "checks": looked,
        "severity": severity.value,
    }


def _record(
    fleet: Fleet, state: RunState, checks: tuple[Check, ...], reading: Reading, now_ms: int
) -> None:
    body: dict[str, Json] = {
        "reading": reading.value,
        "acted_at_ms": state.get("acted_at_ms", 0),
        "checks": [
            {"target": c.target, "reading": c.reading.value, "failing_bp": c.failing_bp}
            for c in checks
        ],
    }
    with fleet.drafts.transaction() as tx:
        evidence.append(
            tx,
            "verification",
            state["incident_id"],
            state["run_id"],
            body,
            at_ms=now_ms,
            trace_id=current_trace_id(),
        )
        for intent in intents.list_all(tx, run_id=state["run_id"]):
            if intent.tool in fleet.policy.tools and "path" not in intent.arguments:
                intents.set_verified(tx, intent.action_id, reading, now_ms=now_ms)
        if reading is Reading.PASS:
            incidents.update(
                tx,
                state["incident_id"],
                state="monitoring",
                cause=cause_of(findings_of(fleet, state)),
                mitigated_ms=state.get("acted_at_ms", 0) or now_ms,
            )
        runs.set_state(tx, state["run_id"], runs.RunState.RUNNING, now_ms=now_ms)
