"""Intents: each act is written before it is done and settled after; a crash leaves it `intended`.

The engine never retries an act. Recovery reads the target and asks `reconcile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.engine import RowMapping

from loop4.domain import Action, IntentState, JsonObject, Outcome, Reading
from loop4.errors import LedgerError
from loop4.ledger import evidence
from loop4.ledger.jsontext import decode_object, encode
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import intents, permits
from loop4.ledger.upsert import insert_or_ignore

_ALL = select(intents).order_by(intents.c.intended_ms, intents.c.action_id)
_BY_ID = _ALL.where(intents.c.action_id == bindparam("id"))
_INTENDED = _ALL.where(intents.c.state == IntentState.INTENDED.value)
_PUT = insert_or_ignore(intents, "action_id")
_USE_PERMIT = insert(permits)
_PERMIT = select(permits.c.nonce).where(permits.c.nonce == bindparam("of"))
_SETTLE = (
    update(intents)
    .where(
        intents.c.action_id == bindparam("id"),
        intents.c.state == IntentState.INTENDED.value,
        intents.c.fence == bindparam("held"),
    )
    .values(
        state=bindparam("ended"),
        detail=bindparam("told"),
        before=bindparam("was"),
        after=bindparam("is_now"),
        settled_ms=bindparam("now"),
    )
)


@dataclass(frozen=True, slots=True)
class Intent:
    """One act as it was intended and, once settled, how it ended.

    `precondition` is what the target looked like; `fence` is that of the runner that holds it;
    `verified` is telemetry's verdict afterwards, None while there is none.
    """

    action_id: str
    incident_id: str
    run_id: str
    tool: str
    target: str
    service: str
    environment: str
    arguments: JsonObject
    action_digest: str
    target_revision: str
    policy_version: str
    approval_id: str
    permit_nonce: str
    precondition: JsonObject
    fence: int
    state: IntentState
    detail: str
    before: JsonObject
    after: JsonObject
    intended_ms: int
    settled_ms: int
    verified: Reading | None
    verified_ms: int


class Reconcile(StrEnum):
    """What recovery must do with an act that is still `intended`."""

    DONE = "done"  # our mark is on the target: settle it
    RETRY = "retry"  # nothing happened: judge again, then call with compare-and-set
    UNKNOWN = "unknown"  # a person must look


def reconcile(intent: Intent, seen_mark: str | None, seen_state: JsonObject | None) -> Reconcile:
    """Say what happened to an act from what its target shows now.

    `seen_mark` is the action id found on the target, None if it carries none; `seen_state` its
    state in the shape of the recorded precondition, None if the target cannot be asked. Without a
    recorded precondition nothing can be retried.
    """
    if seen_mark == intent.action_id:
        return Reconcile.DONE
    if seen_state is None or not intent.precondition:
        return Reconcile.UNKNOWN
    same = encode(seen_state, "the target's state") == encode(intent.precondition, "precondition")
    return Reconcile.RETRY if same else Reconcile.UNKNOWN


def intend(
    tx: Tx,
    action: Action,
    *,
    action_digest: str,
    policy_version: str,
    approval_id: str,
    permit_nonce: str,
    precondition: JsonObject,
    fence: int,
    run_id: str,
    now_ms: int,
) -> bool:
    """Write the intent of an act. False: the executor must not be called.

    That is so when the action id has an intent already (whatever its digest; `get` shows it) or
    the permit was used before. Nothing is written then.
    """
    if permit_nonce and is_nonce_used(tx, permit_nonce):
        return False
    what = f"intent {action.action_id!r}"
    row: dict[str, str | int] = {
        "action_id": action.action_id,
        "incident_id": action.incident_id,
        "run_id": run_id,
        "tool": action.tool,
        "target": action.target,
        "service": action.service,
        "environment": action.environment,
        "arguments": encode(action.arguments, what),
        "action_digest": action_digest,
        "target_revision": action.target_revision,
        "policy_version": policy_version,
        "approval_id": approval_id,
        "permit_nonce": permit_nonce,
        "precondition": encode(precondition, what),
        "fence": fence,
        "state": IntentState.INTENDED.value,
        "before": "{}",
        "after": "{}",
        "intended_ms": now_ms,
    }
    written = tx.change(_PUT, row) == 1
    if written and permit_nonce:
        tx.change(_USE_PERMIT, {"nonce": permit_nonce, "action_id": action.action_id})
    return written


def claim(tx: Tx, action_id: str, fence: int, *, permit_nonce: str = "") -> bool:
    """Take an act that is still `intended` over from a runner with a lower fence.

    Recovery does this before it settles or retries; the late runner can then no longer settle. A
    retry hands in the nonce of its new permit; a used one gives False and changes nothing.
    """
    if permit_nonce and is_nonce_used(tx, permit_nonce):
        return False
    values: dict[str, str | int] = {"fence": fence}
    if permit_nonce:
        values["permit_nonce"] = permit_nonce
    taken = tx.change(
        update(intents)
        .where(
            intents.c.action_id == action_id,
            intents.c.state == IntentState.INTENDED.value,
            intents.c.fence < fence,
        )
        .values(**values)
    )
    if taken == 1 and permit_nonce:
        tx.change(_USE_PERMIT, {"nonce": permit_nonce, "action_id": action_id})
    return taken == 1


def settle(tx: Tx, action_id: str, outcome: Outcome, *, fence: int, now_ms: int) -> bool:
    """Record how an act ended. False: it is settled already, or another fence holds it.

    Secrets in what the target said become hashes. Raises LedgerError for an outcome that is still
    `intended`.
    """
    if outcome.state is IntentState.INTENDED:
        raise LedgerError(f"intent {action_id!r}: an outcome is done, failed or unknown")
    what = f"outcome of {action_id!r}"
    changed = tx.change(
        _SETTLE,
        {
            "id": action_id,
            "held": fence,
            "ended": outcome.state.value,
            "told": evidence.redacted_text(tx, outcome.detail),
            "was": encode(evidence.redacted(tx, outcome.before), what),
            "is_now": encode(evidence.redacted(tx, outcome.after), what),
            "now": now_ms,
        },
    )
    return changed == 1


def mark_unknown(tx: Tx, action_id: str, detail: str, *, fence: int, now_ms: int) -> bool:
    """Settle an act as `unknown`: nobody can say whether it happened. As `settle` otherwise."""
    return settle(tx, action_id, Outcome(IntentState.UNKNOWN, detail), fence=fence, now_ms=now_ms)


def set_verified(tx: Tx, action_id: str, reading: Reading, *, now_ms: int) -> None:
    """Record whether telemetry showed that the act helped; the last verdict holds.

    Raises LedgerError for an act without intent.
    """
    statement = update(intents).where(intents.c.action_id == action_id)
    if tx.change(statement.values(verified=reading.value, verified_ms=now_ms)) != 1:
        raise LedgerError(f"intent {action_id!r} is unknown to the ledger")


def is_nonce_used(tx: Tx, nonce: str) -> bool:
    """Say whether a permit with this nonce was used for any act."""
    return tx.row(_PERMIT, {"of": nonce}) is not None


def get(tx: Tx, action_id: str) -> Intent | None:
    """Return an intent, or None."""
    found = _intents(tx, _BY_ID, {"id": action_id})
    return found[0] if found else None


def list_intended(tx: Tx) -> tuple[Intent, ...]:
    """Return the acts that were written and not settled, oldest first: recovery's work."""
    return _intents(tx, _INTENDED, {})


