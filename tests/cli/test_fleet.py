"""`loop4 fleet`: a pause is somebody's, is written down, and ends or is ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from loop4.policies.people import Person, render, token_digest

TOKEN = "a long random string"  # noqa: S105  (of nobody)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    policies = tmp_path / "operations" / "policies"
    policies.mkdir(parents=True)
    (policies / "people.yaml").write_text(
        render([Person("dana", ("on-call",), token_digest(TOKEN))])
    )
    monkeypatch.setenv("LOOP4_OPERATIONS", str(policies.parent))
    monkeypatch.setenv("LOOP4_DATA", str(tmp_path))
    monkeypatch.setenv("LOOP4_TOKEN", TOKEN)
    Ledger.open(tmp_path / "ledger.db").close()
    return tmp_path


def changes(data: Path) -> list[object]:
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        assert evidence.verify(tx).ok
        return [(r.body["person"], r.body["value"]) for r in evidence.list_records(tx)]


def test_pause_and_unpause_carry_the_name_of_the_token(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "status"]) == 0
    assert "not paused" in capsys.readouterr().out
    assert main(["fleet", "pause", "--reason", "storm", "--until", "2126-12-24T18:00:00Z"]) == 0
    assert "paused by dana" in capsys.readouterr().out
    assert main(["fleet", "status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["paused"] is True
    assert told["parameters"]["paused"]["set_by"] == "dana"
    assert main(["fleet", "unpause", "--reason", "over"]) == 0
    assert main(["fleet", "unpause", "--reason", "over"]) == 0
    capsys.readouterr()
    assert main(["fleet", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paused"] is False
    assert changes(data) == [("dana", "yes"), ("dana", None)]


@pytest.mark.parametrize(
    ("arguments", "token", "code", "told"),
    [
        (["pause"], TOKEN, 2, "--reason"),
        (
            ["pause", "--reason", "r", "--until", "soon"],
            TOKEN,
            2,
            "expected a moment with its zone",
        ),
        (["pause", "--reason", "r", "--until", "1999-01-01T00:00:00Z"], TOKEN, 1, "in the past"),
        (["pause", "--reason", "r"], "somebody else's", 1, "belongs to nobody"),
        (["pause", "--reason", "r"], "", 2, "LOOP4_TOKEN is not set"),
    ],
)
def test_a_pause_of_nobody_or_of_no_time_is_none(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    token: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", token)
    assert main(["fleet", *arguments]) == code
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert changes(data) == []


def test_status_tells_the_windows_that_hold_or_come(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "operations" / "policies" / "calendar.yaml").write_text(
        "apiVersion: loop4/v1\nkind: DutyCalendar\nmetadata: {name: duty}\nspec:\n  freezes:\n"
        "  - {name: long, from: '2020-01-01T00:00:00Z', until: '2120-01-01T00:00:00Z'}\n"
        "  - {name: past, from: '2020-01-01T00:00:00Z', until: '2020-01-02T00:00:00Z'}\n"
    )
    assert main(["fleet", "status"]) == 0
    out = capsys.readouterr().out
    assert "freeze long, everywhere, now until 2120" in out
    assert "past" not in out
