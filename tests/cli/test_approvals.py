from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from loop4.cli.main import main
from loop4.domain import Approval, ApprovalState, JsonObject
from loop4.ledger import approvals, events, evidence, outbox
from loop4.ledger.ledger import Ledger
from loop4.policies.people import Person, render, token_digest

Say: TypeAlias = "Callable[..., int]"

TOKEN = "a long random string"  # noqa: S105  (of nobody)
HOUR_MS = 3_600_000


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    people = tmp_path / "operations" / "policies" / "people.yaml"
    people.parent.mkdir(parents=True)
    people.write_text(
        render(
            [
                Person("dana", ("on-call",), token_digest(TOKEN)),
                Person("lee", ("developer",), token_digest("lee's")),
                Person("kim", ("on-call",), token_digest("kim's")),
            ]
        )
    )
    monkeypatch.setenv("LOOP4_OPERATIONS", str(people.parent.parent))
    monkeypatch.setenv("LOOP4_DATA", str(tmp_path))
    monkeypatch.setenv("LOOP4_TOKEN", TOKEN)
    now_ms = time.time_ns() // 1_000_000
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.transaction() as tx:
        for name, requester, need, expires_ms in (
            ("ap-1", "remediation", 1, now_ms + HOUR_MS),
            ("ap-2", "dana", 1, now_ms + HOUR_MS),
            ("ap-late", "remediation", 1, now_ms - HOUR_MS),
            ("ap-two", "remediation", 2, now_ms + HOUR_MS),
        ):
            approvals.request(
                tx,
                Approval(
                    name,
                    "act-1",
                    "digest",
                    "policy",
                    ApprovalState.PENDING,
                    requester,
                    "on-call",
                    need,
                    now_ms - 2 * HOUR_MS,
                    expires_ms,
                ),
                incident_id="INC-1",
                run_id="run-1",
                payload={
                    "action_requests": [
                        {
                            "name": "deployments.roll_back",
                            "args": {"service": "orders", "to_revision": 1},
                            "description": "touches 5000 bp\n\x1b[2Jof traffic",
                        }
                    ]
                },
            )
    return tmp_path


def state(data: Path, approval_id: str) -> str:
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        known = approvals.get(tx, approval_id)
    assert known is not None
    return known.approval.state.value


def votes(data: Path) -> list[object]:
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        assert evidence.verify(tx).ok
        return [record.body["person"] for record in evidence.list_records(tx, kinds={"vote"})]


def test_list_shows_what_a_person_can_still_answer(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["approvals", "list"]) == 0
    out = capsys.readouterr().out
    assert "ap-1  pending  until 20" in out
    assert 'deployments.roll_back {"service": "orders", "to_revision": 1}' in out
    assert "INC-1, asked by remediation; role on-call, 0 of 1 votes" in out
    assert "touches 5000 bp" in out
    assert "\x1b" not in out
    assert "ap-late" not in out
    assert main(["approvals", "list", "--all"]) == 0
    assert "ap-late  expired" in capsys.readouterr().out


def test_list_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["approvals", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["approval_id"] for row in rows] == ["ap-1", "ap-2", "ap-two"]
    assert rows[0]["payload"]["action_requests"][0]["name"] == "deployments.roll_back"
    assert rows[0]["votes"] == []


def test_approve_votes_as_the_person_who_holds_the_token(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["approvals", "approve", "ap-1"]) == 0
    assert capsys.readouterr().out == (
        "dana approved ap-1: approved (1 of 1); `loop4 resume` continues the run\n"
    )
    assert state(data, "ap-1") == "approved"
    assert votes(data) == ["dana"]
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        assert [row.payload["run_id"] for row in outbox.due(tx, 2**50)] == ["run-1"]


