"""The outbox: work that a transaction promises, picked up by the runner after the commit."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from loop4.domain import JsonObject
from loop4.ledger import evidence
from loop4.ledger.jsontext import decode_object, encode
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import outbox
from loop4.ledger.upsert import insert_or_ignore

_PUT = insert_or_ignore(outbox, "key")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One promise. `key` is deterministic, so that promising twice is one row."""

    key: str
    kind: str
    payload: JsonObject
    due_ms: int
    put_ms: int


def put(tx: Tx, key: str, kind: str, payload: JsonObject, *, now_ms: int, due_ms: int = 0) -> bool:
    """Promise a piece of work, due at once or at `due_ms`. False: promised before, unchanged.

    Secrets in the payload become hashes.
    """
    row: dict[str, str | int] = {
        "key": key,
        "kind": kind,
        "payload": encode(evidence.redacted(tx, payload), f"outbox row {key!r}"),
        "due_ms": due_ms,
        "put_ms": now_ms,
    }
    return tx.change(_PUT, row) == 1


def due(tx: Tx, now_ms: int, *, limit: int = 100) -> tuple[OutboxRow, ...]:
    """Return what is due and not done, oldest first."""
    found = tx.rows(
        select(outbox)
        .where(outbox.c.done_ms == 0, outbox.c.due_ms <= now_ms)
        .order_by(outbox.c.due_ms, outbox.c.put_ms, outbox.c.key)
        .limit(limit)
    )
    return tuple(
        OutboxRow(
            row["key"],
            row["kind"],
            decode_object(row["payload"], f"outbox row {row['key']!r}"),
            row["due_ms"],
            row["put_ms"],
        )
        for row in found
    )


def done(tx: Tx, key: str, *, now_ms: int) -> bool:
    """Mark a row as done. False: it is unknown or was done before."""
    statement = update(outbox).where(outbox.c.key == key, outbox.c.done_ms == 0)
    return tx.change(statement.values(done_ms=now_ms)) == 1
