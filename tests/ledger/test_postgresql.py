"""What only PostgreSQL can do to a ledger, each told in one line that holds no secret."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine.url import make_url

from loop4.errors import EvidenceError, LedgerError, RunnerBusy
from loop4.ledger import contents, evidence
from loop4.ledger.ledger import Ledger
from loop4.ledger.pgtext import PostgresqlText
from loop4.ledger.postgresql import PostgresqlDatabase
from loop4.ledger.runner_of_database import DatabaseRunner
from tests.postgresql import Server, new_server, prepare, remove

pytestmark = pytest.mark.slow
DIALECT = make_url("postgresql+psycopg://").get_dialect()()
Start: TypeAlias = "Callable[..., subprocess.Popen[str]]"


@pytest.fixture
def name(postgresql: Server) -> str:
    return postgresql.database("ready")


@pytest.fixture
def url(postgresql: Server, name: str) -> str:
    return postgresql.url(name)


def note(ledger: Ledger, number: int = 0) -> None:
    with ledger.transaction() as tx:
        evidence.append(tx, "note", "", "", {"number": number}, at_ms=1)


def test_a_lock_that_another_process_keeps_is_one_clear_line(url: str) -> None:
    with Ledger.open(url) as holder, holder.transaction():
        with Ledger.open(url, busy_timeout_s=0.1) as late:
            with pytest.raises(LedgerError, match="another process held its write lock too long"):
                late.transaction().__enter__()
            with late.read() as tx:
                assert evidence.verify(tx).ok


def test_a_process_frozen_inside_a_transaction_gives_the_lock_back_and_writes_nothing(
    url: str, start: Start
) -> None:
    worker = start("stop_inside", url)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    os.kill(worker.pid, signal.SIGSTOP)
    with Ledger.open(url, busy_timeout_s=20) as ledger:
        note(ledger)  # waits until the server has ended the frozen session
        with ledger.read() as tx:
            assert [r.kind for r in evidence.list_records(tx)] == ["note"]
            assert not contents.has(tx, "half")
        os.kill(worker.pid, signal.SIGCONT)
        worker.communicate("go\n", timeout=20)
        assert worker.returncode != 0
        with ledger.read() as tx:
            assert [r.kind for r in evidence.list_records(tx)] == ["note"]


def test_kill_9_inside_a_transaction_leaves_nothing_of_it(url: str, start: Start) -> None:
    worker = start("stop_inside", url)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    worker.kill()
    worker.wait()
    with Ledger.open(url) as ledger:
        note(ledger)
        with ledger.read() as tx:
            assert [r.kind for r in evidence.list_records(tx)] == ["note"]
            assert evidence.verify(tx).ok


@pytest.mark.parametrize("setting", ["synchronous_commit"])
def test_a_server_that_does_not_wait_for_the_disk_is_refused(
    postgresql: Server, name: str, url: str, setting: str
) -> None:
    postgresql.sql(f"ALTER DATABASE {name} SET {setting} = off")
    with pytest.raises(LedgerError, match=f"{setting} is off, and evidence must be durable"):
        Ledger.open(url)


def test_a_password_is_in_no_message(postgresql: Server) -> None:
    for bad in (
        "postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
        "postgresql+psycopg://u:hun@hunter2@127.0.0.1:1/x",
        "postgresql+psycopg://u:hun/hunter2@127.0.0.1:1/x",
        "postgresql+psycopg://u:hunter2@[::1/x",
        f"postgresql+psycopg://loop4:hunter2@/nonesuch?host={postgresql.folder}",
        f"postgresql+psycopg://hunter:hunter2@/postgres?host={postgresql.folder}",
    ):
        with pytest.raises(LedgerError) as caught:
            Ledger.open(bad)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(LedgerError, match="no such database; make it with `createdb`"):
        Ledger.open(postgresql.url("nonesuch"))
    with pytest.raises(LedgerError, match="'mysql' databases are not known"):
        Ledger.open("mysql://u@h/x")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE loop4.evidence SET kind = 'x'",
        "DELETE FROM loop4.evidence WHERE seq = 1",
        "TRUNCATE loop4.evidence",
        "INSERT INTO loop4.evidence (seq) VALUES (1)",
        "TRUNCATE loop4.contents",
    ],
)
def test_a_careless_statement_is_stopped_by_a_trigger(
    postgresql: Server, name: str, url: str, statement: str
) -> None:
    with Ledger.open(url) as ledger:
        note(ledger)
        with pytest.raises(psycopg.Error, match="append-only"):
            postgresql.sql(statement, name)
        with ledger.read() as tx:
            assert evidence.verify(tx).records == 1


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE loop4.evidence SET body = replace(body, '2', '7') WHERE seq = 2", "2 was changed"),
        ("UPDATE loop4.evidence SET at_ms = 9 WHERE seq = 3", "3 was changed"),
        ("DELETE FROM loop4.evidence WHERE seq = 2", "2 is missing"),
        ("DELETE FROM loop4.evidence WHERE seq = 3", "3 is missing"),
        ("UPDATE loop4.evidence SET seq = CASE seq WHEN 1 THEN 11 ELSE 1 END WHERE seq < 3", "1 "),
    ],
)
def test_what_somebody_changed_is_found_and_named(
    postgresql: Server, name: str, url: str, statement: str, problem: str
) -> None:
    with Ledger.open(url) as ledger:
        for number in range(1, 4):
            note(ledger, number)
        postgresql.sql("ALTER TABLE loop4.evidence DISABLE TRIGGER USER", name)
        postgresql.sql(statement, name)
        with ledger.read() as tx:
            report = evidence.verify(tx)
        assert not report.ok
        assert f"evidence record {problem}" in report.problem
        if problem == "3 is missing":
            with pytest.raises(EvidenceError, match="broken chain"):
                note(ledger)


def test_a_worker_of_an_older_version_writes_nothing_into_a_newer_ledger(
    postgresql: Server, name: str, url: str
) -> None:
    with Ledger.open(url) as ledger:
        note(ledger)
        postgresql.sql("UPDATE loop4.meta SET value = '3' WHERE key = 'schema_version'", name)
        with pytest.raises(LedgerError, match="schema version '3'"):
            note(ledger)


@given(st.text(st.sampled_from("\0\x01\x0201a\N{BULLET}")))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    column = PostgresqlText()
    stored = column.process_bind_param(text, DIALECT)
    assert stored is not None
    assert "\0" not in stored
    assert column.process_result_value(stored, DIALECT) == text


@pytest.fixture
def small_disk(postgresql: Server) -> Iterator[Path]:
    """A disk of 24 MB that the server's user may write."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk: run as root")
    with tempfile.TemporaryDirectory(prefix="loop4-disk-") as folder:
        Path(folder).chmod(0o755)
        disk = Path(folder) / "disk"
        disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)])  # noqa: S607
        if done.returncode != 0:
            pytest.skip("mounting is not allowed here: run where root may mount a tmpfs")
        try:
            owner = pwd.getpwnam("postgres")
            os.chown(disk, owner.pw_uid, owner.pw_gid)
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)  # noqa: S607


