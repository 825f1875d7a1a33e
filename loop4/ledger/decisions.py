"""All recorded decisions of a ledger, in pages: for judging them again under other rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from loop4.domain import JsonObject
from loop4.ledger.jsontext import decode_object
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import evidence, incidents

_PAGE = 2000
_DECISIONS = (
    select(
        evidence.c.seq,
        evidence.c.at_ms,
        evidence.c.body,
        incidents.c.service,
        incidents.c.environment,
    )
    .select_from(evidence.outerjoin(incidents, incidents.c.incident_id == evidence.c.incident_id))
    .where(evidence.c.kind == "decision", evidence.c.seq > bindparam("after"))
    .order_by(evidence.c.seq)
    .limit(_PAGE)
)


@dataclass(slots=True)
class RecordedDecision:
    """One decision as it stands in the chain; service and environment of its incident, if any."""

    seq: int
    at_ms: int
    body: JsonObject
    service: str
    environment: str


def recorded_decisions(tx: Tx) -> Iterator[RecordedDecision]:
    """Every decision, oldest first, a page in memory at a time."""
    after = 0
    while rows := tx.rows(_DECISIONS, {"after": after}):
        for row in rows:
            yield RecordedDecision(
                row["seq"],
                row["at_ms"],
                decode_object(row["body"], f"evidence record {row['seq']}"),
                row["service"] or "",
                row["environment"] or "",
            )
        after = rows[-1]["seq"]
