"""kill -9 at the moments that matter; a new process goes on with `resume` alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop4.lab.folder import make_operations
from loop4.ledger import evidence, intents
from loop4.ledger.ledger import Ledger
from tests.graphs.conftest import Stage, assert_well, run
from tests.graphs.mortal import cast_and_resume, new_stage, same_stage

ROOT = Path(__file__).parents[2]
Jobs = Callable[[list[tuple[Path, str]]], list[int]]

POINTS = [
    "begin:triage",
    "begin:ask_agents",
    "begin:plan",
    "before_notice",
    "after_notice",
    "waiting",
    "before_intent",
    "after_intent",
    "after_effect",
    "after_outcome",
    "sleeping",
]


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    """Runs jobs side by side, each in a process of its own, and returns their wait statuses."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.graphs.mortal"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    stdin, stdout = server.stdin, server.stdout

    def ask(wanted: list[tuple[Path, str]]) -> list[int]:
        print(json.dumps([[str(root), job] for root, job in wanted]), file=stdin, flush=True)
        statuses: list[int] = json.loads(stdout.readline())
        return statuses

    yield ask
    server.communicate()


def prepare(root: Path, place: Path | str) -> None:
    """The folder that all processes of a stage share, with a note of its database."""
    make_operations(root / "operations")
    if isinstance(place, str):
        (root / "db").write_text(place, encoding="utf-8")


def effects(root: Path) -> list[str]:
    log = root / "effects.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


async def resume_until_resolved(stage: Stage) -> None:
    async with stage.opened() as play:
        for _ in range(60):
            await cast_and_resume(play)
            if not play.open_runs():
                break
            play.toy.run(1)
        assert_well(play)


@pytest.mark.parametrize("point", POINTS)
def test_after_kill_9_a_new_process_finishes_with_one_effect(
    tmp_path: Path, place: Path | str, jobs: Jobs, point: str
) -> None:
    prepare(tmp_path, place)
    (status,) = jobs([(tmp_path, point)])
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    acted = point in ("after_effect", "after_outcome", "sleeping")
    assert len(effects(tmp_path)) == int(acted)

    run(resume_until_resolved(same_stage(tmp_path)))

    (effect,) = effects(tmp_path)
    assert effect.startswith("roll_back orders 41 ")


def test_five_processes_that_vote_and_resume_cause_one_execution(
    tmp_path: Path, place: Path | str, jobs: Jobs
) -> None:
    prepare(tmp_path, place)
    stage = new_stage(tmp_path)

    async def up_to_the_question() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            await play.asked()

    run(up_to_the_question())
    assert jobs([(tmp_path, "vote")] * 5) == [0] * 5
    assert len(effects(tmp_path)) == 1
    with Ledger.open(stage.ledger, read_only=True) as ledger, ledger.read() as tx:
        votes = evidence.list_records(tx, kinds=("vote",))
        assert sorted(str(v.body["accepted"]) for v in votes) == ["False"] * 4 + ["True"]
        assert len([i for i in intents.list_all(tx) if "path" not in i.arguments]) == 1
        assert evidence.verify(tx).ok
