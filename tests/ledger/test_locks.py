from __future__ import annotations

from collections.abc import Iterator

import pytest

from loop4.domain import Action, IntentState, Outcome, Severity
from loop4.ledger import incidents, intents, locks, runs
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.locks import Lock
from loop4.ledger.runs import RunState


@pytest.fixture
def tx(ledger: Ledger) -> Iterator[Tx]:
    with ledger.transaction() as tx:
        for name in ("run-1", "run-2"):
            incident, _ = incidents.open_or_find(
                tx,
                name,
                service="orders",
                environment="lab",
                severity=Severity.SEV2,
                detected_ms=0,
                now_ms=0,
            )
            runs.start(tx, name, incident.incident_id, "g1", now_ms=0)
        yield tx


def intend(tx: Tx, action_id: str) -> None:
    intents.intend(
        tx,
        Action(action_id, "", "t", "orders", "orders", "lab", {}, "r", "a", "a"),
        action_digest="d",
        policy_version="p",
        approval_id="",
        permit_nonce="",
        precondition={},
        fence=1,
        run_id="run-1",
        now_ms=0,
    )


def test_a_free_target_is_taken_and_the_next_run_sees_who_holds_it(tx: Tx) -> None:
    assert locks.holder(tx, "orders") is None
    assert locks.take(tx, "orders", "a1", "run-1", 5) is None
    assert locks.take(tx, "orders", "a2", "run-2", 6) == Lock("orders", "a1", "run-1", 5)
    assert locks.take(tx, "payments", "a2", "run-2", 6) is None


@pytest.mark.parametrize("paused", [RunState.WAITING_APPROVAL, RunState.SLEEPING])
def test_the_lock_of_a_paused_run_counts(tx: Tx, paused: RunState) -> None:
    locks.take(tx, "orders", "a1", "run-1", 5)
    runs.set_state(tx, "run-1", paused, now_ms=6)
    assert locks.take(tx, "orders", "a2", "run-2", 7) is not None


def test_only_the_action_that_holds_a_target_gives_it_back(tx: Tx) -> None:
    locks.take(tx, "orders", "a1", "run-1", 5)
    assert not locks.release(tx, "orders", "a2")
    assert locks.release(tx, "orders", "a1")
    assert not locks.release(tx, "orders", "a1")
    assert locks.take(tx, "orders", "a2", "run-2", 6) is None


def test_a_run_goes_on_to_its_next_action_when_the_last_is_settled(tx: Tx) -> None:
    locks.take(tx, "orders", "a1", "run-1", 5)
    intend(tx, "a1")
    assert locks.take(tx, "orders", "a1", "run-1", 5) is None
    assert locks.take(tx, "orders", "inverse", "run-1", 6) is not None
    intents.settle(tx, "a1", Outcome(IntentState.DONE, ""), fence=1, now_ms=7)
    assert locks.take(tx, "orders", "inverse", "run-1", 8) is None
    assert locks.holder(tx, "orders") == Lock("orders", "inverse", "run-1", 8)


@pytest.mark.parametrize("over", [RunState.DONE, RunState.FAILED])
def test_the_lock_of_a_run_that_is_over_is_void_unless_its_act_is_open(
    tx: Tx, over: RunState
) -> None:
    locks.take(tx, "orders", "a1", "run-1", 5)
    intend(tx, "a1")
    runs.set_state(tx, "run-1", over, now_ms=6)
    assert locks.take(tx, "orders", "a2", "run-2", 7) is not None
    intents.settle(tx, "a1", Outcome(IntentState.FAILED, ""), fence=1, now_ms=8)
    assert locks.take(tx, "orders", "a2", "run-2", 9) is None


def test_the_lock_of_a_run_that_the_ledger_does_not_know_counts(tx: Tx) -> None:
    locks.take(tx, "orders", "a1", "run-9", 5)
    assert locks.take(tx, "orders", "a2", "run-2", 6) is not None