def test_reject_closes_a_request(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["approvals", "reject", "ap-two", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["accepted"], answer["state"], answer["person"]) == (True, "rejected", "dana")
    assert state(data, "ap-two") == "rejected"


def test_a_quorum_is_counted_over_people(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["approvals", "approve", "ap-two"]) == 0
    assert "pending (1 of 2)" in capsys.readouterr().out
    assert main(["approvals", "approve", "ap-two"]) == 1
    assert capsys.readouterr().err == "loop4: vote refused: 'dana' voted already\n"
    monkeypatch.setenv("LOOP4_TOKEN", "kim's")
    assert main(["approvals", "approve", "ap-two"]) == 0
    assert state(data, "ap-two") == "approved"


@pytest.mark.parametrize(
    ("token", "approval_id", "code", "said", "counted"),
    [
        ("", "ap-1", 2, "LOOP4_TOKEN is not set", []),
        ("guess", "ap-1", 1, "belongs to nobody in", []),
        ("lee's", "ap-1", 1, "'lee' needs the role 'on-call'", ["lee"]),
        (TOKEN, "ap-2", 1, "'dana' requested this action", ["dana"]),
        (TOKEN, "ap-late", 1, "expired", ["dana"]),
        (TOKEN, "ap-9", 1, "approval 'ap-9' is unknown", ["dana"]),
    ],
)
@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_a_vote_that_must_not_count_is_one_clear_line(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    token: str,
    approval_id: str,
    code: int,
    said: str,
    counted: list[object],
) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", token)
    assert main(["approvals", verb, approval_id]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert votes(data) == counted
    assert state(data, "ap-1") == state(data, "ap-2") == "pending"


def test_a_refused_vote_as_json_exits_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["approvals", "approve", "ap-2", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["accepted"], answer["state"]) == (False, "pending")
    assert "requested this action" in answer["reason"]


def test_without_people_or_operations_nobody_votes(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["approvals", "approve", "ap-1", "--operations", str(data / "nowhere")]) == 2
    assert "people.yaml: cannot be read" in capsys.readouterr().err
    monkeypatch.delenv("LOOP4_OPERATIONS")
    assert main(["approvals", "approve", "ap-1"]) == 2
    assert "pass --operations DIR" in capsys.readouterr().err
    assert votes(data) == []


def test_voting_makes_no_ledger_where_there_is_none(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = data / "empty"
    empty.mkdir()
    assert main(["approvals", "approve", "ap-1", "--data", str(empty)]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_show_tells_the_action_and_its_history(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(data / "ledger.db") as ledger, ledger.transaction() as tx:
        body: JsonObject = {"effect": "require_approval", "rules": ["wide"], "reasons": ["why"]}
        evidence.append(tx, "decision", "INC-1", "run-1", body, at_ms=1, action_id="act-1")
    assert main(["approvals", "reject", "ap-1"]) == 0
    capsys.readouterr()
    assert main(["approvals", "show", "ap-1"]) == 0
    out = capsys.readouterr().out
    assert 'deployments.roll_back {"service": "orders", "to_revision": 1}' in out
    assert "gate: require_approval by wide; why" in out
    assert "vote: dana no" in out
    assert main(["approvals", "show", "ap-1", "--json"]) == 0
    assert [h["kind"] for h in json.loads(capsys.readouterr().out)["history"]] == [
        "decision",
        "vote",
    ]
    assert main(["approvals", "show", "nobody"]) == 1
    assert "'nobody' is unknown" in capsys.readouterr().err


def test_edit_asks_for_the_changed_action_in_the_persons_name(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ms = time.time_ns() // 1_000_000
    with Ledger.open(data / "ledger.db") as ledger, ledger.transaction() as tx:
        approvals.request(
            tx,
            Approval(
                "ap-full",
                "act-2",
                "digest",
                "policy",
                ApprovalState.PENDING,
                "remediation",
                "on-call",
                1,
                now_ms,
                now_ms + HOUR_MS,
            ),
            incident_id="INC-1",
            run_id="run-1",
            payload={
                "action_requests": [
                    {
                        "name": "deployments.roll_back",
                        "args": {"service": "orders", "to_revision": 1},
                        "description": "",
                    }
                ],
                "loop4": {"target": "orders", "service": "orders", "environment": "lab"},
            },
        )
    assert main(["approvals", "edit", "ap-full", "--set", "to_revision"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err
    assert main(["approvals", "edit", "ap-1", "--set", "to_revision=2"]) == 1
    assert "does not say which service" in capsys.readouterr().err
    assert state(data, "ap-full") == "pending"
    assert main(["approvals", "edit", "ap-full", "--set", "to_revision=2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accepted"] is True
    assert state(data, "ap-full") == "rejected"
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        (event,) = events.unassigned(tx)
    assert event.event_id == said["event_id"]
    assert event.requester == "dana"
    assert event.request == {
        "tool": "deployments.roll_back",
        "target": "orders",
        "arguments": {"service": "orders", "to_revision": 2},
    }
