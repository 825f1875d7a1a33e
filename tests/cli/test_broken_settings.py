"""`loop4 run` and `loop4 worker` as a newcomer starts them with something broken: one line that
says what, where and what to do, a non-zero exit, and nothing begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from loop4.ledger.ledger import Ledger
from loop4.ledger.signing import generate_keys
from tests.cli.conftest import Desk
from tests.cli.test_bad_disk import disk, remount

RUN = ("run", "--port", "0")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def newcomer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("LOOP4_METRICS_URL", NOBODY)
    for name in ("DB", "SIGNING_KEY", "CHECKPOINTS", "HEARTBEAT_URL"):
        monkeypatch.delenv(f"LOOP4_{name}", raising=False)
    return desk


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("clients.yaml", "a: [", "clients.yaml:"),
        ("clients.yaml", "apiVersion: loop4/v1\nkind: Clients\nmetadata: {name: c}\n", "spec"),
        ("people.yaml", "a: [", "people.yaml:"),
        ("fleet.yaml", "a: [", "fleet.yaml:"),
        ("services.yaml", "", "services.yaml"),
    ],
)
@pytest.mark.parametrize(
    "command", [RUN, ("worker", "--db", "postgresql+psycopg://nobody@127.0.0.1:1/none")]
)
def test_a_broken_policy_file_is_told_at_the_start(
    newcomer: Desk, command: tuple[str, ...], name: str, text: str, said: str
) -> None:
    newcomer.policy(name).write_text(text, encoding="utf-8")
    code, err = newcomer.refused(*command)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("name", ["services.yaml", "clients.yaml", "people.yaml"])
def test_a_policy_file_that_cannot_be_read_is_told_at_the_start(newcomer: Desk, name: str) -> None:
    path = newcomer.policy(name)
    path.unlink(missing_ok=True)
    path.mkdir()  # root reads everything but a folder
    code, err = newcomer.refused(*RUN)
    assert code == 2
    assert f"{name}: cannot be read: Is a directory" in err


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///x.db",
        "mysql://u:hunter2@h/d",
        "nonsense",
        "postgresql+psycopg://",
        "ledger.db",
        "postgresql+psycopg://u:hunter2@127.0.0.1:notaport/d",
        "postgresql+psycopg://u:hunter2@127.0.0.1:1/d",
        "postgresql+psycopg://u:hunter2@127.0.0.1/d?nonsense=1",
        "postgresql+psycopg://u:hun@ter2@127.0.0.1/d",
    ],
)
@pytest.mark.parametrize("by_option", [True, False])
def test_a_wrong_database_is_one_line_without_its_password(
    newcomer: Desk, monkeypatch: pytest.MonkeyPatch, url: str, by_option: bool
) -> None:
    if by_option:
        code, out, err = newcomer.say("worker", "--db", url)
    else:
        monkeypatch.setenv("LOOP4_DB", url)
        code, out, err = newcomer.say("worker")
    assert code in (1, 2)
    assert out == ""
    assert err.startswith("loop4: ")
    assert err.count("\n") == 1
    assert "hunter2" not in err
    assert "ter2" not in err
    if not url.startswith("postgresql+psycopg://u"):
        assert code == 2
        assert "expected postgresql+psycopg://USER@HOST/DATABASE" in err
        assert not newcomer.data.exists()


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 500)


def foreign_ledger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")


def newer_ledger(path: Path) -> None:
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
        ledger.commit()


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("engine.db", garbage, "move that file away: the ledger holds what is open"),
        ("engine.db", Path.mkdir, "cannot be opened"),
        ("checkpoints.db", garbage, "move checkpoints.db away"),
        ("checkpoints.db", Path.mkdir, "move checkpoints.db away"),
        ("ledger.db", garbage, "not an SQLite database"),
        ("ledger.db", foreign_ledger, "another program's tables"),
        ("ledger.db", newer_ledger, "use the Loop4 that wrote it"),
        ("ledger.db", Path.mkdir, "cannot be opened"),
        ("runner.lock", Path.mkdir, "cannot be opened"),
    ],
)
def test_a_data_folder_with_a_broken_file_is_one_line_and_the_file_stays(
    newcomer: Desk, name: str, make: Callable[[Path], None], said: str
) -> None:
    newcomer.data.mkdir()
    path = newcomer.data / name
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    code, out, err = newcomer.say(*RUN)
    assert (code, out) == (1, "")
    assert err.startswith("loop4: ")
    assert err.count("\n") == 1
    assert said in err
    assert path.is_dir() or path.read_bytes() == before


def test_a_data_folder_that_cannot_be_written_is_one_line(newcomer: Desk) -> None:
    with disk(newcomer.root / "disk", "size=8m") as folder:
        (folder / "there").mkdir()
        remount(folder, "ro")
        for data in ("there", "new"):
            code, out, err = newcomer.say(*RUN, "--data", folder / data)
            assert (code, out) == (1, "")
            assert err.count("\n") == 1
            assert "Read-only file system" in err
            assert "name a" in err


def test_a_data_folder_that_is_a_file_is_one_line(newcomer: Desk) -> None:
    newcomer.data.write_text("mine")
    code, err = newcomer.refused(*RUN)
    assert code == 1
    assert "name another with --data" in err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SIGNING_KEY", "/nowhere/key", "expected a private key"),
        ("SIGNING_KEY", "{root}/open.key", "chmod 600"),
        ("SIGNING_KEY", "{root}/junk.key", "private key"),
        ("SIGNING_KEY", "{root}", "key"),
        ("CHECKPOINTS", "{root}/elsewhere", "loop4 evidence keygen"),
        ("HEARTBEAT_URL", "localhost", "expected a URL"),
        ("METRICS_URL", "localhost:9090", "expected a URL"),
        ("WORLD", "lab:/nowhere.json", "is a lab running there?"),
        ("WORLD", "moon:base", "moon"),
        ("OPERATIONS", "/nowhere", "expected a folder with policies/services.yaml"),
        ("RULES", "/nowhere", "/nowhere"),
    ],
)
def test_a_broken_setting_is_one_line_that_says_what_to_do(
    newcomer: Desk, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    junk, open_key = newcomer.root / "junk.key", newcomer.root / "open.key"
    for path, mode in ((junk, 0o600), (open_key, 0o644)):
        path.write_text("not a key")
        path.chmod(mode)
    (newcomer.root / "elsewhere").mkdir()
    monkeypatch.setenv(f"LOOP4_{name}", value.format(root=newcomer.root))
    _, err = newcomer.refused(*RUN)
    assert said in err


@pytest.mark.parametrize("folder", ["missing", "data", "a-file"])
def test_a_second_place_that_is_none_is_one_line(
    newcomer: Desk, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    keys = newcomer.root / "keys"
    keys.mkdir()
    generate_keys(keys)
    private = next(p for p in keys.iterdir() if p.stat().st_mode & 0o077 == 0)
    (newcomer.root / "a-file").write_text("")
    monkeypatch.setenv("LOOP4_SIGNING_KEY", str(private))
    monkeypatch.setenv("LOOP4_CHECKPOINTS", str(newcomer.root / folder))
    code, err = newcomer.refused(*RUN)
    assert code in (1, 2)
    assert folder in err