def fill(ledger: Ledger, ballast: str) -> None:
    for number in range(100):
        with ledger.transaction() as tx:
            contents.put(tx, {"number": number, "ballast": ballast})
            evidence.append(tx, "note", "", "", {"n": number}, at_ms=1)


def test_a_full_disk_is_one_clear_line_and_leaves_whole_transactions(small_disk: Path) -> None:
    server = new_server()
    try:
        server.start()
        prepare(server)
        server.sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        url = server.url(server.database("ready", "TABLESPACE small"))
        ballast = "".join(os.urandom(500_000).hex())
        with Ledger.open(url) as ledger:
            with pytest.raises(LedgerError, match="disk is full and nothing was written") as caught:
                fill(ledger, ballast)
            written = ledger.commits
            assert "\n" not in str(caught.value)
            assert written > 0
            subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)  # noqa: S607
            note(ledger)
            with ledger.read() as tx:
                report = evidence.verify(tx)
            assert (report.ok, report.records) == (True, written + 1)
    finally:
        remove(server)


def test_the_right_to_drive_is_taken_again_when_the_server_forgot_it(url: str) -> None:
    workers, alone = DatabaseRunner(url, by_leases=True), DatabaseRunner(url, by_leases=False)
    with workers:
        workers.keep()
        end = (
            b"SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d"
            b" ON l.database = d.oid WHERE locktype = 'advisory' AND datname = current_database()"
        )
        with psycopg.connect(PostgresqlDatabase(url, busy_timeout_s=1).conninfo) as other:
            other.execute(end)
        with alone:
            with pytest.raises(RunnerBusy):
                workers.keep()
        workers.keep()
        with pytest.raises(RunnerBusy):
            alone.acquire()
