"""The compiled graph: `act` is reached from `gate` only, and what is checkpointed is plain and
harmless.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import cast

import ormsgpack
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from loop4.graphs import ask_agents, notices, plan
from loop4.graphs.fleet import Fleet
from loop4.graphs.guard import GraphViolation, guarded
from loop4.graphs.operations import WAYS, compiled
from loop4.graphs.saver import ShortVersionSaver
from loop4.graphs.state import CHANNELS, RECURSION_LIMIT, RunState
from loop4.graphs.steps import Item
from tests.graphs.conftest import Stage, breach, run

Edges = set[tuple[str, str]]


@pytest.fixture
def edges(stage: Stage) -> Edges:
    """The drawn edges of the compiled graph, subgraphs opened."""

    async def drawn() -> Edges:
        async with stage.opened() as play:
            graph = compiled(play.session.fleet, None)
            assert list(graph.get_subgraphs()) == []
            return {(e.source, e.target) for e in graph.get_graph(xray=True).edges}

    return run(drawn())


def reachable(edges: Edges, without: str) -> set[str]:
    seen, ahead = {"__start__"}, ["__start__"]
    while ahead:
        here = ahead.pop()
        for source, target in edges:
            if source == here and target not in seen and target != without:
                seen.add(target)
                ahead.append(target)
    return seen


def test_the_only_way_into_act_is_the_gate(edges: Edges) -> None:
    assert {source for source, target in edges if target == "act"} == {"gate"}


def test_the_gate_dominates_act(edges: Edges) -> None:
    assert "act" in reachable(edges, without="")
    assert "act" not in reachable(edges, without="gate")


def test_an_edge_round_the_gate_would_be_seen(edges: Edges) -> None:
    assert "act" in reachable(edges | {("agents", "act")}, without="gate")


def test_the_router_follows_exactly_the_drawn_ways(edges: Edges) -> None:
    fixed = {("__start__", "triage"), ("triage", "agents"), ("agents", "plan")}
    routed = {
        (source, "__end__" if target == "end" else target)
        for source, targets in WAYS.items()
        for target in targets
    }
    assert edges == fixed | routed


@pytest.mark.parametrize(
    "answer",
    [
        Command(goto="act"),
        None,
        [("next", "act")],
        {"next": "act"},
        {"next": "gate", "permit": "mine"},
        {"next": "gate", "severity": None},
        {"next": "gate", "severity": {"SEV": 1}},
        {"next": "gate", "agents": [1]},
        {"next": "gate", "step": True},
        {"next": "gate", "step": 0.5},
        {},
    ],
    ids=str,
)
def test_a_node_that_answers_anything_else_than_its_part_of_the_state_stops(
    answer: object,
) -> None:
    async def node(state: RunState) -> RunState:
        return cast("RunState", answer)

    with pytest.raises(GraphViolation):
        run(_awaited(guarded("plan", node, WAYS["plan"])))


async def _awaited(node: object) -> None:
    await node({})  # type: ignore[operator]  # a guarded node, whatever LangGraph calls it


def test_every_checkpoint_is_plain_and_small(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.vote(asked.approval.approval_id)
            await play.resolved()
            config: RunnableConfig = {"configurable": {"thread_id": asked.run_id}}
            path = str(stage.data / "checkpoints.db")
            async with ShortVersionSaver.from_conn_string(path) as saver:
                graph = compiled(play.session.fleet, saver)
                states = [s.values async for s in graph.aget_state_history(config)]
            assert len(states) > 10
            for state in states:
                assert set(state) <= CHANNELS
                assert json.loads(json.dumps(state)) == state
                assert len(json.dumps(state)) < 2_000

    run(story())


class _Command:
    """Packs as a call of os.system."""

    def __init__(self, marker: Path) -> None:
        self.line = f"touch {shlex.quote(str(marker))}"


def _pack(value: object) -> object:
    if isinstance(value, _Command):
        return ormsgpack.Ext(0, ormsgpack.packb(("os", "system", value.line)))
    raise TypeError(type(value).__name__)


def test_a_crafted_checkpoint_does_not_run(stage: Stage, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"

    async def up_to_the_question() -> str:
        stage.bad_deploy()
        async with stage.opened() as play:
            return (await play.asked()).run_id

    async def onwards() -> None:
        async with stage.opened() as play:
            play.vote(play.pending()[0].approval.approval_id)
            await play.session.runner.resume()

    run_id = run(up_to_the_question())
    with sqlite3.connect(stage.data / "checkpoints.db") as rows:
        newest = "thread_id = ? ORDER BY checkpoint_id DESC LIMIT 1"
        (rowid, blob) = rows.execute(
            f"SELECT rowid, checkpoint FROM checkpoints WHERE {newest}",  # noqa: S608  (constant)
            (run_id,),
        ).fetchone()
        checkpoint = ormsgpack.unpackb(blob)
        checkpoint["channel_values"]["severity"] = _Command(marker)
        crafted = ormsgpack.packb(checkpoint, default=_pack)
        rows.execute("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", (crafted, rowid))
    rows.close()
    run(onwards())
    assert not marker.exists()

    careless = JsonPlusSerializer(allowed_msgpack_modules=True)
    careless.loads_typed(("msgpack", crafted))
    assert marker.exists()  # the blob is a real one


def test_strict_deserialisation_and_no_tracing_are_set_before_langgraph_is_read() -> None:
    script = (
        "import loop4.graphs.approve, os\n"
        "from langgraph.checkpoint.serde import _msgpack\n"
        "assert _msgpack.STRICT_MSGPACK_ENABLED\n"
        "assert os.environ['LANGSMITH_TRACING'] == 'false'\n"
    )
    unset = ("LANGGRAPH_STRICT_MSGPACK", "LANGSMITH_TRACING")
    environ = {k: v for k, v in os.environ.items() if k not in unset}
    subprocess.run([sys.executable, "-c", script], check=True, env=environ)


def test_a_run_in_a_circle_ends_at_our_own_limit_and_a_person_owns_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = 0

    def back_to_the_agents(fleet: Fleet, state: RunState) -> RunState:
        nonlocal visits
        visits += 1
        return {"next": "agents"}

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            play.toy.run(10)
            await play.session.runner.handle(breach(stage))
            assert visits <= RECURSION_LIMIT
            (violation,) = play.records("violation")
            assert "circle" in str(violation.body["what"])
            assert [i.state for i in play.incidents()] == ["escalated"]
            assert play.open_runs() == ()
            assert await play.session.runner.resume() == ()

    monkeypatch.setattr(plan, "plan", back_to_the_agents)
    run(story())


@pytest.mark.parametrize("answer", [Command(goto="act"), {"permit": "mine"}], ids=str)
def test_a_node_that_breaks_out_fails_its_run_before_anything_happens(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    async def breaks_out(fleet: Fleet, state: RunState) -> object:
        return answer

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            play.toy.run(10)
            await play.session.runner.handle(breach(stage))
            assert play.toy.effects == []
            assert stage.files() == []
            (violation,) = play.records("violation")
            assert "agents" in str(violation.body["what"])
            assert [i.state for i in play.incidents()] == ["escalated"]
            assert play.open_runs() == ()
            for _ in range(3):  # a person is told, once
                await play.session.runner.resume()
            (page,) = stage.files()
            assert "the run failed" in (stage.operations / page).read_text(encoding="utf-8")
            (told,) = [r for r in play.records("decision") if r.body["effect"] == "allow"]
            assert told.body["tool"] == "oncall.page"
            assert play.toy.effects == []
            assert play.chain_holds()

    monkeypatch.setattr(ask_agents, "ask_agents", breaks_out)
    run(story())


def test_a_promised_page_that_the_gate_denies_is_written_down_and_not_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks_out(fleet: Fleet, state: RunState) -> object:
        return {"permit": "mine"}

    def no_item(*_: object) -> Item:
        return Item("incident", "oncall.page", "elsewhere", "orders", {"path": "/etc/page"}, "")

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            play.toy.run(10)
            await play.session.runner.handle(breach(stage))
            for _ in range(3):
                await play.session.runner.resume()
            (denied,) = play.records("decision")
            assert denied.body["effect"] == "deny"
            assert stage.files() == []
            assert play.chain_holds()

    monkeypatch.setattr(ask_agents, "ask_agents", breaks_out)
    monkeypatch.setattr(notices, "page_of", no_item)
    run(story())
