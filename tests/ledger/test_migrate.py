"""A ledger of the first version becomes one of the present version, on both databases, or stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert

from loop4.cli.main import main
from loop4.errors import LedgerError, RunnerBusy
from loop4.ledger import evidence, migrate, schema
from loop4.ledger.ledger import Ledger, Tx
from loop4.ledger.place import locate
from loop4.ledger.postgresql import make_schema
from loop4.ledger.runner import RunnerLock

NewPlace = Callable[[], Path | str]


def write_version_1(place: Path | str, *, version: str = "1") -> str:
    """A ledger as the first version left it, with three records; returns the chain's head."""
    database = locate(place, read_only=False, busy_timeout_s=5)
    ledger = Ledger(database, read_only=False, busy_timeout_s=5)
    with ledger, ledger.any_transaction() as tx:
        if tx.dialect == "postgresql":
            make_schema(tx.connection)
        migrate.upgrade(tx.connection, "0001")
        tx.connection.exec_driver_sql("DROP TABLE alembic_version")  # it came later
        for key, value in {"schema_version": version, "salt": "s" * 32, "fence": "4"}.items():
            tx.change(insert(schema.meta), {"key": key, "value": value})
        for number in range(3):
            evidence.append(tx, "note", "", "", {"number": number}, at_ms=1)
        return evidence.verify(tx).head


def objects(tx: Tx) -> set[str]:
    """Columns, indexes and triggers, with their SQL, as the database holds them."""
    query = {
        "sqlite": "SELECT name || coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'alem%'"
        " AND name NOT LIKE 'sqlite%' AND type IN ('index', 'trigger') UNION "
        "SELECT m.name || '.' || c.name || c.type || c.\"notnull\" || coalesce(c.dflt_value, '-') "
        "|| c.pk FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.name NOT LIKE 'alem%'",
        "postgresql": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'loop4'"
        " AND tablename != 'alembic_version' UNION "
        "SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT tgisinternal UNION "
        "SELECT prosrc FROM pg_proc WHERE pronamespace = 'loop4'::regnamespace",
    }[tx.dialect]
    return set(tx.connection.exec_driver_sql(query).scalars())


def test_the_migrated_schema_is_the_one_that_new_ledgers_get(new_place: NewPlace) -> None:
    old, new = new_place(), new_place()
    write_version_1(old)
    migrate.migrate(old, stamp="test")
    with Ledger.open(old) as migrated, migrated.read() as tx, Ledger.open(new) as made:
        context = MigrationContext.configure(
            tx.connection,
            # SQLite's defaults come back in other words; `objects` compares them
            opts={"compare_server_default": tx.dialect == "postgresql"},
        )
        assert compare_metadata(context, schema.metadata) == []
        with made.read() as other:
            assert objects(tx) == objects(other)
            assert len(objects(tx)) > 15


def test_an_old_ledger_is_refused_until_it_is_migrated_and_keeps_its_evidence(
    new_place: NewPlace,
) -> None:
    place = new_place()
    head = write_version_1(place)
    with pytest.raises(LedgerError, match="version '1', this Loop4 reads 2; run `loop4 ledger mig"):
        Ledger.open(place)
    assert not migrate.status(place).is_current
    done = migrate.migrate(place, stamp="test")
    assert (done.before, done.after, done.records) == (1, schema.SCHEMA_VERSION, 3)
    assert migrate.status(place).is_current
    with Ledger.open(place) as ledger, ledger.transaction() as tx:
        assert evidence.verify(tx).head == head
        evidence.append(tx, "note", "", "", {}, at_ms=2)
        assert evidence.verify(tx).ok
    again = migrate.migrate(place, stamp="test")
    assert (again.before, again.after, again.backup) == (2, 2, None)


def test_a_file_is_copied_first_and_the_copy_is_the_old_ledger(tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    head = write_version_1(place)
    done = migrate.migrate(place, stamp="20261125")
    assert done.backup == tmp_path / "ledger.db.before-20261125"
    assert migrate.status(done.backup).version == 1
    with Ledger.open_any(done.backup, read_only=True) as ledger, ledger.read() as tx:
        assert evidence.verify(tx).head == head


@pytest.mark.parametrize("version", ["3", "99"])
def test_a_newer_version_is_refused_and_nothing_changes(new_place: NewPlace, version: str) -> None:
    place = new_place()
    write_version_1(place, version=version)
    with pytest.raises(LedgerError, match="newer than this Loop4 knows"):
        migrate.migrate(place, stamp="test")
    assert migrate.status(place).version == int(version)


def test_a_crash_in_the_middle_leaves_the_old_version(
    new_place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Death(BaseException):
        pass

    place = new_place()
    write_version_1(place)
    plain = migrate.upgrade

    def die(connection: object) -> None:
        plain(connection)  # type: ignore[arg-type]  # it is handed on as it came
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "upgrade", die)
        with pytest.raises(Death):
            migrate.migrate(place, stamp="first")
    assert migrate.status(place).version == 1
    assert migrate.migrate(place, stamp="second").after == schema.SCHEMA_VERSION


def test_evidence_that_does_not_verify_is_not_migrated(tmp_path: Path) -> None:
    place = tmp_path / "ledger.db"
    write_version_1(place)
    with Ledger.open_any(place) as ledger, ledger.any_transaction() as tx:
        tx.connection.exec_driver_sql("DROP TRIGGER evidence_no_update")
        tx.connection.exec_driver_sql("UPDATE evidence SET kind = 'x' WHERE seq = 2")
    with pytest.raises(LedgerError, match=r"record 2 was changed.*not migrated"):
        migrate.migrate(place, stamp="test")
    assert migrate.status(place).version == 1
    assert list(tmp_path.glob("*.before-*")) == []


def test_a_folder_with_a_live_runner_is_not_migrated(tmp_path: Path) -> None:
    write_version_1(tmp_path / "ledger.db")
    with RunnerLock(tmp_path), pytest.raises(RunnerBusy):
        migrate.migrate(tmp_path / "ledger.db", stamp="test")


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_version_1(tmp_path / "ledger.db")
    assert main(["ledger", "status", "--data", str(tmp_path)]) == 1
    assert main(["ledger", "migrate", "--data", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["after"] == schema.SCHEMA_VERSION
    assert main(["ledger", "status", "--data", str(tmp_path)]) == 0
    assert main(["ledger", "migrate", "--data", str(tmp_path)]) == 0
    assert "nothing changed" in capsys.readouterr().out
