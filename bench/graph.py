"""One incident through the whole graph, against the bare langgraph graph with the same visits.

    python bench/graph.py --json

A pair is one incident through Loop4 and the same path through a bare `StateGraph`: same node names,
supersteps, interrupts and writes (what Loop4's own nodes wrote, replayed), the same saver, the same
durability and the same disk for the checkpoints; the ledger lies on tmpfs. Agents return fixed
findings over a small world in memory; the clock is moved by hand. Both sides take turns in going
first; the first pairs warm up and are not counted.

`ratio_bare` is the median over the pairs, `durable_commits` the ledger's commits of one incident
(the human's vote included, checkpoints apart), `checkpoint_bytes` what its thread left in the
checkpoint tables.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the tests' small world

from langgraph.graph import END, START, StateGraph  # noqa: E402
from langgraph.types import Command, interrupt  # noqa: E402

from loop4.agents.agent import Agent, Brief, Report  # noqa: E402
from loop4.domain import Event, EventKind, Finding, Proposal, SourceKind  # noqa: E402
from loop4.graphs.assemble import assemble  # noqa: E402
from loop4.graphs.fleet import Fleet  # noqa: E402
from loop4.graphs.guard import NodeFunction  # noqa: E402
from loop4.graphs.operations import WAYS, compiled  # noqa: E402
from loop4.graphs.runner import Runner  # noqa: E402
from loop4.graphs.saver import ShortVersionSaver  # noqa: E402
from loop4.graphs.state import RECURSION_LIMIT, RunState  # noqa: E402
from loop4.ledger import approvals, incidents  # noqa: E402
from loop4.ledger.ledger import Ledger  # noqa: E402
from loop4.tools.backends.ports import World  # noqa: E402
from tests.graphs.toy import START_MS, ToyClock, ToyWorld  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

BREACHES = frozenset({EventKind.BREACH})
DAY_MS = 86_400_000
QUIET_S, BROKEN_S, VERIFIED_S = 60, 6, 17
LIMITS = {"ratio_bare": 3.0, "durable_commits": 12, "checkpoint_bytes": 40 * 1024}


@dataclass(frozen=True, slots=True)
class Visit:
    """One node visit of Loop4's run: what it asked before it went on, and what it wrote."""

    node: str
    writes: RunState
    asked: object = None


