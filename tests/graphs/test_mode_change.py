"""A running fleet under modes that people change: the very next decision goes by them, in either
kind of database, and a restart forgets none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from loop4.domain import Effect, Mode, RequesterKind, ToolClass
from loop4.graphs.assemble import AGENTS
from loop4.graphs.gate import Judged, judge_item
from loop4.graphs.mode_change import WIDEN, Changed, cast_vote, change_mode
from loop4.graphs.state import RunState
from loop4.graphs.steps import Item
from loop4.ledger import approvals, modes
from loop4.policies.mode_change import ModeChange
from loop4.policies.people import Person
from tests.graphs.conftest import Play, Stage, new_stage, run

WRITE = ToolClass.WRITE
MIRA = Person("mira", ("on-call",), "")
ADE = Person("ade", ("policy-author",), "")


@pytest.fixture
def stage(tmp_path: Path, place: Path | str) -> Stage:
    """A stage whose ledger lies in either kind of database."""
    return new_stage(tmp_path, place)


def change(play: Play, person: Person, mode: Mode | None, service: str = "") -> Changed:
    wanted = ModeChange("lab", service, WRITE, mode, play.session.fleet.catalogue.names())
    fleet = play.session.fleet
    with play.ledger.transaction() as tx:
        return change_mode(tx, fleet.policy, wanted, person, "because", fleet.clock.now_ms())


def approve(play: Play, approval_id: str, person: Person) -> bool:
    """Whether the vote brought a widening into force."""
    fleet = play.session.fleet
    with play.ledger.transaction() as tx:
        now_ms = fleet.clock.now_ms()
        _, carried = cast_vote(tx, fleet.policy, approval_id, person, True, now_ms)
    return carried is not None and carried.is_done


async def judged(play: Play) -> Judged:
    """What the fleet would decide now about giving orders its good revision back."""
    (incident,) = play.incidents()
    item = Item(
        agent="remediation",
        tool="deployments.roll_back",
        target="orders",
        service="orders",
        arguments={"service": "orders", "to_revision": 41},
        reason="tried",
        evidence=(),
        runbook="",
        requester="jonas",
    )
    state: RunState = {"incident_id": incident.incident_id, "run_id": "r", "context": "complete"}
    return await judge_item(play.session.fleet, state, item)


def test_a_narrower_mode_stops_the_act_that_waited_for_its_vote(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert change(play, MIRA, Mode.OBSERVE).outcome == "done"
            assert play.vote(asked.approval.approval_id)
            await play.second()
            last = [
                r for r in play.records("decision") if r.body["tool"] == "deployments.roll_back"
            ][-1]
            assert (last.body["effect"], last.body["mode"]) == ("deny", "observe")
        async with stage.opened() as play:  # a restart forgets no mode
            for _ in range(5):
                await play.second()
            assert (await judged(play)).verdict.mode is Mode.OBSERVE
            assert play.toy.effects == []
            assert play.chain_holds()

    run(story())


def test_a_mode_that_is_narrowed_between_the_verdict_and_the_intent_stops_the_act(
    stage: Stage,
) -> None:
    opened: list[Play] = []

    def narrow(point: str) -> None:
        if point == "before_intent":
            change(opened[0], MIRA, Mode.OBSERVE, "orders")

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened(passing=narrow) as play:
            opened.append(play)
            asked = await play.asked()
            assert play.vote(asked.approval.approval_id)
            for _ in range(3):
                await play.second()
            (refused,) = play.records("not_done")
            assert refused.body["reason"] == "the mode was narrowed to observe meanwhile"
            assert play.acts() == ()
            assert play.toy.effects == []
            assert play.chain_holds()

    run(story())


def test_no_agent_of_the_fleet_can_propose_a_widening() -> None:
    assert all(WIDEN not in agent.may_propose for agent in AGENTS)


def test_modes_hold_from_the_next_decision_on_and_widen_only_with_a_vote(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            await play.asked()
            assert (await judged(play)).verdict.mode is Mode.ACT
            change(play, MIRA, Mode.SUGGEST, "orders")
            verdict = (await judged(play)).verdict
            assert (verdict.mode, verdict.effect) == (Mode.SUGGEST, Effect.REQUIRE_APPROVAL)
            asked = change(play, ADE, Mode.ACT, "orders")
            assert asked.outcome == "asked"
            assert asked.request is not None
            assert (await judged(play)).verdict.mode is Mode.SUGGEST
            approval_id = asked.request.approval.approval_id
            assert not approve(play, approval_id, ADE)
            assert (await judged(play)).verdict.mode is Mode.SUGGEST
            other = Person("noor", ("policy-author",), "")
            assert approve(play, approval_id, other)
            assert (await judged(play)).verdict.mode is Mode.ACT
        async with stage.opened() as play:
            assert (await judged(play)).verdict.mode is Mode.ACT
            with play.ledger.read() as tx:
                (row,) = modes.rows(tx)
            assert (row.approval_id, row.problem) == (approval_id, "")
            assert play.chain_holds()

    run(story())


def test_a_widening_that_waits_is_no_questions_of_an_incident(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            first = await play.asked()
            change(play, MIRA, Mode.OBSERVE, "gateway")
            asked = change(play, MIRA, Mode.SUGGEST, "gateway").request
            assert asked is not None
            await play.session.runner.watch()
            await play.session.runner.resume()
            assert {r.approval.approval_id for r in play.pending()} == {
                first.approval.approval_id,
                asked.approval.approval_id,
            }
            play.toy.run(asked.approval.expires_ms // 1000 - play.toy.clock.now_ms() // 1000 + 1)
            await play.session.runner.resume()
            with play.ledger.read() as tx:
                closed = approvals.get(tx, asked.approval.approval_id)
            assert closed is not None
            assert closed.approval.state.value == "expired"
            noor = Person("noor", ("on-call",), "")
            assert not approve(play, asked.approval.approval_id, noor)
            assert play.session.fleet.policy.mode_for(WRITE, "lab", "gateway") is Mode.ACT
            with play.ledger.read() as tx:
                mode = play.session.fleet.in_force(tx).mode_for(WRITE, "lab", "gateway")
            assert mode is Mode.OBSERVE

    run(story())


@pytest.mark.parametrize("person", ["health", "remediation", "signal"])
def test_an_agent_neither_asks_for_more_nor_narrows_nor_votes(stage: Stage, person: str) -> None:
    async def story() -> None:
        agent = Person(person, ("on-call", "policy-author"), "")
        async with stage.opened() as play:
            for mode in (Mode.OBSERVE, Mode.ACT, None):
                assert change(play, agent, mode).outcome == "refused"
            change(play, MIRA, Mode.OBSERVE)
            asked = change(play, MIRA, Mode.ACT).request
            assert asked is not None
            assert not approve(play, asked.approval.approval_id, agent)
            with play.ledger.read() as tx:
                assert [s.mode for s in modes.read(tx)] == [Mode.OBSERVE]
            assert len(play.records("mode_refused")) == 3

    run(story())


def test_a_person_cannot_widen_by_a_request_to_the_graph(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            await play.asked()
            (incident,) = play.incidents()
            item = Item(
                agent="person",
                tool="fleet.widen_mode",
                target="mode.lab/*/write",
                service="orders",
                arguments={
                    "environment": "lab",
                    "service": "",
                    "class": "write",
                    "mode": "act",
                    "before": "observe",
                },
                reason="more",
                evidence=(),
                runbook="",
                requester="jonas",
            )
            state: RunState = {
                "incident_id": incident.incident_id,
                "run_id": "r",
                "context": "complete",
            }
            found = await judge_item(play.session.fleet, state, item)
            assert found.candidate.action.requester_kind is RequesterKind.PERSON
            assert found.verdict.effect is Effect.DENY

    run(story())
