"""Incidents: at most one open per correlation, numbered INC-YYYY-NNN."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Select, bindparam, func, insert, select
from sqlalchemy import update as update_row
from sqlalchemy.engine import RowMapping

from loop4.domain import Incident, Severity
from loop4.errors import LedgerError
from loop4.ledger import evidence
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import incidents

_ALL = select(incidents).order_by(incidents.c.year, incidents.c.number)
_BY_ID = _ALL.where(incidents.c.incident_id == bindparam("id"))
_OPEN = _ALL.where(incidents.c.state != "resolved")
_OPEN_OF = _OPEN.where(incidents.c.correlation == bindparam("of"))

STATES = ("open", "mitigating", "monitoring", "resolved", "escalated")


def open_or_find(
    tx: Tx,
    correlation: str,
    *,
    service: str,
    environment: str,
    severity: Severity,
    detected_ms: int,
    now_ms: int,
) -> tuple[Incident, bool]:
    """Return the open incident of this correlation and whether it was made by this call.

    An incident that exists is returned as it stands; `update` changes it. The year of a new id is
    that of `now_ms` in UTC, the number counts up within the year.
    """
    found = find_open(tx, correlation)
    if found is not None:
        return found, False
    year = datetime.fromtimestamp(now_ms / 1000, UTC).year
    last = tx.row(
        select(func.max(incidents.c.number).label("number")).where(incidents.c.year == year)
    )
    number = ((last["number"] if last else None) or 0) + 1
    incident = Incident(
        incident_id=f"INC-{year}-{number:03d}",
        correlation=correlation,
        service=service,
        environment=environment,
        severity=severity,
        state="open",
        detected_ms=detected_ms,
    )
    tx.change(
        insert(incidents).values(
            incident_id=incident.incident_id,
            year=year,
            number=number,
            correlation=correlation,
            service=service,
            environment=environment,
            severity=severity.value,
            state=incident.state,
            detected_ms=detected_ms,
        )
    )
    return incident, True


def update(
    tx: Tx,
    incident_id: str,
    *,
    severity: Severity | None = None,
    state: str | None = None,
    cause: str | None = None,
    mitigated_ms: int | None = None,
    resolved_ms: int | None = None,
) -> Incident:
    """Change what is given and return the incident as it now stands.

    `resolved` is final and frees the correlation: leaving it raises LedgerError, as do an unknown
    incident and an unknown state.
    """
    before = get(tx, incident_id)
    if before is None:
        raise LedgerError(f"incident {incident_id!r} is unknown to the ledger")
    if state is not None and state not in STATES:
        raise LedgerError(f"incident state {state!r} is unknown, expected one of {STATES}")
    if before.state == "resolved" and state not in (None, "resolved"):
        raise LedgerError(f"incident {incident_id!r} is resolved; it cannot become {state!r}")
    given = {
        "severity": severity.value if severity else None,
        "state": state,
        "cause": None if cause is None else evidence.redacted_text(tx, cause),
        "mitigated_ms": mitigated_ms,
        "resolved_ms": resolved_ms,
    }
    values = {name: value for name, value in given.items() if value is not None}
    if values:
        tx.change(
            update_row(incidents).where(incidents.c.incident_id == incident_id).values(**values)
        )
    after = get(tx, incident_id)
    return after if after is not None else before


def get(tx: Tx, incident_id: str) -> Incident | None:
    """Return an incident, or None."""
    found = _incidents(tx, _BY_ID, id=incident_id)
    return found[0] if found else None


def find_open(tx: Tx, correlation: str) -> Incident | None:
    """Return the incident of this correlation that is not resolved, or None."""
    found = _incidents(tx, _OPEN_OF, of=correlation)
    return found[0] if found else None


def list_open(tx: Tx) -> tuple[Incident, ...]:
    """Return all incidents that are not resolved, oldest first."""
    return _incidents(tx, _OPEN)


def list_all(tx: Tx) -> tuple[Incident, ...]:
    """Return all incidents, oldest first."""
    return _incidents(tx, _ALL)


def _incidents(
    tx: Tx, statement: Select[tuple[object, ...]], **values: str
) -> tuple[Incident, ...]:
    return tuple(_incident(row) for row in tx.rows(statement, values))


def _incident(row: RowMapping) -> Incident:
    return Incident(
        incident_id=row["incident_id"],
        correlation=row["correlation"],
        service=row["service"],
        environment=row["environment"],
        severity=Severity(row["severity"]),
        state=row["state"],
        detected_ms=row["detected_ms"],
        mitigated_ms=row["mitigated_ms"],
        resolved_ms=row["resolved_ms"],
        cause=row["cause"],
    )
