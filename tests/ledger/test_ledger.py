from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from loop4.errors import LedgerError, LedgerUnavailable
from loop4.ledger import budgets, contents, evidence, intents, outbox, runner, schema
from loop4.ledger.ledger import Ledger

Start: TypeAlias = "Callable[..., subprocess.Popen[str]]"
Race: TypeAlias = "Callable[[Sequence[Sequence[object]]], list[list[str]]]"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_what_a_block_wrote_is_there_after_it_and_gone_after_an_error(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        kept = contents.put(tx, "kept")
    with contextlib.suppress(KeyError), ledger.transaction() as tx:
        dropped = contents.put(tx, "dropped")
        raise KeyError
    with ledger.read() as tx:
        assert contents.has(tx, kept)
        assert not contents.has(tx, dropped)


def test_only_commits_that_wrote_something_are_counted(ledger: Ledger) -> None:
    assert ledger.commits == 0
    with ledger.transaction() as tx:
        contents.put(tx, 1)
        evidence.append(tx, "note", "", "", {}, at_ms=1)
    with ledger.transaction() as tx:
        contents.put(tx, 1)
    with ledger.read():
        pass
    assert ledger.commits == 1


def test_the_file_is_in_wal_mode_and_each_connection_syncs_fully(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.read() as tx:
        assert tx._connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert tx._connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert tx._connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_read_cannot_write(ledger: Ledger) -> None:
    with ledger.read() as tx, pytest.raises(LedgerError, match="inside a read"):
        contents.put(tx, 1)


def test_a_transaction_inside_a_transaction_is_refused_at_once(ledger: Ledger) -> None:
    with ledger.transaction(), pytest.raises(LedgerError, match="open in this thread already"):
        with ledger.transaction():
            pass
    with ledger.transaction() as tx:
        contents.put(tx, "and the ledger still works")


def test_threads_take_turns(ledger: Ledger) -> None:
    def work() -> None:
        for _ in range(20):
            with ledger.transaction() as tx:
                evidence.append(tx, "note", "", "", {}, at_ms=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as tx:
        report = evidence.verify(tx)
    assert (report.ok, report.records) == (True, 80)


def test_a_transaction_that_swallows_a_failed_statement_writes_nothing(ledger: Ledger) -> None:
    def swallow() -> None:
        with ledger.transaction() as tx:
            contents.put(tx, "before")
            with contextlib.suppress(LedgerError):
                tx.change(schema.contents.delete())

    with pytest.raises(LedgerError, match="earlier statement of this transaction failed"):
        swallow()
    with ledger.read() as tx:
        assert tx.rows(schema.contents.select()) == []


@pytest.mark.parametrize("value", ["lone surrogate \ud800", "at \udcff"])
def test_text_that_cannot_be_stored_is_one_clear_line(ledger: Ledger, value: str) -> None:
    with pytest.raises(LedgerError, match="a value cannot be stored"):
        _append(ledger, run_id=value)
    with pytest.raises(LedgerError, match="a value cannot be stored"):
        _append(ledger, at_ms=2**70)


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"folder '.*nowhere' does not exist; make it"):
        Ledger.open(tmp_path / "nowhere" / "ledger.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"read_only": True}, {"create": False}])
def test_a_missing_file_is_not_made_for_a_reader(
    tmp_path: Path, arguments: dict[str, bool]
) -> None:
    with pytest.raises(LedgerError, match="there is no such file"):
        Ledger.open(tmp_path / "ledger.db", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["0", "3", "one", ""])
def test_an_unknown_schema_version_is_refused_and_nothing_changes(
    tmp_path: Path, version: str
) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path).close()
    _sql(path, "UPDATE meta SET value = ? WHERE key = 'schema_version'", version)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=f"schema version '{version}', this Loop4 reads 2"):
        Ledger.open(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    _sql(path, "CREATE TABLE cookies (name TEXT)")
    with pytest.raises(LedgerError, match="another program's tables"):
        Ledger.open(path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("to do: buy milk\n" * 100)
    with pytest.raises(LedgerError, match="not an SQLite database") as caught:
        Ledger.open(path)
    assert "\n" not in str(caught.value)
    assert path.read_text().startswith("to do")


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        for number in range(50):
            evidence.append(tx, "note", "", "", {"n": number, "text": "x" * 500}, at_ms=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LedgerError, match="damaged; restore it") as caught:
        with Ledger.open(path) as ledger, ledger.read() as tx:
            evidence.verify(tx)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_clear_line_and_leaves_whole_transactions(
    tmp_path: Path, start: Start
) -> None:
    path = tmp_path / "ledger.db"
    out, _ = start("fill", path).communicate(timeout=20)
    written, commits, said = out.split(" ", 2)
    assert int(written) == int(commits) > 0
    assert said.startswith(f"ledger '{path}': ")
    assert "disk" in said
    assert "nothing was written" in said
    assert said.count("\n") == 1
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        assert evidence.verify(tx).ok
        assert evidence.verify(tx).records == int(written)
        assert len(tx.rows(schema.contents.select())) == int(written)
        evidence.append(tx, "note", "", "", {"after": "space was freed"}, at_ms=2)


def test_a_read_only_folder_is_one_clear_line(open_folder: Path, start: Start) -> None:
    open_folder.chmod(0o555)
    out, _ = start("write_as_nobody", open_folder / "ledger.db").communicate(timeout=20)
    assert "it cannot be opened; check that it exists and may be read and written" in out
    assert out.count("\n") == 1


def test_a_read_only_copy_cannot_be_written_but_can_be_verified(
    open_folder: Path, start: Start
) -> None:
    path = open_folder / "ledger.db"
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        evidence.append(tx, "note", "", "", {}, at_ms=1)
    path.chmod(0o444)
    open_folder.chmod(0o555)
    out, _ = start("write_as_nobody", path).communicate(timeout=20)
    assert "it cannot be written; check the permissions" in out
    assert out.count("\n") == 1
    assert start("read_as_nobody", path).communicate(timeout=20)[0] == "1\n"


def test_a_lock_that_another_process_keeps_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as holder, holder.transaction():
        with Ledger.open(path, busy_timeout_s=0.05) as late:
            with pytest.raises(LedgerError, match="another process held its write lock"):
                late.transaction().__enter__()
            with late.read() as tx:
                assert evidence.verify(tx).ok


def test_a_lock_that_stays_is_waited_for_in_full_once_and_then_briefly_until_it_is_free(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"

    def waited(late: Ledger) -> float:
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="another process held its write lock"):
            late.transaction().__enter__()
        return time.monotonic() - began

    with Ledger.open(path) as holder, Ledger.open(path, busy_timeout_s=1.0) as late:
        with holder.transaction():
            assert waited(late) > 0.9
            assert waited(late) < 0.8
        with late.transaction() as tx:
            evidence.append(tx, "note", "", "", {}, at_ms=1)
        with holder.transaction():
            assert waited(late) > 0.9, "it was free meanwhile"


def test_processes_that_open_a_new_folder_together_make_one_ledger(
    new_place: Callable[[], Path | str], race: Race
) -> None:
    words = race([("create", new_place())] * 4)
    fences = [int(word) for printed in words for word in printed]
    assert sorted(fences) == [1, 2, 3, 4]


def test_kill_9_inside_a_transaction_leaves_nothing_of_it(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        evidence.append(tx, "note", "", "", {}, at_ms=1)
    worker = start("stop_inside", path)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    assert path.with_name("ledger.db-wal").stat().st_size > 100_000  # part of it is on the disk
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    with Ledger.open(path) as ledger, ledger.transaction() as tx:
        assert evidence.verify(tx).ok
        assert [record.kind for record in evidence.list_records(tx)] == ["note"]
        assert tx.rows(schema.contents.select()) == []
        evidence.append(tx, "note", "", "", {}, at_ms=2)


def test_kill_9_at_any_moment_leaves_whole_transactions(place: Path | str, start: Start) -> None:
    seen = 0
    worker = start("act_for_ever", place)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdout.readline()
    worker.stdin.write("go\n")
    worker.stdin.flush()
    while seen < 60:
        seen = int(worker.stdout.readline())
    os.kill(worker.pid, signal.SIGKILL)
    rest, _ = worker.communicate()
    printed = [seen, *(int(line) for line in rest.splitlines() if line)]
    with Ledger.open(place) as ledger, ledger.read() as tx:
        written = [intent.action_id for intent in intents.list_intended(tx)]
        report = evidence.verify(tx)
        assert report.ok
        assert len(written) == report.records == budgets.used(tx, "k", 3600, 0)
        assert len(written) == len(tx.rows(schema.contents.select()))
        assert {record.action_id for record in evidence.list_records(tx)} == set(written)
        assert len(written) >= max(printed)  # what was told as committed is there


def test_fences_rise_over_ledgers_that_are_opened_again(place: Path | str) -> None:
    fences = []
    for _ in range(3):
        with Ledger.open(place) as ledger, ledger.transaction() as tx:
            fences.append(runner.next_fence(tx))
    assert fences == [1, 2, 3]


def _append(ledger: Ledger, *, run_id: str = "", at_ms: int = 1) -> None:
    with ledger.transaction() as tx:
        outbox.put(tx, run_id, "kind", {}, now_ms=at_ms)


def _sql(path: Path, statement: str, *values: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()
