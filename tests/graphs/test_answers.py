"""Answers to the interrupt: none of them is a decision, and five good ones are one execution."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command
from pydantic import ValidationError

from loop4.domain import ApprovalState, Json
from loop4.graphs.operations import compiled
from loop4.graphs.saver import open_saver
from loop4.graphs.state import RECURSION_LIMIT, RunState
from loop4.ledger import approvals
from tests.graphs.conftest import Play, Stage, assert_well, new_stage, run

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

RIGHT = "the id of the pending request"
UNKNOWN = "0" * 32

ANSWERS: list[Json] = [
    {"decisions": [{"type": "approve"}]},
    {"approval_id": "other"},
    {"approval_id": RIGHT},  # right, but nobody voted
    {"approval_id": RIGHT, "approve": True},
    {"approval_id": True},
    {"approval_id": [RIGHT]},
    {"approval-1": False},
    {UNKNOWN: {"approval_id": RIGHT}},
    {UNKNOWN: True},
    {"woken": "yes"},
    {},
    [],
    True,
    1,
    "approve",
    RIGHT,
]


@pytest.fixture
def stage(tmp_path: Path, place: Path | str) -> Stage:
    return new_stage(tmp_path, place)


class Client:
    """Somebody with direct access to the graph: more than any front end has."""

    def __init__(
        self, graph: CompiledStateGraph[RunState, None, RunState, RunState], run_id: str
    ) -> None:
        self._graph = graph
        self._config = cast(
            "RunnableConfig",
            {"configurable": {"thread_id": run_id}, "recursion_limit": RECURSION_LIMIT},
        )

    async def answer(self, value: Json) -> None:
        try:
            await self._graph.ainvoke(Command(resume=value), self._config, durability="sync")
        except (ValidationError, RuntimeError):
            return

    async def is_asking(self) -> bool:
        snapshot = await self._graph.aget_state(self._config)
        return snapshot.next == ("approve",) and bool(snapshot.tasks[0].interrupts)


@asynccontextmanager
async def client_of(play: Play, run_id: str) -> AsyncIterator[Client]:
    async with open_saver(data=play.stage.data, db=play.stage.db) as saver:
        yield Client(compiled(play.session.fleet, saver), run_id)


def filled(answer: Json, approval_id: str) -> Json:
    """The answer with the real id where it says RIGHT."""
    if isinstance(answer, dict):
        return {k: filled(v, approval_id) for k, v in answer.items()}
    if isinstance(answer, list):
        return [filled(v, approval_id) for v in answer]
    return approval_id if answer == RIGHT else answer


def test_no_answer_stands_in_for_a_vote(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            async with client_of(play, asked.run_id) as client:
                for answer in ANSWERS:
                    await client.answer(filled(answer, asked.approval.approval_id))
                    assert await client.is_asking(), answer
                    assert play.toy.effects == [], answer
                    assert play.acts() == (), answer
                    (pending,) = play.pending()
                    assert pending.approval.approval_id == asked.approval.approval_id, answer
            assert play.vote(asked.approval.approval_id)
            await play.resolved()
            assert_well(play)

    run(story())


def test_an_answer_after_the_deadline_leads_to_a_person_and_to_no_act(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert play.vote(asked.approval.approval_id)
            play.toy.run((asked.approval.expires_ms - play.toy.clock.now_ms()) // 1000 + 1)
            async with client_of(play, asked.run_id) as client:
                await client.answer({"approval_id": asked.approval.approval_id})
            assert play.toy.effects == []
            await play.second()
            assert play.toy.effects == []
            assert play.acts() == ()

    run(story())


def test_an_answer_with_a_superseded_request_asks_anew(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.toy.run(1)
            with play.ledger.transaction() as tx:
                approvals.supersede(
                    tx, asked.approval.approval_id, "test", now_ms=play.toy.clock.now_ms()
                )
            async with client_of(play, asked.run_id) as client:
                await client.answer({"approval_id": asked.approval.approval_id})
                assert await client.is_asking()
            (new,) = play.pending()
            assert new.approval.approval_id != asked.approval.approval_id
            assert play.toy.effects == []

    run(story())


def test_the_right_answer_twice_acts_once(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.vote(asked.approval.approval_id)
            async with client_of(play, asked.run_id) as client:
                for _ in range(2):
                    await client.answer({"approval_id": asked.approval.approval_id})
            await play.resolved()
            assert_well(play)

    run(story())


def test_five_resumes_at_once_are_one_execution(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            votes = [play.vote(asked.approval.approval_id) for _ in range(5)]
            assert votes == [True, False, False, False, False]
            await asyncio.gather(*(play.session.runner.resume() for _ in range(5)))
            await play.resolved()
            assert play.toy.effects == ["roll_back orders 41"]
            assert_well(play)

    run(story())


def test_five_answers_straight_into_the_graph_are_one_execution(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.vote(asked.approval.approval_id)
            async with client_of(play, asked.run_id) as client:
                answer: Json = {"approval_id": asked.approval.approval_id}
                await asyncio.gather(*(client.answer(answer) for _ in range(5)))
            assert play.toy.effects == ["roll_back orders 41"]
            assert [r.approval.state for r in play.requests()] == [ApprovalState.CONSUMED]
            assert len(play.acts()) == 1
            assert play.chain_holds()

    run(story())
