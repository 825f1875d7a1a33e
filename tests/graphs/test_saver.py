"""Short channel versions: they rise, and threads of the library's own saver go on under them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypedDict, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt

from loop4.graphs.saver import ShortVersionSaver


class Count(TypedDict):
    seen: int


def graph(saver: BaseCheckpointSaver[str]) -> CompiledStateGraph[Count, None, Count, Count]:
    async def one(state: Count) -> Count:
        return {"seen": state["seen"] + 1}

    async def ask(state: Count) -> Count:
        interrupt("go on?")
        return {"seen": state["seen"] + 10}

    built = StateGraph(Count)
    built.add_node("one", one)
    built.add_node("ask", ask)
    built.add_edge(START, "one")
    built.add_edge("one", "ask")
    built.add_edge("ask", END)
    return built.compile(checkpointer=saver)


CONFIG = cast("RunnableConfig", {"configurable": {"thread_id": "t"}})


def test_versions_rise_past_the_librarys_own_and_stay_short(tmp_path: Path) -> None:
    async def versions() -> list[str]:
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as library:
            found = [library.get_next_version(None, None)]
        async with ShortVersionSaver.from_conn_string(str(tmp_path / "b.db")) as ours:
            for _ in range(12):
                found.append(ours.get_next_version(found[-1], None))
        return found

    found = asyncio.run(versions())
    assert found == sorted(set(found))
    assert {len(version) for version in found[1:]} == {8}


def test_a_thread_that_the_librarys_saver_began_goes_on(tmp_path: Path) -> None:
    async def both() -> int:
        path = str(tmp_path / "checkpoints.db")
        async with AsyncSqliteSaver.from_conn_string(path) as library:
            await graph(library).ainvoke({"seen": 0}, CONFIG, durability="sync")
        async with ShortVersionSaver.from_conn_string(path) as ours:
            done = await graph(ours).ainvoke(Command(resume="yes"), CONFIG, durability="sync")
            snapshot = await graph(ours).aget_state(CONFIG)
        assert snapshot.next == ()
        return int(done["seen"])

    assert asyncio.run(both()) == 11