@dataclass(slots=True)
class Script:
    """The visits of one run, in order; a bare node plays the one at `at`."""

    visits: list[Visit]
    at: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What one incident through Loop4 took and left."""

    run_id: str
    ms: float
    commits: int


@dataclass(slots=True)
class Figures:
    """The timed pairs."""

    loop4_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)


async def watcher(brief: Brief) -> Report:
    """A burn rate, on one read."""
    read = await brief.reader.query(brief.targets[0].error_ratio_query(10), brief.now_ms)
    finding = Finding(
        agent="health",
        kind="burn_rate",
        claim="orders-availability: 3000 bp fail over 10 s",
        subject="orders",
        evidence=(read.evidence,),
        sources=(SourceKind.METRICS,),
        confidence_bp=9_500,
    )
    return Report((finding,))


async def investigator(brief: Brief) -> Report:
    """A guilty deploy, on the change history and a count of errors."""
    evidence = await _cited(brief)
    finding = Finding(
        agent="incident",
        kind="guilty_change",
        claim="orders v2 fails 6000 bp of its requests, version v1 beside it 0 bp",
        subject="chg-42",
        evidence=evidence,
        sources=(SourceKind.METRICS, SourceKind.CHANGES),
        confidence_bp=9_000,
        service="orders",
    )
    return Report((finding,))


async def mender(brief: Brief) -> Report:
    """Roll the deploy back; half of the traffic is on it, so a person is asked."""
    proposal = Proposal(
        agent="remediation",
        tool="deployments.roll_back",
        target="orders",
        service="orders",
        arguments={"service": "orders", "to_revision": 41},
        reason="orders v2 fails and v1 does not",
        expected_effect="orders serves version v1 alone again",
        evidence=await _cited(brief),
        runbook="bad-deploy-rollback",
        reversible=True,
        blast_radius_bp=5_000,
    )
    return Report((), (proposal,))


async def _cited(brief: Brief) -> tuple[str, ...]:
    changes = await brief.reader.changes(brief.now_ms - 900_000, brief.now_ms)
    failing = await brief.reader.query(
        'sum(increase(http_requests_total{service="orders",outcome="error"}[10s]))', brief.now_ms
    )
    return (changes.evidence, failing.evidence)


FIXED_AGENTS = (
    Agent("health", BREACHES, frozenset(), watcher),
    Agent("incident", BREACHES, frozenset(), investigator),
    Agent("remediation", BREACHES, frozenset({"deployments.roll_back"}), mender),
)


@dataclass(slots=True)
class Bench:
    """One runner's ledger and savers; each incident meets a fresh world, a day after the last."""

    fleet: Fleet
    ledger: Ledger
    saver: BaseCheckpointSaver[str]
    bare_saver: BaseCheckpointSaver[str]
    days: int = 0

    async def incident(self) -> tuple[Run, list[Visit]]:
        """Breach to report. Setting up, and letting the world's time pass, is not timed."""
        world = ToyWorld(clock=ToyClock(START_MS + self.days * DAY_MS))
        self.days += 1
        world.run(QUIET_S)
        world.deploy()
        world.run(BROKEN_S)
        fleet = replace(
            self.fleet,
            world=world.world(),
            hands=replace(self.fleet.hands, workloads=world, inventory=world),
            clock=world.clock,
        )
        runner = Runner(fleet, self.saver)
        commits = self.ledger.commits
        event = _breach(world)
        began = _settled()
        handled = await runner.handle(event)
        self._vote(world)
        await runner.resume()
        first_leg = time.perf_counter() - began
        world.run(VERIFIED_S)
        began = _settled()
        await runner.resume()
        took = first_leg + time.perf_counter() - began
        self._must_be_proven(handled.incident_id, world)
        run = Run(handled.run_id, took * 1000, self.ledger.commits - commits)
        return run, await visits_of(compiled(fleet, self.saver), run.run_id)

    async def bare(self, visits: list[Visit], name: str) -> float:
        """The same visits through the bare graph, in milliseconds."""
        script = Script(visits)
        graph = bare_graph(script).compile(checkpointer=self.bare_saver)
        legs = sum(v.asked is not None for v in visits)
        given: RunState | Command[str] = _first_input(name)
        took = 0.0
        for leg in range(legs + 1):
            began = _settled()
            await graph.ainvoke(given, _config(name), durability="sync")
            took += time.perf_counter() - began
            given = Command(resume={"leg": leg})
        if script.at != len(visits):
            raise RuntimeError(f"the bare graph made {script.at} of {len(visits)} visits")
        return took * 1000

    def _vote(self, world: ToyWorld) -> None:
        with self.ledger.read() as tx:
            (waiting,) = approvals.pending(tx)
        with self.ledger.transaction() as tx:
            vote = approvals.vote(
                tx,
                waiting.approval.approval_id,
                "dana",
                ("on-call",),
                True,
                world.clock.now_ms(),
            )
        if not vote.accepted:
            raise RuntimeError(f"the vote was refused: {vote.reason}")

    def _must_be_proven(self, incident_id: str, world: ToyWorld) -> None:
        with self.ledger.read() as tx:
            incident = incidents.get(tx, incident_id)
        state = incident.state if incident else "gone"
        if state != "resolved" or world.effects != ["roll_back orders 41"]:
            raise RuntimeError(f"incident {incident_id} is {state}, effects {world.effects}")


def bare_graph(script: Script) -> StateGraph[RunState]:
    """The drawn graph of Loop4 with nodes that only return what the script says."""

    def node(name: str) -> NodeFunction:
        async def run(state: RunState) -> RunState:
            visit = script.visits[script.at]
            if visit.node != name:
                raise RuntimeError(f"visit {script.at} is of {visit.node!r}, not of {name!r}")
            if visit.asked is not None:
                interrupt(visit.asked)
            script.at += 1
            return visit.writes

        return run

    graph = StateGraph(RunState)
    for name in ("triage", "agents", *WAYS):
        graph.add_node(name, node(name))
    graph.add_edge(START, "triage")
    graph.add_edge("triage", "agents")
    graph.add_edge("agents", "plan")
    for name, ways in WAYS.items():
        graph.add_conditional_edges(
            name, lambda s: s["next"], {way: END if way == "end" else way for way in ways}
        )
    return graph


async def visits_of(
    graph: CompiledStateGraph[RunState, None, RunState, RunState], run_id: str
) -> list[Visit]:
    """The node visits of a finished run, from its checkpoints."""
    found = []
    async for snapshot in graph.aget_state_history(_config(run_id)):
        for task in snapshot.tasks:
            if task.name != START:
                asked = task.interrupts[0].value if task.interrupts else None
                found.append(Visit(task.name, cast("RunState", task.result), asked))
    return found[::-1]


def stored_bytes(checkpoints: Path, thread: str) -> tuple[int, int]:
    """Checkpoints of a thread and the bytes of its checkpoint, metadata and write columns."""
    with sqlite3.connect(checkpoints) as connection:
        count, whole = connection.execute(
            "SELECT count(*), sum(length(checkpoint) + length(metadata)) FROM checkpoints"
            " WHERE thread_id = ?",
            (thread,),
        ).fetchone()
        (writes,) = connection.execute(
            "SELECT sum(length(value)) FROM writes WHERE thread_id = ?", (thread,)
        ).fetchone()
    connection.close()
    return int(count), int(whole) + int(writes)


