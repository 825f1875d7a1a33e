"""Evidence for strangers: keys, checkpoints and exports on the command line, and an export checked
in a fresh environment that holds nothing but the file and the public key.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from loop4.canonical import canonical_bytes
from loop4.cli.main import main
from loop4.domain import Json
from loop4.ledger import evidence, signing
from loop4.ledger.chain import GENESIS, record_digest
from loop4.ledger.ledger import Ledger
from loop4.ledger.statements import sign_checkpoint
from loop4.ledger.tree import Range, leaf_hash

ROOT = Path(__file__).resolve().parents[2]
RECORDS = 8
SECRET = "fake-horse-battery-77"  # noqa: S105  (what must not leave)
Lines = list[dict[str, Json]]


@dataclass(frozen=True)
class Site:
    """What the operator has: data, keys, a second place, an export."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def elsewhere(self) -> Path:
        return self.root / "elsewhere"

    @property
    def private(self) -> Path:
        return self.root / "keys" / signing.PRIVATE_NAME

    @property
    def public(self) -> Path:
        return self.root / "keys" / signing.PUBLIC_NAME

    @property
    def export(self) -> Path:
        return self.root / "export.jsonl"

    def append(self, count: int, note: str = "") -> None:
        with Ledger.open(self.data / "ledger.db") as ledger, ledger.transaction() as tx:
            for number in range(count):
                body: dict[str, Json] = {"number": number, "password": SECRET, "note": note}
                evidence.append(tx, "note", f"INC-{number % 2}", "run", body, at_ms=number)


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LOOP4_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path)
    for name in ("data", "elsewhere", "keys"):
        (tmp_path / name).mkdir()
    made.append(RECORDS)
    signing.generate_keys(tmp_path / "keys")
    monkeypatch.setenv("LOOP4_DATA", str(made.data))
    monkeypatch.setenv("LOOP4_SIGNING_KEY", str(made.private))
    monkeypatch.setenv("LOOP4_CHECKPOINTS", str(made.elsewhere))
    return made


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Exit code, output and errors of `loop4 evidence ...`; a failure is one line without trace."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["evidence", *map(str, words)])
        shown = capsys.readouterr()
        if code and "--json" not in words:
            assert shown.out == ""
            assert shown.err.startswith("loop4: ")
            assert shown.err.count("\n") == 1
        return code, shown.out, shown.err

    return run


# What the stranger's interpreter runs: none of the parts that need a database can be imported.
STRANGER = """
import sys
for name in ("sqlalchemy", "dbos", "langgraph", "langchain_core", "psycopg", "alembic"):
    sys.modules[name] = None
from loop4.cli.main import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Stranger:
    """A fresh virtual environment, and a folder with what was handed over."""

    python: Path
    folder: Path

    def verify(self, *more: str) -> tuple[int, str, str]:
        words = ["evidence", "verify", "--export", "export.jsonl", "--key", "public.pem", *more]
        done = subprocess.run(
            [str(self.python), "-c", STRANGER, *words],
            cwd=self.folder,
            env={"HOME": str(self.folder), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that sees the packages and this tree, nothing else."""
    place = tmp_path_factory.mktemp("stranger") / "venv"
    venv.create(place, symlinks=True)
    (packages,) = (place / "lib").glob("python*/site-packages")
    installed = Path(typer.__file__).parents[1]  # where the packages are, linked in or not
    (packages / "handed.pth").write_text(f"{ROOT}\n{installed}\n", encoding="utf-8")
    return place / "bin" / "python"


@pytest.fixture
def stranger(site: Site, say: Say, fresh: Path, tmp_path: Path) -> Stranger:
    assert say("export", "--out", site.export)[0] == 0
    folder = tmp_path / "handed over"
    folder.mkdir()
    shutil.copy(site.export, folder / "export.jsonl")
    shutil.copy(site.public, folder / "public.pem")
    return Stranger(fresh, folder)


def edited(lines: Lines) -> Lines:
    _record(lines[3])["body"] = "{}"
    return lines


def removed(lines: Lines) -> Lines:
    return [*lines[:3], *lines[4:]]


def reordered(lines: Lines) -> Lines:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def truncated(lines: Lines) -> Lines:
    return lines[:-3]


def cut_before_the_end(lines: Lines) -> Lines:
    return [*lines[:-2], lines[-1]]


def forged(lines: Lines) -> Lines:
    """Rebuilt as a whole behind an edit; the owner's signature is still there."""
    _record(lines[3])["body"] = "{}"
    previous = GENESIS
    for line in lines[1:-1]:
        columns = _record(line)
        columns["previous"] = previous
        values = {k: v for k, v in columns.items() if isinstance(v, str | int)}
        previous = columns["digest"] = record_digest(values)
    return lines


def signed_by_another(lines: Lines) -> Lines:
    folder = Path("another")
    folder.mkdir()
    signer = signing.generate_keys(folder)
    lines, tree = forged(lines), Range()
    for line in lines[1:-1]:
        tree.append(leaf_hash(bytes.fromhex(str(_record(line)["digest"]))))
    again = sign_checkpoint(signer, "loop4-" + "0" * 32, tree.size, tree.root(), 1)
    return [*lines[:-1], {"checkpoint": again.as_json()}]


