"""What people set for the whole fleet while it runs, each with who set it and until when.

A change and its evidence are one transaction. What has run out counts as not set.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import RowMapping

from loop4.domain import JsonObject
from loop4.errors import LedgerError
from loop4.ledger import evidence
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import parameters

PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting. `until_ms` 0 means until somebody changes it."""

    name: str
    value: str
    set_by: str
    set_ms: int
    until_ms: int = 0


def get(tx: Tx, name: str, now_ms: int) -> Parameter | None:
    """What is set and has not run out, or None."""
    row = tx.row(select(parameters).where(parameters.c.name == name))
    found = _parameter(row) if row else None
    return None if found is None or _is_over(found, now_ms) else found


def list_all(tx: Tx, now_ms: int) -> tuple[Parameter, ...]:
    """Everything that is set and has not run out, by name."""
    rows = tx.rows(select(parameters).order_by(parameters.c.name))
    return tuple(p for p in map(_parameter, rows) if not _is_over(p, now_ms))


def put(
    tx: Tx, name: str, value: str, *, by: str, reason: str, now_ms: int, until_ms: int = 0
) -> None:
    """Set a parameter, whatever it was. Raises LedgerError for an end that is in the past."""
    if until_ms and until_ms <= now_ms:
        raise LedgerError(f"{name}: the end lies in the past; name a later one")
    values = {"value": value, "set_by": by, "set_ms": now_ms, "until_ms": until_ms}
    if not tx.change(update(parameters).where(parameters.c.name == name).values(**values)):
        tx.change(insert(parameters).values(name=name, **values))
    _record(tx, name, {"value": value, "until_ms": until_ms}, by, reason, now_ms)


def clear(tx: Tx, name: str, *, by: str, reason: str, now_ms: int) -> bool:
    """Unset a parameter. False: it was not set, and nothing was written."""
    if not tx.change(delete(parameters).where(parameters.c.name == name)):
        return False
    _record(tx, name, {"value": None, "until_ms": 0}, by, reason, now_ms)
    return True


def _record(tx: Tx, name: str, change: JsonObject, by: str, reason: str, now_ms: int) -> None:
    body: JsonObject = {"parameter": name, **change, "person": by, "reason": reason}
    evidence.append(tx, "parameter", "", "", body, at_ms=now_ms)


def _is_over(parameter: Parameter, now_ms: int) -> bool:
    return 0 < parameter.until_ms <= now_ms


def _parameter(row: RowMapping) -> Parameter:
    return Parameter(row["name"], row["value"], row["set_by"], row["set_ms"], row["until_ms"])
