"""`status`, `why`, `handoff` and `undo` over the data folder of a real incident."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.cli.story import FACTS_SHOWN
from loop4.lab.folder import make_operations
from loop4.ledger import events, intents
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner import RunnerLock, runner_of
from loop4.policies.load import load_policy
from loop4.policies.people import People, Person, render, token_digest
from tests.graphs.conftest import Stage

DANA = "dana's long token"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """An incident that a person approved and telemetry proved."""
    root = tmp_path_factory.mktemp("incident")
    make_operations(root / "operations")
    path = root / "operations" / "policies" / "people.yaml"
    people = People.load(path).persons
    path.write_text(render([*people, Person("dana", ("on-call",), token_digest(DANA))]), "utf-8")
    stage = Stage(root)

    async def play() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            request = await play.asked()
            play.vote(request.approval.approval_id)
            await play.resolved()

    asyncio.run(play())
    return stage


@pytest.fixture
def act(stage: Stage) -> intents.Intent:
    with Ledger.open(stage.data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        return next(a for a in intents.list_all(tx) if "path" not in a.arguments)


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(words) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


def test_why_tells_what_happened_and_on_which_grounds(
    stage: Stage, act: intents.Intent, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(stage.data))
    text = told(capsys, "why", "INC-2026-001", *data)
    for words in (
        "SEV1 of orders in lab, resolved",
        "needs a person's approval",
        "the limit is 2500",
        "mira approved request",
        "deployments.roll_back on orders: done",
        "telemetry was read: pass",
    ):
        assert words in text, text
    by_action = json.loads(told(capsys, "why", act.action_id[:10], "--json", *data))
    assert by_action["kind"] == "action"
    assert "approved under" in by_action["summary"]
    by_request = json.loads(told(capsys, "why", act.approval_id, "--json", *data))
    assert by_request["kind"] == "request"
    assert "mira yes" in by_request["summary"]
    assert any("mira approved" in line["what"] for line in by_request["lines"])


@pytest.mark.parametrize("name", ["INC-2026-999", "abcdef", "", "\x1b[2J"])
def test_why_of_an_unknown_id_is_one_line(
    stage: Stage, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text = told(capsys, "why", "--data", str(stage.data), "--", name, code=2)
    assert text.startswith("loop4: ")
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_handoff_lists_incidents_acts_and_their_proof(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(stage.data))
    long_ago = "9999d"  # the toy's clock is not today's
    text = told(capsys, "handoff", "--since", long_ago, *data)
    assert "1 incidents, 1 acts, 0 requests wait" in text
    assert "guilty_change:orders" in text
    assert "telemetry: pass" in text
    body = json.loads(told(capsys, "handoff", "--since", long_ago, "--json", *data))
    assert [a["state"] for a in body["acts"]] == ["done"]
    for wrong in ("8", "h", "0h", "-1h", "8 h", "8y", "999999999h"):
        assert "such as 8h" in told(capsys, "handoff", f"--since={wrong}", *data, code=2)


def test_status_says_who_is_on_duty(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("--data", str(stage.data))
    assert "nobody is on duty" in told(capsys, "status", *data)
    with RunnerLock(stage.data):
        assert runner_of(stage.data) == str(os.getpid())
        body = json.loads(told(capsys, "status", "--json", *data))
    assert body["runner"] == str(os.getpid())
    assert body["incidents_open"] == []
    assert body["intents_unknown"] == 0
    assert runner_of(stage.data) == ""


def test_undo_asks_for_the_declared_inverse_in_the_persons_name_once(
    stage: Stage,
    act: intents.Intent,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--data", str(stage.data), "--operations", str(stage.operations))
    monkeypatch.delenv("LOOP4_TOKEN", raising=False)
    assert "LOOP4_TOKEN is not set" in told(capsys, "undo", act.action_id, *options, code=2)
    monkeypatch.setenv("LOOP4_TOKEN", "nobody's")
    assert "belongs to nobody" in told(capsys, "undo", act.action_id, *options, code=1)
    monkeypatch.setenv("LOOP4_TOKEN", DANA)
    assert "expected one" in told(capsys, "undo", "abc", *options, code=2)
    assert "no world is set" in told(capsys, "undo", act.action_id, *options, code=2)
    with RunnerLock(stage.data):  # a fleet on duty: it takes the request from the ledger
        body = json.loads(told(capsys, "undo", act.action_id[:12], "--json", *options))
    assert (body["requester"], body["tool"]) == ("dana", "deployments.roll_back")
    assert body["arguments"] == {"service": "orders", "to_revision": 42}
    assert body["incident"] == ""
    with Ledger.open(stage.data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        (event,) = events.unassigned(tx)
    assert event.requester == "dana"
    with RunnerLock(stage.data):
        assert "asked for before" in told(capsys, "undo", act.action_id, *options, code=2)

    async def placed() -> None:
        async with stage.opened() as play:
            await play.session.runner.resume()
            decision = play.records("decision")[-1]
            assert decision.body["requester"] == "dana"
            assert decision.body["tool"] == "deployments.roll_back"
            assert stage.toy.effects == ["roll_back orders 41"], "no undo without the gate's leave"

    asyncio.run(placed())


def test_undo_leaves_what_was_not_done_and_what_has_no_inverse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", DANA)
    text = told(capsys, "undo", "0" * 64, "--data", str(tmp_path), code=2)
    assert text.startswith("loop4: ")


def test_every_fact_that_a_story_shows_is_one_of_the_gates() -> None:
    assert set(FACTS_SHOWN) <= set(load_policy(None).facts)
