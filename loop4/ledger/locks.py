"""Locks: one run at a time may act on a target, paused runs included."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select

from loop4.domain import IntentState
from loop4.ledger import intents, runs
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import locks
from loop4.ledger.upsert import insert_or_update

_TAKE = insert_or_update(locks, "target", changing=["action_id", "run_id", "at_ms"])
_RELEASE = delete(locks).where(
    locks.c.target == bindparam("of"), locks.c.action_id == bindparam("by")
)


@dataclass(frozen=True, slots=True)
class Lock:
    """Who holds a target."""

    target: str
    action_id: str
    run_id: str
    at_ms: int


def take(tx: Tx, target: str, action_id: str, run_id: str, now_ms: int) -> Lock | None:
    """Take a target. None: it is yours; otherwise the lock that stands in the way.

    A run may take its own target again for its next action once the last one is settled. A lock is
    void when its run is over and its act is settled; the lock of a run that the ledger does not
    know counts.
    """
    current = holder(tx, target)
    if current is not None and current.action_id != action_id and _counts(tx, current, run_id):
        return current
    tx.change(_TAKE, {"target": target, "action_id": action_id, "run_id": run_id, "at_ms": now_ms})
    return None


def release(tx: Tx, target: str, action_id: str) -> bool:
    """Give a target back. False: this action does not hold it, and nothing changes."""
    return tx.change(_RELEASE, {"of": target, "by": action_id}) == 1


def holder(tx: Tx, target: str) -> Lock | None:
    """Return the lock on a target, or None."""
    row = tx.row(select(locks).where(locks.c.target == target))
    if row is None:
        return None
    return Lock(row["target"], row["action_id"], row["run_id"], row["at_ms"])


def _counts(tx: Tx, lock: Lock, run_id: str) -> bool:
    intent = intents.get(tx, lock.action_id)
    if intent is not None and intent.state is IntentState.INTENDED:
        return True
    if lock.run_id == run_id:
        return False
    run = runs.get(tx, lock.run_id)
    return run is None or run.is_live
