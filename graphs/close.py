"""The end of a run in the ledger, and an action as its intent recorded it."""

from __future__ import annotations

from loop4.domain import Action
from loop4.graphs.state import RunState
from loop4.ledger import incidents, intents, locks, runs
from loop4.ledger.intents import Intent
from loop4.ledger.ledger import Tx


def close_run(tx: Tx, state: RunState, now_ms: int) -> None:
    """End the run, release what it locked, and resolve the incident unless a person must own it."""
    for intent in intents.list_all(tx, run_id=state["run_id"]):
        locks.release(tx, intent.target, intent.action_id)
    resolved = state.get("verified") == "pass" or state["phase"] == "request"
    incidents.update(
        tx,
        state["incident_id"],
        state="resolved" if resolved else "escalated",
        resolved_ms=now_ms if resolved else None,
    )
    runs.set_state(tx, state["run_id"], runs.RunState.DONE, now_ms=now_ms)


def intent_action(intent: Intent) -> Action:
    """The exact action that an intent recorded."""
    return Action(
        action_id=intent.action_id,
        incident_id=intent.incident_id,
        tool=intent.tool,
        target=intent.target,
        service=intent.service,
        environment=intent.environment,
        arguments=intent.arguments,
        target_revision=intent.target_revision,
        agent="",
        requester="",
    )
