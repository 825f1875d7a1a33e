"""Runs of the graph: one live run per incident, and when each must be woken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from loop4.errors import LedgerError
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import runs


class RunState(StrEnum):
    """Life of a run. The first three are live; paused runs are live too."""

    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"
    SLEEPING = "sleeping"
    DONE = "done"
    FAILED = "failed"


LIVE = (RunState.RUNNING, RunState.WAITING_APPROVAL, RunState.SLEEPING)

_ALL = select(runs).order_by(runs.c.started_ms, runs.c.run_id)
_BY_ID = _ALL.where(runs.c.run_id == bindparam("id"))
_LIVE = _ALL.where(runs.c.state.in_(LIVE))
_LIVE_OF = _LIVE.where(runs.c.incident_id == bindparam("of"))
_MOVE = (
    update(runs)
    .where(runs.c.run_id == bindparam("id"))
    .values(
        state=bindparam("to"),
        wake_at_ms=bindparam("wake"),
        approval_id=bindparam("approval"),
        updated_ms=bindparam("now"),
    )
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `wake_at_ms` is set while it sleeps, `approval_id` while it waits for a person."""

    run_id: str
    incident_id: str
    state: RunState
    wake_at_ms: int
    approval_id: str
    graph_version: str
    started_ms: int
    updated_ms: int

    @property
    def is_live(self) -> bool:
        """True unless the run is done or failed."""
        return self.state in LIVE


def start(
    tx: Tx, run_id: str, incident_id: str, graph_version: str, *, now_ms: int
) -> tuple[Run, bool]:
    """Return the live run of the incident, and True if it is this new one.

    Raises LedgerError for a `run_id` that was used before by a run that is over or of another
    incident.
    """
    current = live(tx, incident_id)
    if current is not None:
        return current, False
    if get(tx, run_id) is not None:
        raise LedgerError(f"run {run_id!r} exists already; start another under its own id")
    run = Run(run_id, incident_id, RunState.RUNNING, 0, "", graph_version, now_ms, now_ms)
    tx.change(
        insert(runs).values(
            run_id=run_id,
            incident_id=incident_id,
            state=run.state.value,
            graph_version=graph_version,
            started_ms=now_ms,
            updated_ms=now_ms,
        )
    )
    return run, True


def set_state(
    tx: Tx,
    run_id: str,
    state: RunState,
    *,
    now_ms: int,
    wake_at_ms: int = 0,
    approval_id: str = "",
) -> Run:
    """Move a run and return it. Done and failed are final: leaving them raises LedgerError."""
    before = get(tx, run_id)
    if before is None:
        raise LedgerError(f"run {run_id!r} is unknown to the ledger")
    if not before.is_live and state is not before.state:
        raise LedgerError(f"run {run_id!r} is {before.state.value}; it cannot become {state.value}")
    tx.change(
        _MOVE,
        {
            "id": run_id,
            "to": state.value,
            "wake": wake_at_ms,
            "approval": approval_id,
            "now": now_ms,
        },
    )
    return Run(
        run_id,
        before.incident_id,
        state,
        wake_at_ms,
        approval_id,
        before.graph_version,
        before.started_ms,
        now_ms,
    )


def get(tx: Tx, run_id: str) -> Run | None:
    """Return a run, or None."""
    found = _runs(tx, _BY_ID, id=run_id)
    return found[0] if found else None


def live(tx: Tx, incident_id: str) -> Run | None:
    """Return the live run of an incident, or None."""
    found = _runs(tx, _LIVE_OF, of=incident_id)
    return found[0] if found else None


def list_open(tx: Tx) -> tuple[Run, ...]:
    """Return all live runs, oldest first."""
    return _runs(tx, _LIVE)


def list_closed(tx: Tx, *, after_ms: int, until_ms: int, limit: int) -> tuple[Run, ...]:
    """Return runs that ended in this span, the longest ended first."""
    statement = (
        select(runs)
        .where(
            runs.c.state.not_in(LIVE), runs.c.updated_ms > after_ms, runs.c.updated_ms <= until_ms
        )
        .order_by(runs.c.updated_ms, runs.c.run_id)
        .limit(limit)
    )
    return tuple(_run(row) for row in tx.rows(statement))


def _runs(tx: Tx, statement: Select[tuple[object, ...]], **values: str) -> tuple[Run, ...]:
    return tuple(_run(row) for row in tx.rows(statement, values))


def _run(row: RowMapping) -> Run:
    return Run(
        run_id=row["run_id"],
        incident_id=row["incident_id"],
        state=RunState(row["state"]),
        wake_at_ms=row["wake_at_ms"],
        approval_id=row["approval_id"],
        graph_version=row["graph_version"],
        started_ms=row["started_ms"],
        updated_ms=row["updated_ms"],
    )