def list_all(
    tx: Tx,
    *,
    incident_id: str | None = None,
    run_id: str | None = None,
    target: str | None = None,
    tool: str | None = None,
    since_ms: int = 0,
) -> tuple[Intent, ...]:
    """Return the intents since `since_ms` that match all that is given, oldest first."""
    wanted = {"incident_id": incident_id, "run_id": run_id, "target": target, "tool": tool}
    given = {name: value for name, value in wanted.items() if value is not None}
    return _intents(tx, _matching(tuple(given)), {"since_ms": since_ms, **given})


def count(tx: Tx, state: IntentState) -> int:
    """Count the acts in a state."""
    row = tx.row(
        select(func.count().label("n")).select_from(intents).where(intents.c.state == state.value)
    )
    return int(row["n"]) if row else 0


def failed_remediations(tx: Tx, target: str, *, since_ms: int) -> int:
    """Count acts on a target that failed, ended unknown, or did not help by telemetry."""
    return sum(
        intent.state in (IntentState.FAILED, IntentState.UNKNOWN) or intent.verified is Reading.FAIL
        for intent in list_all(tx, target=target, since_ms=since_ms)
    )


@cache
def _matching(names: tuple[str, ...]) -> Select[tuple[object, ...]]:
    """The query of `list_all` for these columns; there are at most sixteen."""
    conditions = [intents.c[name] == bindparam(name) for name in names]
    return _ALL.where(intents.c.intended_ms >= bindparam("since_ms"), *conditions)


def _intents(
    tx: Tx, statement: Select[tuple[object, ...]], values: dict[str, str | int]
) -> tuple[Intent, ...]:
    return tuple(_intent(row) for row in tx.rows(statement, values))


def _intent(row: RowMapping) -> Intent:
    what = f"intent {row['action_id']!r}"
    return Intent(
        action_id=row["action_id"],
        incident_id=row["incident_id"],
        run_id=row["run_id"],
        tool=row["tool"],
        target=row["target"],
        service=row["service"],
        environment=row["environment"],
        arguments=decode_object(row["arguments"], what),
        action_digest=row["action_digest"],
        target_revision=row["target_revision"],
        policy_version=row["policy_version"],
        approval_id=row["approval_id"],
        permit_nonce=row["permit_nonce"],
        precondition=decode_object(row["precondition"], what),
        fence=row["fence"],
        state=IntentState(row["state"]),
        detail=row["detail"],
        before=decode_object(row["before"], what),
        after=decode_object(row["after"], what),
        intended_ms=row["intended_ms"],
        settled_ms=row["settled_ms"],
        verified=Reading(row["verified"]) if row["verified"] else None,
        verified_ms=row["verified_ms"],
    )