def _record(line: dict[str, Json]) -> dict[str, Json]:
    columns = line["record"]
    assert isinstance(columns, dict)
    return columns


def test_a_stranger_verifies_with_nothing_but_the_file_and_the_public_key(
    stranger: Stranger,
) -> None:
    code, out, err = stranger.verify()
    assert (code, err) == (0, ""), err
    assert out.startswith(f"evidence ok: {RECORDS} records, every column as it was signed\n")
    assert sorted(p.name for p in stranger.folder.iterdir()) == ["export.jsonl", "public.pem"]
    code, out, _ = stranger.verify("--json")
    answer = json.loads(out)
    assert (code, answer["ok"], answer["tampering"], answer["records"]) == (0, True, None, RECORDS)


@pytest.mark.parametrize(
    ("tamper", "named", "where"),
    [
        (edited, "edited", "record 3"),
        (removed, "removed", "record 3 is missing"),
        (reordered, "reordered", "record 3 stands behind record 4"),
        (truncated, "truncated", "it ends after 6 records without its signed checkpoint"),
        (cut_before_the_end, "truncated", "8 records were signed, the file ends with record 7"),
        (forged, "forged", "the chain was rebuilt"),
        (signed_by_another, "signed by another key", "the checkpoint at the end"),
    ],
)
def test_a_stranger_is_told_each_tampering_by_its_name(
    stranger: Stranger, tamper: Callable[[Lines], Lines], named: str, where: str
) -> None:
    path = stranger.folder / "export.jsonl"
    lines = tamper([json.loads(line) for line in path.read_text().splitlines()])
    path.write_bytes(b"".join(canonical_bytes(line) + b"\n" for line in lines))
    code, out, err = stranger.verify()
    assert (code, out) == (1, "")
    assert err.startswith(f"loop4: {named}: ")
    assert where in err
    assert err.count("\n") == 1
    code, out, _ = stranger.verify("--json")
    assert (code, json.loads(out)["tampering"]) == (1, named)


def test_a_stranger_who_kept_a_checkpoint_sees_a_ledger_that_was_set_back(
    site: Site, say: Say, stranger: Stranger
) -> None:
    assert say("checkpoint")[0] == 0
    (kept,) = site.elsewhere.iterdir()
    shutil.copy(kept, stranger.folder / "kept.json")
    code, out, _ = stranger.verify("--checkpoint", "kept.json")
    assert (code, out.splitlines()[-1]) == (0, "agrees with 1 checkpoint that was kept elsewhere")
    connection = sqlite3.connect(site.data / "ledger.db")
    for table in ("evidence", "checkpoints"):
        connection.execute(f"DROP TRIGGER {table}_no_delete")
        connection.execute(f"DELETE FROM {table}")  # noqa: S608
    connection.execute("DELETE FROM meta WHERE key IN ('evidence_head', 'evidence_peaks')")
    connection.execute("DELETE FROM sqlite_sequence")
    connection.commit()
    connection.close()
    site.append(RECORDS + 2, "written anew")
    kept.unlink()  # the second place was wiped too: the owner can sign, the stranger remembers
    assert say("export", "--out", stranger.folder / "export.jsonl")[0] == 0
    assert stranger.verify()[0] == 0
    code, _, err = stranger.verify("--checkpoint", "kept.json")
    assert code == 1
    assert err.startswith("loop4: rolled back: the first 8 records are not those that ")


def test_an_incidents_export_is_verified_and_a_record_taken_out_is_named(
    site: Site, say: Say
) -> None:
    out = site.root / "incident.jsonl"
    assert say("export", "--out", out, "--incident", "INC-1")[0] == 0
    code, said, _ = say("verify", "--export", out, "--key", site.public)
    assert code == 0
    assert said.startswith("evidence ok: 4 records of incident INC-1, every column")
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    code, _, err = say("verify", "--export", out, "--key", site.public)
    assert (code, err) == (1, "loop4: removed: 4 records were signed, 3 are there\n")


def test_an_export_leaves_the_ledger_alone_and_holds_no_secret(site: Site, say: Say) -> None:
    before = (site.data / "ledger.db").read_bytes()
    assert say("export", "--out", site.export)[0] == 0
    assert (site.data / "ledger.db").read_bytes() == before
    assert SECRET not in site.export.read_text()
    assert "redacted:" in site.export.read_text()


def test_keygen_makes_a_private_file_and_never_overwrites(tmp_path: Path, say: Say) -> None:
    (tmp_path / "keys").mkdir()
    code, out, _ = say("keygen", "--out", tmp_path / "keys", "--json")
    answer = json.loads(out)
    assert code == 0
    assert Path(answer["private"]).stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in out
    before = Path(answer["private"]).read_bytes()
    code, _, err = say("keygen", "--out", tmp_path / "keys")
    assert code == 2
    assert "exists and is not overwritten; name another folder" in err
    assert Path(answer["private"]).read_bytes() == before


