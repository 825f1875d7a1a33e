# ruff: noqa: S608  (statements of somebody who tampers, put together from constants)
from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.canonical import digest
from loop4.domain import Json
from loop4.errors import EvidenceError, LedgerError
from loop4.ledger import evidence
from loop4.ledger.chain import GENESIS
from loop4.ledger.evidence import VerifyReport
from loop4.ledger.ledger import Ledger

Race: TypeAlias = "Callable[[Sequence[Sequence[object]]], list[list[str]]]"

RECORDS = 5
COLUMNS = (
    "seq",
    "previous",
    "digest",
    "kind",
    "incident_id",
    "run_id",
    "action_id",
    "trace_id",
    "at_ms",
    "body",
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "ledger.db"
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        for number in range(1, RECORDS + 1):
            evidence.append(
                tx,
                "verdict",
                "INC-2026-001",
                "run-1",
                {"number": number, "effect": "allow"},
                at_ms=1000 + number,
                action_id="a1",
                trace_id="f" * 32,
            )
    return path


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "ledger.db"))


def test_the_schema_has_the_columns_that_these_tests_change(written: Path) -> None:
    found = _sql(written, "SELECT name FROM pragma_table_info('evidence')")
    assert tuple(row[0] for row in found) == COLUMNS


def test_a_chain_that_nobody_touched_verifies(written: Path) -> None:
    report = _verify(written)
    assert (report.ok, report.records, report.first_bad_seq, report.problem) == (True, 5, 0, "")
    last = _sql(written, "SELECT digest FROM evidence ORDER BY seq DESC LIMIT 1")[0][0]
    assert report.head == last


def test_an_empty_chain_verifies(ledger: Ledger) -> None:
    with ledger.read() as tx:
        assert evidence.verify(tx) == VerifyReport(True, 0, 0, "", GENESIS)


@pytest.mark.parametrize(
    ("seq", "column", "how"),
    [(seq, column, "changed") for seq in range(1, RECORDS + 1) for column in COLUMNS]
    + [(RECORDS, column, how) for column in COLUMNS for how in ("emptied", "a blob", "no UTF-8")],
)
def test_changing_any_column_of_any_record_is_found_and_names_it(
    copy: Path, seq: int, column: str, how: str
) -> None:
    if column in ("seq", "at_ms"):
        value = {
            "changed": f"{column} + 100",
            "emptied": "0",
            "a blob": f"-{column}",
            "no UTF-8": f"{column} + 1000",
        }[how]
    else:
        text = f"{column} || ' '" if column != "digest" else "lower(hex(randomblob(32)))"
        value = {
            "changed": text,
            "emptied": "''",
            "a blob": f"CAST({column} AS BLOB)",
            "no UTF-8": "CAST(X'fffe' AS TEXT)",
        }[how]
    _tamper(copy, f"UPDATE evidence SET {column} = {value} WHERE seq = {seq}")
    report = _verify(copy)
    assert not report.ok
    if column == "seq":  # moved elsewhere: the first place that is wrong is the one it left or took
        assert report.first_bad_seq in (1, seq)
    else:
        assert report.first_bad_seq == seq
    assert f"evidence record {report.first_bad_seq} " in report.problem


@pytest.mark.parametrize("seq", range(1, RECORDS + 1))
def test_another_spelling_of_the_same_body_is_a_change(copy: Path, seq: int) -> None:
    _tamper(copy, f"UPDATE evidence SET body = replace(body, ':', ': ') WHERE seq = {seq}")
    assert _verify(copy).first_bad_seq == seq


@pytest.mark.parametrize("seq", range(1, RECORDS + 1))
def test_a_deleted_record_is_named(copy: Path, seq: int) -> None:
    _tamper(copy, f"DELETE FROM evidence WHERE seq = {seq}")
    report = _verify(copy)
    assert (report.ok, report.records, report.first_bad_seq) == (False, 4, seq)
    assert "is missing" in report.problem


