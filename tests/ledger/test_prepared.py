"""Statements that go to SQLite's driver: the same statement, transaction, errors and durability."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from loop4.errors import LedgerError
from loop4.ledger.ledger import Ledger
from loop4.ledger.prepared import Prepared
from loop4.ledger.schema import meta
from loop4.ledger.upsert import insert_or_update

PUT = Prepared(insert(meta))
CHANGE = Prepared(insert_or_update(meta, "key", changing=["value"]))
VALUE = select(meta.c.value)
NAMED = Prepared(VALUE.where(meta.c.key == "a"))


def found(ledger: Ledger) -> list[str]:
    with ledger.read() as tx:
        return [row["value"] for row in tx.rows(VALUE.where(meta.c.key == "a"))]


def test_what_prepared_statements_write_is_committed_and_read_by_others(ledger: Ledger) -> None:
    before = ledger.commits
    with ledger.transaction() as tx:
        assert tx.change(PUT, {"key": "a", "value": "1"}) == 1
        assert [tuple(row) for row in tx.tuples(NAMED)] == [("1",)]
        assert tx.has_written
    assert (ledger.commits - before, found(ledger)) == (1, ["1"])
    with ledger.transaction() as tx:
        assert tx.change(CHANGE, {"key": "a", "value": "2"}) == 1
        assert tx.change(insert(meta), {"key": "b", "value": "3"}) == 1  # mixed with the others
    assert found(ledger) == ["2"]


def test_an_exception_takes_back_what_prepared_statements_wrote(ledger: Ledger) -> None:
    def put_and_fail() -> None:
        with ledger.transaction() as tx:
            tx.change(PUT, {"key": "a", "value": "1"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        put_and_fail()
    assert found(ledger) == []
    with ledger.transaction() as tx:  # the writer's next transaction is a new one
        assert list(tx.tuples(NAMED)) == []


def test_a_prepared_statement_that_fails_is_explained_and_ends_the_transaction(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as tx:
        tx.change(PUT, {"key": "a", "value": "1"})

    def put_again_and_go_on() -> None:
        with ledger.transaction() as tx:
            with pytest.raises(LedgerError):
                tx.change(PUT, {"key": "a", "value": "again"})
            with pytest.raises(LedgerError, match="failed; nothing of it was written"):
                tx.tuples(NAMED)

    with pytest.raises(LedgerError, match="an earlier statement of this transaction failed"):
        put_again_and_go_on()
    assert found(ledger) == ["1"]
    with ledger.transaction() as tx:
        tx.change(CHANGE, {"key": "a", "value": "2"})
    assert found(ledger) == ["2"]


def test_a_prepared_statement_cannot_write_inside_a_read(ledger: Ledger) -> None:
    with ledger.read() as tx, pytest.raises(LedgerError, match="inside a read"):
        tx.change(PUT, {"key": "a", "value": "1"})


def test_values_that_no_database_holds_are_explained(ledger: Ledger) -> None:
    with pytest.raises(LedgerError), ledger.transaction() as tx:
        tx.change(PUT, {"key": "a", "value": "\ud800"})
    assert found(ledger) == []


def test_the_writer_stays_connected_and_a_closed_ledger_holds_no_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path)
    for number in range(3):
        with ledger.transaction() as tx:
            tx.change(CHANGE, {"key": "a", "value": str(number)})
    ledger.close()
    assert not path.with_name("ledger.db-wal").exists()  # the last one out folds it in
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT value FROM meta WHERE key = 'a'").fetchall() == [("2",)]
    connection.close()
