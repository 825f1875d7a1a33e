"""Events as they were accepted, and the inbox of each incident."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.engine import RowMapping

from loop4.domain import Event, EventKind
from loop4.errors import LedgerError
from loop4.ledger import evidence
from loop4.ledger.jsontext import decode_object, encode
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import events
from loop4.ledger.upsert import insert_or_ignore

_TEXT = "\0text"  # beside the labels; no label is called so
_PUT = insert_or_ignore(events, "event_id")
_ALL = select(events).order_by(events.c.arrival)
_BY_ID = _ALL.where(events.c.event_id == bindparam("id"))
_PLACE = select(events.c.incident_id, events.c.taken_ms).where(events.c.event_id == bindparam("id"))
_OF = _ALL.where(events.c.incident_id == bindparam("of"))
_COUNT = select(func.count().label("many")).where(events.c.incident_id == bindparam("of"))
_INBOX = _OF.where(events.c.taken_ms == 0)


def accept(tx: Tx, event: Event, *, now_ms: int) -> bool:
    """Store an event once. False: this `event_id` was seen before and nothing was written.

    Secrets and addresses in its words from outside (text, labels) become hashes first.
    """
    what = f"event {event.event_id!r}"
    words = evidence.redacted_words(tx, {**event.labels, _TEXT: event.text})
    text = words.pop(_TEXT)
    row: dict[str, str | int] = {
        "event_id": event.event_id,
        "kind": event.kind.value,
        "source": event.source,
        "service": event.service,
        "environment": event.environment,
        "at_ms": event.at_ms,
        "correlation": event.correlation,
        "resolved": int(event.resolved),
        "labels": encode(words, what),
        "text": text,
        "request": "" if event.request is None else encode(event.request, what),
        "requester": event.requester,
        "incident_id": "",
        "accepted_ms": now_ms,
        "taken_ms": 0,
    }
    return tx.change(_PUT, row) == 1


def assign(tx: Tx, event_id: str, incident_id: str) -> None:
    """Put an accepted event into the inbox of an incident. Doing it again changes nothing.

    Raises LedgerError for an unknown event and for one that belongs to another incident.
    """
    changed = tx.change(
        update(events)
        .where(events.c.event_id == event_id, events.c.incident_id.in_(("", incident_id)))
        .values(incident_id=incident_id)
    )
    if changed != 1:
        row = tx.row(select(events.c.incident_id).where(events.c.event_id == event_id))
        found = f"belongs to {row['incident_id']!r}" if row else "was never accepted"
        raise LedgerError(f"event {event_id!r} {found}; it cannot go to {incident_id!r}")


def inbox(tx: Tx, incident_id: str) -> tuple[Event, ...]:
    """Return the events of an incident that were not taken yet, in order of acceptance."""
    return _events(tx, _INBOX, of=incident_id)


def unassigned(tx: Tx) -> tuple[Event, ...]:
    """Return accepted events without an incident: a crash came between the two."""
    return _events(tx, _INBOX, of="")


def is_unplaced(tx: Tx, event_id: str) -> bool:
    """True for an accepted event that belongs to no incident and was not taken."""
    row = tx.row(_PLACE, {"id": event_id})
    return row is not None and row["incident_id"] == "" and row["taken_ms"] == 0


def of_incident(tx: Tx, incident_id: str) -> tuple[Event, ...]:
    """Return all events of an incident, taken ones included, in order of acceptance."""
    return _events(tx, _OF, of=incident_id)


def count_of(tx: Tx, incident_id: str) -> int:
    """How many events an incident has, taken ones included."""
    row = tx.row(_COUNT, {"of": incident_id})
    return int(row["many"]) if row else 0


def take(tx: Tx, event_ids: Sequence[str], *, now_ms: int) -> None:
    """Mark events as taken into a run; ones taken before keep their time."""
    tx.change(
        update(events)
        .where(events.c.event_id.in_(event_ids), events.c.taken_ms == 0)
        .values(taken_ms=now_ms)
    )


def get(tx: Tx, event_id: str) -> Event | None:
    """Return an accepted event, or None."""
    found = _events(tx, _BY_ID, id=event_id)
    return found[0] if found else None


def _events(tx: Tx, statement: Select[tuple[object, ...]], **values: str) -> tuple[Event, ...]:
    return tuple(_event(row) for row in tx.rows(statement, values))


def _event(row: RowMapping) -> Event:
    what = f"event {row['event_id']!r}"
    return Event(
        event_id=row["event_id"],
        kind=EventKind(row["kind"]),
        source=row["source"],
        service=row["service"],
        environment=row["environment"],
        at_ms=row["at_ms"],
        correlation=row["correlation"],
        resolved=bool(row["resolved"]),
        labels={name: str(value) for name, value in decode_object(row["labels"], what).items()},
        text=row["text"],
        request=decode_object(row["request"], what) if row["request"] else None,
        requester=row["requester"],
    )
