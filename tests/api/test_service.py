"""The fleet on duty over a toy world: the real engine, the real ledger, the real graph."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableConfig
from sqlalchemy import insert

from loop4.cli.main import main
from loop4.ledger import outbox
from loop4.ledger.checkpoints import Signing, compare
from loop4.ledger.schema import parameters
from loop4.ledger.second_place import copies_in, copy_to
from loop4.ledger.signing import generate_keys
from loop4.ledger.statements import sign_checkpoint
from tests.api.conftest import Door
from tests.api.test_front_door import EVENTS, vote_path, webhook
from tests.graphs.conftest import assert_well, run


async def seconds(door: Door, count: int) -> None:
    """Toy seconds, each a moment in which the engine works and the pump looks."""
    assert door.service is not None
    for _ in range(count):
        door.stage.toy.run(1)
        await door.service.pump()
        await asyncio.sleep(0.15)


async def up_to_the_question(door: Door) -> str:
    assert door.play is not None
    for _ in range(60):
        await seconds(door, 1)
        if door.play.pending():
            return door.play.pending()[0].approval.approval_id
    raise AssertionError(door.play.story())


def test_an_alert_over_http_ends_resolved_after_one_vote_over_http(door: Door) -> None:
    async def play() -> None:
        door.stage.bad_deploy()
        door.stage.toy.run(20)
        async with door.opened(engine=True) as open_door:
            answer = await open_door.post(EVENTS, webhook(service="gateway"))
            assert answer.status_code == 202
            approval_id = await up_to_the_question(door)
            voted = await open_door.post(
                vote_path(approval_id), {"decision": "approve"}, door.token
            )
            assert voted.status_code == 200
            assert door.play is not None
            for _ in range(60):
                if not door.play.open_runs():
                    break
                await seconds(door, 1)
            assert_well(door.play)
            assert door.stage.toy.effects == ["roll_back orders 41"]
            with door.play.ledger.read() as tx:
                assert outbox.due(tx, door.stage.toy.clock.now_ms()) == ()

    run(play())


def test_without_engine_and_checkpoints_the_ledger_alone_finishes_with_one_effect(
    door: Door,
) -> None:
    async def begin() -> str:
        door.stage.bad_deploy()
        door.stage.toy.run(20)
        async with door.opened(engine=True) as open_door:
            await open_door.post(EVENTS, webhook(service="gateway"))
            return await up_to_the_question(door)

    async def finish(approval_id: str) -> None:
        async with door.opened(engine=True) as open_door:
            answer = await open_door.post(
                vote_path(approval_id), {"decision": "approve"}, door.token
            )
            assert answer.status_code == 200
            assert door.play is not None
            for _ in range(80):
                if not door.play.open_runs():
                    break
                for request in door.play.pending():
                    await open_door.post(
                        vote_path(request.approval.approval_id),
                        {"decision": "approve"},
                        door.token,
                    )
                await seconds(door, 1)
            story = door.play.story()
            assert [i.state for i in door.play.incidents()] == ["resolved"], story
            assert door.stage.toy.effects == ["roll_back orders 41"], story
            assert door.play.chain_holds()

    approval_id = run(begin())
    lose(door.stage.data)
    run(finish(approval_id))


def lose(data: Path) -> None:
    """Somebody deletes all but the ledger."""
    lost = [p for p in data.iterdir() if p.name.startswith(("engine.db", "checkpoints.db"))]
    assert lost
    for path in lost:
        path.unlink()


def test_limits_that_are_set_in_the_ledger_come_into_force_while_it_runs(door: Door) -> None:
    async def play() -> None:
        async with door.opened(engine=True):
            assert door.service is not None
            assert door.play is not None
            assert limit_of(door, "runs") == 8
            with door.play.ledger.transaction() as tx:
                for name, value in (("queue.runs.per_worker", "2"), ("queue.events.in_all", "x")):
                    tx.change(insert(parameters).values(name=name, value=value))
            await door.service.pump()
            assert limit_of(door, "runs") == 2
            assert limit_of(door, "events") == 4, "what is no number changes nothing"

    run(play())


def limit_of(door: Door, queue: str) -> int:
    assert door.service is not None
    return next(q.per_worker for q in door.service._limits if q.name == queue)


def test_what_ended_long_ago_is_forgotten_and_the_evidence_stays(door: Door) -> None:
    async def play() -> None:
        door.stage.bad_deploy()
        async with door.opened(engine=True) as open_door:
            play, service = door.play, door.service
            assert play is not None
            assert service is not None
            await play.asked()
            play.vote(play.pending()[0].approval.approval_id, approve=True)
            await play.resolved()
            saver = play.session.runner.legs.saver
            config: RunnableConfig = {"configurable": {"thread_id": "run-INC-2026-001-1"}}
            assert await saver.aget_tuple(config) is not None
            records = len(play.records())
            await service.tick("retention", 0)
            assert await saver.aget_tuple(config) is not None
            door.stage.toy.clock.at_ms += 8 * 86_400_000
            await service.tick("retention", 0)
            assert await saver.aget_tuple(config) is None
            assert len(play.records()) == records
            assert open_door.service is service

    run(play())


def test_the_evidence_is_signed_on_its_schedule_and_kept_in_the_second_place(
    door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, elsewhere = tmp_path / "keys", tmp_path / "elsewhere"
    keys.mkdir()
    elsewhere.mkdir()
    signer = generate_keys(keys)

    async def play() -> None:
        door.stage.bad_deploy()
        async with door.opened() as open_door:
            play, service = open_door.play, open_door.service
            assert play is not None
            assert service is not None
            await play.asked()
            ledger = play.session.ledger
            assert await service.tick("checkpoint", 0) == "no key to sign with"
            service.signing = Signing(signer, elsewhere)
            records = len(play.records())
            assert await service.tick("checkpoint", 0) == f"{records} records signed"
            assert await service.tick("checkpoint", 0) == "nothing new"
            with ledger.read() as tx:
                report = compare(tx, [signer.public], copies_in(elsewhere))
            assert (report.problem, report.in_ledger, report.copies) == ("", 1, 1)
            shutil.move(elsewhere, tmp_path / "gone")
            door.stage.toy.clock.at_ms += 600_000
            play.vote(play.pending()[0].approval.approval_id, approve=False)
            assert "cannot be read" in await service.tick("checkpoint", 0)
            shutil.move(tmp_path / "gone", elsewhere)
            assert report.latest is not None
            longer = sign_checkpoint(signer, report.latest.origin, 9999, b"x" * 32, 1)
            copy_to(elsewhere, longer)
            assert "9999 were signed before" in await service.tick("checkpoint", 0)

    run(play())
    assert "it was rolled back; nothing is signed over it" in capsys.readouterr().err


def test_limits_that_the_command_sets_come_into_force_while_it_runs(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", door.token)
    places = ["--data", str(door.stage.data), "--operations", str(door.stage.operations)]
    command = ["fleet", "limits", "set", "runs", "--per-worker", "3", "--reason", "less"]

    async def play() -> None:
        async with door.opened(engine=True):
            assert door.service is not None
            assert limit_of(door, "runs") == 8
            assert await asyncio.to_thread(main, [*command, *places]) == 0
            await door.service.pump()
            assert limit_of(door, "runs") == 3
            clear = ["fleet", "limits", "clear", "runs", "--reason", "over"]
            assert await asyncio.to_thread(main, [*clear, *places]) == 0
            await door.service.pump()
            assert limit_of(door, "runs") == 8

    run(play())


def test_a_worker_whose_ticks_all_come_late_still_sweeps_once_for_a_backlog(door: Door) -> None:
    async def play() -> None:
        door.stage.bad_deploy()
        door.stage.toy.run(20)
        async with door.opened():
            service, clock = door.service, door.stage.toy.clock
            assert service is not None
            late = [clock.now_ms() - 60_000 + 2_000 * n for n in range(10)]
            told = [await service.tick("health", at_ms) for at_ms in late]
            assert told[0] != "0 new", "the breach is seen by the first of them"
            assert told[0].endswith(" new")
            assert told[1:] == ["done since"] * 9
            door.stage.toy.run(2)
            assert (await service.tick("health", clock.now_ms())).endswith(" new")
            clock.at_ms -= 3_600_000  # an operator sets the clock back
            assert (await service.tick("health", clock.now_ms())) != "done since"

    run(play())
