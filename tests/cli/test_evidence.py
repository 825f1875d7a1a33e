from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    with Ledger.open(folder / "ledger.db") as ledger, ledger.transaction() as tx:
        evidence.append(tx, "verdict", "INC-1", "run-1", {"effect": "allow"}, at_ms=0)
        evidence.append(
            tx, "outcome", "INC-1", "run-1", {"text": "red \x1b[31m"}, at_ms=1, action_id="a" * 64
        )
        evidence.append(tx, "verdict", "INC-2", "", {}, at_ms=2)
    return folder


def tamper(data: Path, statement: str) -> None:
    connection = sqlite3.connect(data / "ledger.db")
    connection.execute("DROP TRIGGER IF EXISTS evidence_no_update")
    connection.execute("DROP TRIGGER IF EXISTS evidence_no_delete")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_show_prints_the_records_in_order(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "show", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == [
        "1",
        "1970-01-01",
        "00:00:00Z",
        "verdict",
        "INC-1",
        "run-1",
    ]
    assert '{"effect": "allow"}' in out
    assert "\x1b" not in out  # stored text cannot drive the terminal


def test_show_can_be_narrowed_and_prints_json(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evidence", "show", "--data", str(data), "--json", "--incident", "INC-1"]
    assert main([*arguments, "--kind", "verdict"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["seq"] == 1
    assert record["body"] == {"effect": "allow"}
    assert main(["evidence", "show", "--data", str(data), "--incident", "INC-9"]) == 0
    assert capsys.readouterr().out == "no evidence of incident 'INC-9'\n"


def test_verify_says_that_all_is_well_and_gives_an_anchor(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", "verify", "--data", str(data)]) == 0
    said, unsigned, anchor = capsys.readouterr().out.splitlines()
    assert unsigned.startswith("no signed checkpoint yet")
    assert said.startswith("evidence ok: 3 records")
    noted = anchor.removeprefix("anchor ")
    assert main(["evidence", "verify", "--data", str(data), "--anchor", noted]) == 0
    wrong = f"3:{'0' * 64}"
    assert main(["evidence", "verify", "--data", str(data), "--anchor", wrong]) == 1
    assert "evidence record 3 was replaced" in capsys.readouterr().err


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_verify_fails_and_names_the_record(
    data: Path, seq: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(data, f"UPDATE evidence SET at_ms = 77 WHERE seq = {seq}")  # noqa: S608  (a number)
    assert main(["evidence", "verify", "--data", str(data)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"loop4: evidence record {seq} was changed: ")
    assert captured.err.count("\n") == 1
    assert main(["evidence", "verify", "--data", str(data), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["records"], answer["first_bad_seq"]) == (False, 3, seq)


def test_verify_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "verify", "--data", str(data), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["ok", "records", "first_bad_seq", "problem", "head", "checkpoints"]
    assert answer["ok"] is True


@pytest.mark.parametrize("anchor", ["3", "0:" + "0" * 64, "x:y", "3:abc"])
def test_an_anchor_that_is_none_is_a_usage_error(
    data: Path, anchor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", "verify", "--data", str(data), "--anchor", anchor]) == 2
    assert "expected SEQ:DIGEST" in capsys.readouterr().err


def test_the_data_folder_of_the_settings_is_the_default(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOOP4_DATA", str(data))
    assert main(["evidence", "verify"]) == 0
    assert "3 records" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_folder_without_a_ledger_is_one_clear_line_and_stays_empty(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", command, "--data", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("loop4: ledger '")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_and_its_commands_load_no_graph_and_no_database_before_they_run() -> None:
    code = (
        "import sys, loop4.cli.evidence, loop4.cli.approvals\n"
        "assert not {'sqlalchemy', 'rich', 'langgraph', 'yaml'} & set(sys.modules)\n"
        "import loop4.ledger.evidence, loop4.ledger.approvals\n"
        "assert not {'langgraph', 'langchain_core', 'pydantic', 'httpx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