@asynccontextmanager
async def bench_in(disk: Path, memory: Path) -> AsyncIterator[Bench]:
    """A bench whose checkpoints and files lie in `disk` and whose ledger lies in `memory`."""
    operations = disk / "operations"
    shutil.copytree(ROOT / "lab" / "operations", operations)
    with Ledger.open(memory / "ledger.db") as ledger:
        fleet = assemble(
            operations=operations,
            ledger=ledger,
            world=World(),
            clock=ToyClock(),
            agents=FIXED_AGENTS,
        )
        async with (
            ShortVersionSaver.from_conn_string(str(disk / "checkpoints.db")) as saver,
            ShortVersionSaver.from_conn_string(str(disk / "bare.db")) as bare_saver,
        ):
            yield Bench(fleet, ledger, saver, bare_saver)


async def run(pairs: int, warm_up: int, disk: Path, memory: Path) -> dict[str, float | int | str]:
    """All figures of this benchmark, over `pairs` pairs (at least 2)."""
    figures = Figures()
    async with bench_in(disk, memory) as bench:
        first, visits = await bench.incident()  # the script for the bare side
        for number in range(warm_up + pairs):
            bare_first = number % 2 == 0
            name = f"bare-{number:08}"  # as long as a run id
            bare = await bench.bare(visits, name) if bare_first else 0.0
            one, visits = await bench.incident()
            bare = bare or await bench.bare(visits, name)
            if number >= warm_up:
                figures.loop4_ms.append(one.ms)
                figures.bare_ms.append(bare)
    count, stored = stored_bytes(disk / "checkpoints.db", one.run_id)
    _, bare_stored = stored_bytes(disk / "bare.db", name)
    ratios = [a / b for a, b in zip(figures.loop4_ms, figures.bare_ms, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {
        "ratio_bare": round(median(ratios), 2),
        "ratio_quartile_1": round(low, 2),
        "ratio_quartile_3": round(high, 2),
        "durable_commits": max(one.commits, first.commits),
        "checkpoint_bytes": stored,
        "loop4_ms": round(median(figures.loop4_ms), 2),
        "bare_ms": round(median(figures.bare_ms), 2),
        "pairs": pairs,
        "warm_up_pairs": warm_up,
        "node_visits": len(visits),
        "interrupts": sum(v.asked is not None for v in visits),
        "checkpoints": count,
        "bare_checkpoint_bytes": bare_stored,
        "protocol": "the runner's own saver (SQLite) on both sides, durability sync, pairs in "
        "turn, median of the pairs' ratios; ledger on tmpfs, checkpoints and written files on "
        "disk; python " + platform.python_version(),
    }


def main() -> int:
    """Print the figures; exit 1 if one misses its target."""
    parser = argparse.ArgumentParser(description="Time one incident against a bare graph.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pairs", type=int, default=21, help="timed pairs (at least 2)")
    parser.add_argument("--warm-up", type=int, default=3, help="pairs before, not counted")
    parser.add_argument("--disk", metavar="DIR", help="where the checkpoints lie")
    arguments = parser.parse_args()
    shared = Path("/dev/shm")  # noqa: S108  (tmpfs on Linux)
    memory = shared if os.access(shared, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="loop4-bench-", dir=arguments.disk) as disk,
        tempfile.TemporaryDirectory(prefix="loop4-bench-", dir=memory) as ledger,
    ):
        figures = asyncio.run(run(arguments.pairs, arguments.warm_up, Path(disk), Path(ledger)))
    if memory is None:
        figures["protocol"] = f"{figures['protocol']}; NO tmpfs here: the ledger was on disk"
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<24}{value}")
    return 0 if all(float(figures[name]) <= limit for name, limit in LIMITS.items()) else 1


def _breach(world: ToyWorld) -> Event:
    now_ms = world.clock.now_ms()
    return Event(
        event_id=f"breach:orders-availability:{now_ms}",
        kind=EventKind.BREACH,
        source="sweep",
        service="orders",
        environment="lab",
        at_ms=now_ms,
        correlation="lab/orders",
        labels={"target": "orders-availability"},
    )


def _first_input(name: str) -> RunState:
    """An input of the size of Loop4's own."""
    return {
        "run_id": name,
        "incident_id": "INC-0000-000",
        "event": "breach:orders-availability:0000000000000",
        "graph_version": "operations-1",
        "phase": "act",
        "approval": "",
        "acted_at_ms": 0,
        "checks": 0,
        "verified": "",
    }


def _config(thread: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread}, "recursion_limit": RECURSION_LIMIT}


def _settled() -> float:
    """The clock, after a collection that nobody then has to pay."""
    gc.collect()
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
