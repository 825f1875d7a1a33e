"""kill -9 at each point of no return, on the real lab: after `loop4 resume` exactly one effect,
and a whole chain.

    python bench/crash.py [--points a,b] [--repeat N] [--json]

Each cell: a bad deploy in a running lab; a process of ours drives the fleet and kills itself at the
named point; the vote (`loop4 approvals approve`) and the recovery (`loop4 resume`) are the real
command line, in new processes. The effect is counted by the orchestrator's own log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from loop4.domain import Json
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, open_session
from loop4.lab.faults import Profile, Target
from loop4.lab.folder import OperationsCopy, make_operations
from loop4.lab.lab import Lab
from loop4.ledger import approvals, incidents, intents, runs
from loop4.ledger.ledger import Ledger
from loop4.tools.backends.worlds import connected

POINTS = (
    "before_intent",
    "after_intent",
    "after_effect",
    "after_outcome",
    "approval_wait",
    "wake_at",
)
SERVICE = "orders"
FAULT = "KeyError: 'currency'"
STEP_S = 90.0
WARM_UP_S = 15.0


def main() -> int:
    """Run the matrix; 0 when every cell has exactly one effect."""
    parser = argparse.ArgumentParser(description="kill -9 at each point of no return")
    parser.add_argument("--points", default=",".join(POINTS))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--drive", nargs=4, metavar=("POINT", "LAB", "OPERATIONS", "DATA"))
    given = parser.parse_args()
    if given.drive:
        asyncio.run(_drive(*given.drive))
        return 0
    cells = []
    with tempfile.TemporaryDirectory(prefix="loop4-crash-") as folder:
        root = Path(folder)
        copy = make_operations(root / "operations")
        with Lab.start(root / "lab", 1) as lab:
            time.sleep(WARM_UP_S)  # known-good needs a healthy past
            for number in range(given.repeat):
                for point in given.points.split(","):
                    cells.append(_cell(lab, copy, root / f"data-{point}-{number}", point))
                    if not given.json:
                        print(_line(cells[-1]), flush=True)
    body: dict[str, Json] = {
        "cells": cells,
        "exactly_one": sum(c["effects"] == 1 and not c["problems"] for c in cells),
        "lost": sum(c["effects"] == 0 for c in cells),
        "doubled": sum(isinstance(c["effects"], int) and c["effects"] > 1 for c in cells),
    }
    print(json.dumps(body, indent=2) if given.json else _summary(body))
    return 0 if body["exactly_one"] == len(cells) else 1


def _cell(lab: Lab, copy: OperationsCopy, data: Path, point: str) -> dict[str, Json]:
    """One bad deploy, one kill, one recovery."""
    revision = lab.deploy(SERVICE, weight_bp=5000)["to_revision"]
    lab.begin_fault(Target(SERVICE, int(str(revision))), Profile(error_bp=6000, exception=FAULT))
    before = _marks(lab)
    problems = []
    kills = 0
    # the first process runs until a person is asked (or dies there), the second after the vote
    kills += _killed(_process(point, lab, copy, data))
    voted = _command("approvals", "approve", _pending(data), data=data, copy=copy, lab=lab)
    if voted.returncode:
        problems.append(f"the vote failed: {voted.stderr.strip()}")
    if point != "approval_wait":
        kills += _killed(_process(point, lab, copy, data))
    if kills != 1:
        problems.append(f"{kills} processes were killed, expected 1")
    resumed = _command("resume", "--wait", "60", data=data, copy=copy, lab=lab)
    if resumed.returncode:
        problems.append(f"resume failed: {resumed.stderr.strip()}")
    verified = _command("evidence", "verify", data=data, copy=copy, lab=lab)
    if verified.returncode:
        problems.append(f"the chain does not verify: {verified.stderr.strip()}")
    state = _state(data)
    if state != "resolved":
        problems.append(f"the incident is {state}, expected resolved")
    effects = len(_marks(lab)) - len(before)
    return {"point": point, "effects": effects, "state": state, "problems": list(problems)}


def _process(
    point: str, lab: Lab, copy: OperationsCopy, data: Path
) -> subprocess.CompletedProcess[str]:
    """Drive the fleet in a process of its own until it pauses, ends or dies at the point."""
    return subprocess.run(
        [
            sys.executable,
            __file__,
            "--drive",
            point,
            str(lab.connection),
            str(copy.root),
            str(data),
        ],
        capture_output=True,
        text=True,
        timeout=STEP_S,
        check=False,
    )


def _killed(process: subprocess.CompletedProcess[str]) -> int:
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the driving process failed: {process.stderr}")
    return int(process.returncode == -signal.SIGKILL)


def _command(
    *words: str, data: Path, copy: OperationsCopy, lab: Lab
) -> subprocess.CompletedProcess[str]:
    """The real command line."""
    program = "import sys; from loop4.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={
            **os.environ,
            "LOOP4_DATA": str(data),
            "LOOP4_OPERATIONS": str(copy.root),
            "LOOP4_WORLD": f"lab:{lab.connection}",
            "LOOP4_TOKEN": copy.token,
        },
        capture_output=True,
        text=True,
        timeout=STEP_S,
        check=False,
    )


async def _drive(point: str, lab: str, operations: str, data: str) -> None:
    """The process that dies: beats until a person is asked, or until the point is passed."""

    def passing(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async with (
        connected(f"lab:{lab}", "") as handles,
        open_session(
            data=Path(data),
            operations=Path(operations),
            world=handles.world,
            writer=handles.writer,
            passing=passing,
        ) as session,
    ):
        patrol = Patrol(session.fleet, session.runner)
        passing(await _pause(session, patrol))


async def _pause(session: Session, patrol: Patrol) -> str:
    """Beat until a person is asked, or an act is done and its proof awaited; which of the two."""
    while True:
        await patrol.beat()
        with session.ledger.read() as tx:
            states = {r.state for r in runs.list_open(tx)}
            has_acted = any(i.tool == "deployments.roll_back" for i in intents.list_all(tx))
        if runs.RunState.WAITING_APPROVAL in states:
            return "approval_wait"
        if runs.RunState.SLEEPING in states and has_acted:
            return "wake_at"
        await asyncio.sleep(1.0)


def _pending(data: Path) -> str:
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        return next(r.approval.approval_id for r in approvals.pending(tx))


def _state(data: Path) -> str:
    with Ledger.open(data / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        return incidents.list_all(tx)[0].state


def _marks(lab: Lab) -> list[str]:
    """The marks in the orchestrator's log, one for each effect of the fleet."""
    lines = lab.effects_log.read_text(encoding="utf-8").splitlines()
    return [mark for mark in (json.loads(line)["mark"] for line in lines) if mark]


def _line(cell: Mapping[str, Json]) -> str:
    word = "ok" if cell["effects"] == 1 and not cell["problems"] else f"WRONG {cell['problems']}"
    return f"{cell['point']:<16}effects {cell['effects']}  {cell['state']:<10}{word}"


def _summary(body: Mapping[str, Json]) -> str:
    cells = body["cells"]
    total = len(cells) if isinstance(cells, list) else 0
    return (
        f"{body['exactly_one']} of {total} with exactly one effect, "
        f"{body['lost']} lost, {body['doubled']} doubled"
    )


if __name__ == "__main__":
    sys.exit(main())
