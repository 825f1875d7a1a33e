from __future__ import annotations

import pytest

from loop4.domain import Incident, Severity
from loop4.errors import LedgerError
from loop4.ledger import incidents, runs
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.runs import RunState

IN_2026 = 1_790_000_000_000
END_OF_2026 = 1_798_761_599_999


def found(tx: Tx, correlation: str = "lab/orders", now_ms: int = IN_2026) -> tuple[Incident, bool]:
    return incidents.open_or_find(
        tx,
        correlation,
        service="orders",
        environment="lab",
        severity=Severity.SEV3,
        detected_ms=now_ms - 5,
        now_ms=now_ms,
    )


def test_one_correlation_has_one_open_incident(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first, created = found(tx)
        assert created
        assert found(tx) == (first, False)
        assert found(tx, "lab/payments")[0] != first
        assert (
            incidents.find_open(tx, "lab/orders") == incidents.get(tx, first.incident_id) == first
        )


def test_ids_count_up_within_the_year_of_the_clock(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        ids = [
            found(tx, f"c{number}", END_OF_2026 + number)[0].incident_id for number in (-1, 0, 1, 2)
        ]
        assert ids == ["INC-2026-001", "INC-2026-002", "INC-2027-001", "INC-2027-002"]


def test_an_alert_after_a_resolve_is_a_new_incident(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first, _ = found(tx)
        incidents.update(tx, first.incident_id, state="resolved", resolved_ms=9)
        assert incidents.list_open(tx) == ()
        second, created = found(tx)
        assert created
        assert second.incident_id == "INC-2026-002"
        assert [incident.state for incident in incidents.list_all(tx)] == ["resolved", "open"]


def test_an_update_changes_what_is_given_only(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first, _ = found(tx)
        changed = incidents.update(
            tx, first.incident_id, severity=Severity.SEV1, cause="deploy 42", mitigated_ms=7
        )
        assert incidents.get(tx, first.incident_id) == changed
        assert (changed.severity, changed.cause, changed.mitigated_ms) == (
            Severity.SEV1,
            "deploy 42",
            7,
        )
        assert (changed.state, changed.detected_ms) == (first.state, first.detected_ms)
        assert incidents.update(tx, first.incident_id) == changed


def test_a_wrong_update_is_refused(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first, _ = found(tx)
        with pytest.raises(LedgerError, match="'INC-1' is unknown"):
            incidents.update(tx, "INC-1", state="open")
        with pytest.raises(LedgerError, match="state 'closed' is unknown"):
            incidents.update(tx, first.incident_id, state="closed")
        incidents.update(tx, first.incident_id, state="resolved")
        with pytest.raises(LedgerError, match="is resolved; it cannot become 'open'"):
            incidents.update(tx, first.incident_id, state="open")


def test_an_incident_has_one_live_run(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        incident, _ = found(tx)
        run, created = runs.start(tx, "r1", incident.incident_id, "g1", now_ms=1)
        assert created
        assert run.is_live
        assert runs.start(tx, "r2", incident.incident_id, "g1", now_ms=2) == (run, False)
        assert runs.get(tx, "r2") is None
        runs.set_state(tx, "r1", RunState.DONE, now_ms=3)
        assert runs.live(tx, incident.incident_id) is None
        assert runs.start(tx, "r2", incident.incident_id, "g1", now_ms=4)[1]
        runs.set_state(tx, "r2", RunState.FAILED, now_ms=5)
        with pytest.raises(LedgerError, match="run 'r1' exists already"):
            runs.start(tx, "r1", incident.incident_id, "g1", now_ms=6)


def test_a_run_keeps_what_will_wake_it(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        incident, _ = found(tx)
        runs.start(tx, "r1", incident.incident_id, "g1", now_ms=1)
        slept = runs.set_state(tx, "r1", RunState.SLEEPING, now_ms=2, wake_at_ms=99)
        assert runs.list_open(tx) == (slept,)
        assert (slept.wake_at_ms, slept.graph_version, slept.started_ms) == (99, "g1", 1)
        waiting = runs.set_state(tx, "r1", RunState.WAITING_APPROVAL, now_ms=3, approval_id="ap-1")
        assert runs.get(tx, "r1") == waiting
        assert (waiting.wake_at_ms, waiting.approval_id) == (0, "ap-1")


def test_a_run_that_is_over_stays_over(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        incident, _ = found(tx)
        runs.start(tx, "r1", incident.incident_id, "g1", now_ms=1)
        runs.set_state(tx, "r1", RunState.DONE, now_ms=2)
        assert runs.list_open(tx) == ()
        with pytest.raises(LedgerError, match="'r1' is done; it cannot become running"):
            runs.set_state(tx, "r1", RunState.RUNNING, now_ms=3)
        with pytest.raises(LedgerError, match="'r9' is unknown"):
            runs.set_state(tx, "r9", RunState.DONE, now_ms=3)


def test_a_run_of_an_incident_that_does_not_exist_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match=r"(?i)foreign key"):
        _start(ledger)


def _start(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        runs.start(tx, "r1", "INC-9", "g1", now_ms=1)
