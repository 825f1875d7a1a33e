"""A widening that is voted on over HTTP: the same rules, one transaction, the fleet's own files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from loop4.cli.main import main
from loop4.domain import Mode, ToolClass
from loop4.ledger import outbox
from tests.api.conftest import Door
from tests.api.test_front_door import vote_path
from tests.graphs.conftest import run
from tests.tokens import give_tokens, token_of

YES = {"decision": "approve"}


@pytest.fixture
def say(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, object]]:
    """A person's command about the fleet's mode, beside the running service; its JSON."""
    give_tokens(door.stage.operations)
    places = ["--data", str(door.stage.data), "--operations", str(door.stage.operations)]

    def command(person: str, *words: str) -> dict[str, object]:
        monkeypatch.setenv("LOOP4_TOKEN", token_of(person))
        capsys.readouterr()
        assert main([*words, "--reason", "r", "--json", *places]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return command


def mode(door: Door) -> Mode:
    assert door.play is not None
    with door.play.ledger.read() as tx:
        present = door.play.session.fleet.in_force(tx)
    return present.mode_for(ToolClass.WRITE, "lab", "orders")


def test_a_vote_over_http_brings_a_widening_into_force(
    door: Door, say: Callable[..., dict[str, object]]
) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            assert mode(door) is Mode.ACT
            await asyncio.to_thread(say, "mira", "fleet", "mode", "set", "lab", "write", "observe")
            assert mode(door) is Mode.OBSERVE
            asked = await asyncio.to_thread(
                say, "mira", "fleet", "mode", "set", "lab", "write", "act"
            )
            path = vote_path(str(asked["approval_id"]))
            answer = await open_door.post(path, YES, token_of("mira"))
            assert answer.status_code == 409
            assert "requested this action and cannot vote" in answer.json()["detail"]
            assert (await open_door.post(path, YES, door.machine)).status_code == 403
            answer = await open_door.post(path, YES, token_of("jonas"))
            assert "needs the role 'policy-author'" in answer.json()["detail"]
            assert mode(door) is Mode.OBSERVE
            answer = await open_door.post(path, YES, token_of("ade"))
            assert answer.status_code == 200
            assert answer.json()["carried_out"] == {
                "done": True,
                "scope": "lab write",
                "mode": "act",
                "reasons": [],
            }
            assert mode(door) is Mode.ACT
            assert (await open_door.post(path, YES, token_of("ade"))).status_code == 409
            assert door.play is not None
            with door.play.ledger.read() as tx:
                assert outbox.due(tx, door.stage.toy.clock.now_ms()) == ()
            assert door.play.chain_holds()

    run(play())


def test_a_vote_while_the_policy_files_cannot_be_read_counts_not_at_all(
    door: Door, say: Callable[..., dict[str, object]]
) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            await asyncio.to_thread(say, "mira", "fleet", "mode", "set", "lab", "write", "observe")
            asked = await asyncio.to_thread(
                say, "mira", "fleet", "mode", "set", "lab", "write", "act"
            )
            bindings = door.stage.operations / "policies" / "bindings.yaml"
            known = bindings.read_text("utf-8")
            bindings.write_text("rules: [", "utf-8")
            path = vote_path(str(asked["approval_id"]))
            answer = await open_door.post(path, YES, token_of("ade"))
            assert answer.status_code == 503
            assert "policy files cannot be loaded" in answer.json()["detail"]
            assert mode(door) is Mode.OBSERVE
            bindings.write_text(known, "utf-8")
            answer = await open_door.post(path, YES, token_of("ade"))
            assert answer.status_code == 200
            assert mode(door) is Mode.ACT

    run(play())
