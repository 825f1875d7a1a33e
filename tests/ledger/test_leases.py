from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.errors import LeaseLost
from loop4.ledger import incidents, leases
from loop4.ledger.leases import LeasedLedger
from loop4.ledger.ledger import Ledger, Tx
from tests.graphs.toy import ToyClock

TTL_MS = 10_000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.db")


def test_a_run_has_one_driver_until_it_is_given_back(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        first = leases.take(tx, "run-1", "a", now_ms=0, ttl_ms=TTL_MS)
        assert first is not None
        assert leases.take(tx, "run-1", "b", now_ms=TTL_MS - 1, ttl_ms=TTL_MS) is None
        assert leases.take(tx, "run-1", "a", now_ms=1, ttl_ms=TTL_MS) is None
        assert leases.release(tx, first)
        second = leases.take(tx, "run-1", "b", now_ms=2, ttl_ms=TTL_MS)
        assert second is not None
        assert second.fence > first.fence
        assert second.takeovers == 0


def test_a_lease_that_ran_out_is_taken_over_and_that_is_counted(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for deaths in range(4):
            taken = leases.take(tx, "run-1", f"w{deaths}", now_ms=deaths * TTL_MS, ttl_ms=TTL_MS)
            assert taken is not None
            assert taken.takeovers == deaths
        assert taken is not None
        assert leases.release(tx, taken)
        again = leases.take(tx, "run-1", "w", now_ms=0, ttl_ms=TTL_MS)
        assert again is not None
        assert again.takeovers == 0, "a leg that ended by itself is no death"


def test_who_slept_past_the_lease_can_neither_renew_nor_write(ledger: Ledger) -> None:
    clock = ToyClock(0)
    with ledger.transaction() as tx:
        mine = leases.take(tx, "run-1", "a", now_ms=0, ttl_ms=TTL_MS)
    assert mine is not None
    leased = LeasedLedger(ledger, mine, clock)
    with leased.transaction() as tx:
        assert leases.renew(tx, mine, now_ms=0, ttl_ms=TTL_MS)
    clock.at_ms = TTL_MS  # nobody took it yet, and still it is lost
    with pytest.raises(LeaseLost, match="stale"), leased.transaction():
        pytest.fail("a lost lease opened a transaction")
    with pytest.raises(LeaseLost):
        leased.prove()
    with ledger.transaction() as tx:
        assert not leases.renew(tx, mine, now_ms=TTL_MS, ttl_ms=TTL_MS)
        other = leases.take(tx, "run-1", "b", now_ms=TTL_MS, ttl_ms=TTL_MS)
        assert other is not None
        assert not leases.renew(tx, mine, now_ms=TTL_MS, ttl_ms=TTL_MS)
        assert not leases.release(tx, mine)
    with pytest.raises(LeaseLost, match=str(other.fence)), leased.transaction():
        pytest.fail("a stale fence opened a transaction")
    with leased.read() as tx:
        assert incidents.list_all(tx) == ()


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["take", "renew", "release", "sleep"]),
            st.sampled_from(["a", "b", "c"]),
            st.integers(0, 2 * TTL_MS),
        ),
        max_size=30,
    )
)
def test_never_do_two_drivers_hold_proof_of_one_run(
    steps: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    held: dict[str, leases.Lease] = {}
    now_ms = 0
    with Ledger.open(tmp_path_factory.mktemp("l") / "ledger.db") as ledger:
        for what, who, wait_ms in steps:
            with ledger.transaction() as tx:
                if what == "take":
                    taken = leases.take(tx, "run-1", who, now_ms=now_ms, ttl_ms=TTL_MS)
                    if taken is not None:
                        held[who] = taken
                elif what == "sleep":
                    now_ms += wait_ms
                elif who in held and what == "renew":
                    leases.renew(tx, held[who], now_ms=now_ms, ttl_ms=TTL_MS)
                elif who in held:
                    leases.release(tx, held[who])
                assert sum(_proves(tx, lease, now_ms) for lease in held.values()) <= 1


def _proves(tx: Tx, lease: leases.Lease, now_ms: int) -> bool:
    try:
        leases.prove(tx, lease, now_ms)
    except LeaseLost:
        return False
    return True
