"""What people set for the fleet: kept, ended, and each change in evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.errors import LedgerError
from loop4.ledger import evidence, parameters
from loop4.ledger.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_what_is_set_survives_and_every_change_is_evidence(path: Path) -> None:
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        parameters.put(tx, "paused", "yes", by="mira", reason="storm", now_ms=10)
        parameters.put(tx, "paused", "yes", by="noor", reason="still", now_ms=20, until_ms=50)
        parameters.put(tx, "limit", "3", by="noor", reason="less", now_ms=20)
    with Ledger.open(path) as ledger:
        with ledger.transaction() as tx:
            assert parameters.get(tx, "paused", 49) == parameters.Parameter(
                "paused", "yes", "noor", 20, 50
            )
            assert parameters.get(tx, "paused", 50) is None
            assert [p.name for p in parameters.list_all(tx, 30)] == ["limit", "paused"]
            assert [p.name for p in parameters.list_all(tx, 50)] == ["limit"]
            assert parameters.clear(tx, "limit", by="mira", reason="over", now_ms=60)
            assert not parameters.clear(tx, "limit", by="mira", reason="over", now_ms=61)
            told = [(r.body["person"], r.body["value"]) for r in evidence.list_records(tx)]
            assert told == [("mira", "yes"), ("noor", "yes"), ("noor", "3"), ("mira", None)]
            assert evidence.verify(tx).ok


def test_an_end_in_the_past_is_refused_and_nothing_changes(path: Path) -> None:
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError, match="lies in the past"), ledger.transaction() as tx:
            parameters.put(tx, "paused", "yes", by="mira", reason="r", now_ms=10, until_ms=10)
        with ledger.read() as tx:
            assert parameters.list_all(tx, 0) == ()
            assert evidence.list_records(tx) == ()
