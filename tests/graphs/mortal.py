"""Runners that can be killed: `python -m tests.graphs.mortal` forks one for each line on stdin.

A line is a JSON list of jobs that run side by side, each [stage folder, what to do]; the answer is
the list of their wait statuses. Forking from one process that has the imports keeps the tests fast;
the children are processes of their own, and SIGKILL ends them as it would any runner.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from loop4.errors import RunnerBusy
from loop4.graphs import ask_agents, plan, triage
from loop4.ledger import approvals
from loop4.ledger.ledger import Ledger
from loop4.ledger.runs import RunState
from tests.graphs.conftest import ON_CALL, Play, Stage
from tests.graphs.toy import ToyWorld

NODES = {"triage": triage, "ask_agents": ask_agents, "plan": plan}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def new_stage(root: Path) -> Stage:
    """A stage whose world outlives its process."""
    toy = ToyWorld(state_file=root / "toy.json", effects_log=root / "effects.log")
    return Stage(root, toy, db=_database_of(root))


def same_stage(root: Path) -> Stage:
    """The stage as the last process left it."""
    toy = ToyWorld.restore(root / "toy.json", root / "effects.log")
    return Stage(root, toy, db=_database_of(root))


def _database_of(root: Path) -> str | None:
    """The URL that the test wrote down for all processes of its stage, if it did."""
    note = root / "db"
    return note.read_text(encoding="utf-8") if note.exists() else None


async def live_until(stage: Stage, point: str) -> None:
    """Drive an incident and die at `point`: a name that `Fleet.passing` is told, `waiting`,
    `sleeping`, or `begin:NODE`.
    """

    def passing(name: str) -> None:
        if name == point:
            die()

    kind, _, node = point.partition(":")
    if kind == "begin":
        setattr(NODES[node], node, lambda fleet, state: die())
    stage.bad_deploy()
    async with stage.opened(passing=passing) as play:
        for _ in range(80):
            await play.second()
            asleep = any(r.state is RunState.SLEEPING for r in play.open_runs()) and play.acts()
            if (point == "waiting" and play.pending()) or (point == "sleeping" and asleep):
                die()
            for request in play.pending():
                play.vote(request.approval.approval_id)


async def vote_and_resume(stage: Stage) -> None:
    """What a person's `approve` and `resume` do, beside others who do the same."""
    stage.toy.state_file = None
    with Ledger.open(stage.ledger) as ledger:
        with ledger.transaction() as tx:
            for request in approvals.list_all(tx):
                now_ms = stage.toy.clock.now_ms()
                approvals.vote(
                    tx, request.approval.approval_id, ON_CALL, ("on-call",), True, now_ms
                )
    for _ in range(100):
        try:
            async with stage.opened() as play:
                await play.session.runner.resume()
                return
        except RunnerBusy:
            await asyncio.sleep(0.05)
    raise TimeoutError("the others never let go of the data folder")


async def cast_and_resume(play: Play) -> None:
    for request in play.pending():
        play.vote(request.approval.approval_id)
    await play.session.runner.resume()


def do(root: Path, job: str) -> None:
    if job == "vote":
        asyncio.run(vote_and_resume(same_stage(root)))
    else:
        asyncio.run(live_until(new_stage(root), job))


def main() -> None:
    for line in sys.stdin:
        children = []
        for root, job in json.loads(line):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    do(Path(root), job)
                    code = 0
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            children.append(child)
        print(json.dumps([os.waitpid(child, 0)[1] for child in children]), flush=True)


if __name__ == "__main__":
    main()
