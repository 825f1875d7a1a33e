"""Short channel versions: they rise, and threads of the library's own saver go on under them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TypedDict, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt

from loop4.errors import LedgerError, LedgerUnavailable
from loop4.graphs.saver import ShortVersionSaver, open_saver


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


def test_a_file_of_checkpoints_that_is_none_is_refused_before_anything_goes_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "checkpoints.db").write_bytes(b"not a database" * 500)

    async def opened() -> None:
        async with open_saver(data=tmp_path, db=None):
            raise AssertionError("it was opened")

    with pytest.raises(LedgerError, match=r"not a database; .*the ledger alone") as caught:
        asyncio.run(opened())
    assert not isinstance(caught.value, LedgerUnavailable)


def test_a_file_of_checkpoints_that_is_locked_passes_and_the_thread_goes_on(
    tmp_path: Path,
) -> None:
    async def play() -> int:
        async with open_saver(data=tmp_path, db=None) as saver:
            assert isinstance(saver, ShortVersionSaver)
            await saver.conn.execute("PRAGMA busy_timeout=50")
            with closing(sqlite3.connect(tmp_path / "checkpoints.db", timeout=5)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(LedgerUnavailable, match="database is locked"):
                    await graph(saver).ainvoke({"seen": 0}, CONFIG, durability="sync")
                assert not saver.conn.in_transaction
                other.rollback()
            await graph(saver).ainvoke({"seen": 0}, CONFIG, durability="sync")
            done = await graph(saver).ainvoke(Command(resume="yes"), CONFIG, durability="sync")
            return int(done["seen"])

    assert asyncio.run(play()) == 11