def test_a_checkpoint_goes_to_the_second_place_and_verify_checks_both(site: Site, say: Say) -> None:
    code, out, _ = say("checkpoint")
    assert code == 0
    assert out.splitlines()[1] == f"copy in {site.elsewhere}"
    code, out, _ = say("verify")
    assert code == 0
    assert "checkpoints that agree: 1 in the ledger, 1 kept elsewhere" in out
    assert "not checked" not in out
    assert len(list(site.elsewhere.iterdir())) == 1
    code, out, _ = say("checkpoint", "--json")  # nothing new: the same
    assert (code, json.loads(out)["checkpoint"]["size"]) == (0, RECORDS)
    assert len(list(site.elsewhere.iterdir())) == 1


def test_without_a_second_place_it_is_said(
    site: Site, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOOP4_CHECKPOINTS")
    code, out, _ = say("checkpoint")
    assert code == 0
    assert out.splitlines()[1].startswith("no second place is set (LOOP4_CHECKPOINTS or --to): ")
    assert list(site.elsewhere.iterdir()) == []
    monkeypatch.delenv("LOOP4_SIGNING_KEY")
    assert "signatures not checked: give --key" in say("verify")[1]


def test_verify_names_a_ledger_that_was_set_back_to_a_backup(site: Site, say: Say) -> None:
    backup = site.root / "backup.db"
    shutil.copy(site.data / "ledger.db", backup)
    site.append(5)
    assert say("checkpoint")[0] == 0
    shutil.copy(backup, site.data / "ledger.db")
    for side in ("-wal", "-shm"):
        (site.data / f"ledger.db{side}").unlink(missing_ok=True)
    code, _, err = say("verify")
    assert code == 1
    assert "it signs 13 records, the chain has 8: its end was cut or it was rolled back" in err
    code, out, _ = say("verify", "--json")
    answer = json.loads(out)
    assert (code, answer["ok"], answer["checkpoints"]["elsewhere"]) == (1, False, 1)
    for words in (("checkpoint",), ("export", "--out", site.export)):
        code, _, err = say(*words)
        assert code == 1
        assert "13 were signed before" in err
    assert not site.export.exists()


@pytest.mark.parametrize(
    ("environment", "words", "said"),
    [
        ({"LOOP4_SIGNING_KEY": ""}, ("checkpoint",), "no key to sign with; set LOOP4_SIGNING_KEY"),
        ({"LOOP4_SIGNING_KEY": "none.pem"}, ("checkpoint",), "cannot be read (No such file"),
        ({"LOOP4_SIGNING_KEY": "{public}"}, ("checkpoint",), "may be read or changed by others"),
        ({"LOOP4_CHECKPOINTS": "{data}"}, ("checkpoint",), "lies in the data folder"),
        ({"LOOP4_CHECKPOINTS": "{root}/no"}, ("checkpoint",), "does not exist; make it, or mount"),
        ({"LOOP4_CHECKPOINTS": "{root}/no"}, ("verify",), "does not exist; make it, or mount"),
        ({}, ("export", "--out", "{root}/no/file"), "its folder does not exist; make it first"),
        ({}, ("export", "--out", "{data}"), "is a folder; name a file"),
        ({}, ("export", "--out", "{root}/x", "--incident", ""), "--incident is empty"),
        ({}, ("export", "--out", "{root}/x", "--incident", "NO"), "no evidence of incident 'NO'"),
        ({}, ("verify", "--export", "{root}/x"), "--export needs --key"),
        ({}, ("verify", "--export", "{root}/x", "--key", "{public}"), "cannot be read (No such"),
        ({}, ("verify", "--export", "{root}", "--key", "{public}"), "cannot be read (Is a dir"),
        ({}, ("verify", "--export", "{public}", "--key", "{public}"), "is not usable JSON"),
        ({}, ("verify", "--export", "{public}", "--key", "{private}"), "this is a private key"),
        (
            {},
            ("verify", "--export", "{public}", "--key", "{public}", "--data", "{data}"),
            "--export is checked alone",
        ),
    ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(
    site: Site,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: tuple[str, ...],
    said: str,
) -> None:
    places = {
        "root": site.root,
        "data": site.data,
        "public": site.public,
        "private": site.private,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(**places))
    before = sorted(site.root.rglob("*"))
    code, _, err = say(*(word.format(**places) for word in words))
    assert code == 2
    assert said in err
    after = [p for p in sorted(site.root.rglob("*")) if not p.name.endswith(("-wal", "-shm"))]
    assert after == [p for p in before if not p.name.endswith(("-wal", "-shm"))]


def test_the_commands_of_strangers_load_no_database() -> None:
    code = (
        "import sys, loop4.ledger.export_check, loop4.ledger.second_place\n"
        "assert not {'sqlalchemy', 'sqlite3', 'pydantic', 'yaml'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