def test_two_records_that_changed_places_are_found(copy: Path) -> None:
    _tamper(
        copy,
        "UPDATE evidence SET seq = 99 WHERE seq = 2",
        "UPDATE evidence SET seq = 2 WHERE seq = 3",
        "UPDATE evidence SET seq = 3 WHERE seq = 99",
    )
    assert _verify(copy).first_bad_seq == 2


def test_a_record_put_in_by_hand_is_found(copy: Path) -> None:
    _tamper(
        copy,
        "INSERT INTO evidence SELECT 6, digest, digest, kind, incident_id, run_id, action_id, "
        "trace_id, at_ms, body FROM evidence WHERE seq = 5",
    )
    assert _verify(copy).first_bad_seq == 6


@pytest.mark.parametrize("seq", range(1, RECORDS + 1))
def test_an_edit_with_a_rebuilt_digest_is_found(copy: Path, seq: int) -> None:
    _rebuild(copy, seq)
    report = _verify(copy)
    assert not report.ok
    assert report.first_bad_seq == min(seq + 1, RECORDS)  # the next no longer follows, or the head


def test_a_cut_tail_is_found_even_when_the_head_was_set_back(copy: Path) -> None:
    [(last,)] = _sql(copy, "SELECT digest FROM evidence WHERE seq = 3")
    head = json.dumps({"count": 3, "digest": last, "seq": 3}, separators=(",", ":"))
    _tamper(
        copy,
        "DELETE FROM evidence WHERE seq > 3",
        f"UPDATE meta SET value = '{head}' WHERE key = 'evidence_head'",
    )
    report = _verify(copy)
    assert (report.ok, report.first_bad_seq) == (False, 4)


@pytest.mark.parametrize(
    "value",
    ['{"count":5}', "[]", "nonsense", '{"count":9,"digest":"0","seq":5}'],
)
def test_a_changed_head_is_found(copy: Path, value: str) -> None:
    _tamper(copy, f"UPDATE meta SET value = '{value}' WHERE key = 'evidence_head'")
    assert _verify(copy).first_bad_seq == RECORDS


def test_a_changed_count_in_the_head_is_found(copy: Path) -> None:
    _tamper(copy, "UPDATE meta SET value = replace(value, '\"count\":5', '\"count\":4')")
    assert _verify(copy).problem == "the chain has 5 records, its head says 4"


def test_a_lost_head_is_found(copy: Path) -> None:
    _tamper(copy, "DELETE FROM meta WHERE key = 'evidence_head'")
    assert _verify(copy).problem == "the head of the evidence chain is gone"


def test_an_anchor_noted_elsewhere_shows_a_chain_that_was_rebuilt_as_a_whole(copy: Path) -> None:
    noted = {RECORDS: _verify(copy).head}
    copy.unlink()
    with Ledger.open(copy) as ledger, ledger.transaction() as tx:
        for number in range(RECORDS):
            evidence.append(tx, "invented", "", "", {"number": number}, at_ms=1)
        assert evidence.verify(tx).ok
        report = evidence.verify(tx, noted)
        assert (report.ok, report.first_bad_seq) == (False, RECORDS)
        longer = evidence.verify(tx, {RECORDS + 3: "a" * 64})
        assert (longer.ok, longer.first_bad_seq) == (False, RECORDS + 1)


