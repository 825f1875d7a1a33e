from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.domain import Action, IntentState, Outcome
from loop4.ledger import budgets, intents
from loop4.ledger.ledger import Ledger, Tx

Race: TypeAlias = "Callable[[Sequence[Sequence[object]]], list[list[str]]]"


def intend(tx: Tx, action_id: str) -> None:
    intents.intend(
        tx,
        Action(action_id, "", "workloads.restart", "orders-1", "orders", "lab", {}, "r", "a", "a"),
        action_digest="d",
        policy_version="p",
        approval_id="",
        permit_nonce="",
        precondition={},
        fence=1,
        run_id="r",
        now_ms=0,
    )


def test_a_budget_gives_out_as_many_as_its_limit(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        granted = [budgets.reserve(tx, "restart:orders", 3, 3600, 10, f"a{n}") for n in range(5)]
        assert granted == [True, True, True, False, False]
        assert budgets.used(tx, "restart:orders", 3600, 10) == 3
        assert budgets.used(tx, "restart:payments", 3600, 10) == 0


def test_the_same_action_pays_once(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert budgets.reserve(tx, "k", 1, 3600, 10, "a")
        assert budgets.reserve(tx, "k", 1, 3600, 20, "a")
        assert budgets.used(tx, "k", 3600, 20) == 1


def test_a_limit_of_zero_gives_nothing(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        assert not budgets.reserve(tx, "k", 0, 3600, 10, "a")


def test_a_reservation_leaves_the_window_when_it_is_one_window_old(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        budgets.reserve(tx, "k", 1, 60, 1_000, "a")
        assert not budgets.reserve(tx, "k", 1, 60, 60_999, "b")
        assert budgets.reserve(tx, "k", 1, 60, 61_000, "b")


def test_an_act_in_flight_counts_however_old_it_is(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        budgets.reserve(tx, "k", 1, 60, 0, "a")
        intend(tx, "a")
        assert budgets.used(tx, "k", 60, 10**9) == 1
        assert not budgets.reserve(tx, "k", 1, 60, 10**9, "b")
        intents.settle(tx, "a", Outcome(IntentState.DONE, ""), fence=1, now_ms=1)
        assert budgets.reserve(tx, "k", 1, 60, 10**9, "b")


def test_what_certainly_did_not_happen_is_given_back(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        budgets.reserve(tx, "k", 1, 60, 0, "a")
        budgets.release(tx, "k", "a")
        budgets.release(tx, "k", "a")
        assert budgets.reserve(tx, "k", 1, 60, 0, "b")


def test_four_processes_get_no_more_than_the_limit_together(place: Path | str, race: Race) -> None:
    Ledger.open(place).close()
    words = race([("reserve", place, 3, f"process-{number}") for number in range(4)])
    assert sum(int(word) for printed in words for word in printed) == 5 * 3
    with Ledger.open(place) as ledger, ledger.read() as tx:
        assert [budgets.used(tx, f"restart:{n}", 3600, 1000) for n in range(5)] == [3] * 5


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limit=st.integers(0, 4),
    steps=st.lists(st.integers(0, 30_000), max_size=15),
)
def test_no_window_ever_holds_more_than_the_limit(
    tmp_path_factory: pytest.TempPathFactory, limit: int, steps: list[int]
) -> None:
    granted: list[int] = []
    now_ms = 0
    with (
        Ledger.open(tmp_path_factory.mktemp("budget") / "ledger.db") as ledger,
        ledger.transaction() as tx,
    ):
        for number, step in enumerate(steps):
            now_ms += step
            room = sum(at > now_ms - 60_000 for at in granted) < limit
            got = budgets.reserve(tx, "k", limit, 60, now_ms, f"a{number}")
            assert got == room
            granted += [now_ms] * got
            assert budgets.used(tx, "k", 60, now_ms) <= limit
