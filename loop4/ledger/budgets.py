"""Budgets: at most N acts of a kind in a sliding window, reserved before the act."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, or_, select

from loop4.domain import IntentState
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import budgets, intents


def reserve(tx: Tx, key: str, limit: int, window_s: int, now_ms: int, action_id: str) -> bool:
    """Reserve one act under `key` if fewer than `limit` are used. False: nothing was written.

    Reserving again for the same action is True and counts once, so a retry after a crash does not
    pay twice.
    """
    mine = select(budgets.c.key).where(budgets.c.key == key, budgets.c.action_id == action_id)
    if tx.row(mine) is not None:
        return True
    if used(tx, key, window_s, now_ms) >= limit:
        return False
    tx.change(insert(budgets).values(key=key, action_id=action_id, at_ms=now_ms))
    return True


def used(tx: Tx, key: str, window_s: int, now_ms: int) -> int:
    """Count reservations younger than the window, and older ones whose act is still `intended`.

    A reservation exactly one window old has left it.
    """
    in_flight = select(intents.c.action_id).where(intents.c.state == IntentState.INTENDED.value)
    row = tx.row(
        select(func.count().label("n"))
        .select_from(budgets)
        .where(
            budgets.c.key == key,
            or_(budgets.c.at_ms > now_ms - window_s * 1000, budgets.c.action_id.in_(in_flight)),
        )
    )
    return int(row["n"]) if row else 0


def release(tx: Tx, key: str, action_id: str) -> None:
    """Give back a reservation whose act certainly did not happen."""
    tx.change(delete(budgets).where(budgets.c.key == key, budgets.c.action_id == action_id))