def test_nothing_is_appended_to_a_broken_end(copy: Path) -> None:
    _tamper(copy, f"DELETE FROM evidence WHERE seq = {RECORDS}")
    with Ledger.open(copy) as ledger:
        with pytest.raises(EvidenceError, match="record 5 is not the one that was written last"):
            _append(ledger)
        with ledger.read() as tx:
            assert len(evidence.list_records(tx)) == RECORDS - 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE evidence SET kind = 'x' WHERE seq = 1",
        "DELETE FROM evidence WHERE seq = 5",
        "INSERT OR REPLACE INTO evidence SELECT * FROM evidence WHERE seq = 2",
        "UPDATE contents SET body = '1'",
        "DELETE FROM votes",
    ],
)
def test_a_careless_statement_is_stopped_by_a_trigger(copy: Path, statement: str) -> None:
    _tamper(copy, "INSERT INTO contents VALUES ('d', '1')", keep_triggers=True)
    _tamper(
        copy,
        "INSERT INTO approvals (approval_id, action_id) VALUES ('a', 'b')",
        "INSERT INTO votes (approval_id, person) VALUES ('a', 'p')",
        keep_triggers=True,
    )
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        _tamper(copy, statement, keep_triggers=True)
    assert _verify(copy).ok


def test_records_can_be_listed_by_incident_and_kind(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        for kind, incident in [("fact", "I1"), ("verdict", "I1"), ("verdict", "I2")]:
            evidence.append(tx, kind, incident, "", {}, at_ms=1)
        assert [record.seq for record in evidence.list_records(tx)] == [1, 2, 3]
        assert [record.seq for record in evidence.list_records(tx, "I1")] == [1, 2]
        assert [record.seq for record in evidence.list_records(tx, kinds={"verdict"})] == [2, 3]
        assert [record.seq for record in evidence.list_records(tx, "I1", {"verdict"})] == [2]
        assert evidence.get(tx, 3) == evidence.list_records(tx)[2]
        assert evidence.get(tx, 4) is None


def test_a_body_that_json_cannot_hold_is_refused_and_nothing_is_written(ledger: Ledger) -> None:
    bodies: list[dict[str, Json]] = [{"x": float("nan")}, {"x": 2**60}, {"x": "\ud800"}]
    for body in bodies:
        with pytest.raises(LedgerError, match="evidence of kind 'note' is not canonical JSON"):
            _append(ledger, body)
    with ledger.read() as tx:
        assert evidence.verify(tx).records == 0


def test_processes_that_append_together_make_one_chain(place: Path | str, race: Race) -> None:
    Ledger.open(place).close()
    race([("append", place, 25)] * 4)
    report = _verify(place)
    assert (report.ok, report.records) == (True, 100)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bodies=st.lists(
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON_VALUES, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_any_body_comes_back_as_it_was_returned_and_verifies(
    tmp_path: Path, bodies: list[dict[str, Json]]
) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.transaction() as tx:
        for body in bodies:
            record = evidence.append(tx, "note", "", "", body, at_ms=1)
            assert evidence.get(tx, record.seq) == record
            assert record.body == evidence.redacted(tx, body)
        assert evidence.verify(tx).ok


def _append(ledger: Ledger, body: dict[str, Json] | None = None) -> None:
    with ledger.transaction() as tx:
        evidence.append(tx, "note", "", "", body or {}, at_ms=1)


def _verify(path: Path | str) -> VerifyReport:
    with Ledger.open(path, read_only=True) as ledger, ledger.read() as tx:
        return evidence.verify(tx)


def _rebuild(path: Path, seq: int) -> None:
    """Edit a record as somebody would who knows how its digest is made."""
    names = ", ".join(COLUMNS)
    [row] = _sql(path, f"SELECT {names} FROM evidence WHERE seq = {seq}")
    columns = dict(zip(COLUMNS, row, strict=True)) | {"kind": "forged"}
    covered = {name: value for name, value in columns.items() if name != "digest"}
    _tamper(
        path,
        f"UPDATE evidence SET kind = 'forged', digest = '{digest(covered)}' WHERE seq = {seq}",
    )


def _tamper(path: Path, *statements: str, keep_triggers: bool = False) -> None:
    drop = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
    triggers = [] if keep_triggers else [row[0] for row in _sql(path, drop)]
    for statement in (*triggers, *statements):
        _sql(path, statement)


def _sql(path: Path, statement: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(statement).fetchall()
        connection.commit()
    finally:
        connection.close()
    return rows
