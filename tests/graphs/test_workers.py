"""Several workers over one ledger: one driver a run, and who slept past its lease is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop4.domain import IntentState
from loop4.errors import LeaseLost, LedgerUnavailable
from loop4.graphs.abandon import POISONOUS
from loop4.graphs.legs import Worker
from loop4.graphs.runner import Runner
from loop4.lab.folder import make_operations
from loop4.ledger import evidence, leases, runs
from loop4.ledger.ledger import Ledger
from loop4.tools.backends.ports import WriteResult
from tests.graphs.conftest import Play, Stage, assert_well, run
from tests.graphs.mortal import same_stage

ROOT = Path(__file__).parents[2]
LEASE_MS = 10_000


@pytest.fixture
def stage(tmp_path: Path, place: Path | str) -> Stage:
    """A stage whose ledger lies in either kind of database."""
    make_operations(tmp_path / "operations")
    return Stage(tmp_path, db=place if isinstance(place, str) else None)


def worker(play: Play, name: str) -> Runner:
    """Another worker over the ledger and the checkpoints of the stage."""
    session = play.session
    return Runner(session.fleet, session.runner.legs.saver, Worker(name, LEASE_MS))


def head(stage: Stage) -> str:
    with Ledger.open(stage.ledger, read_only=True) as ledger, ledger.read() as tx:
        return evidence.verify(tx).head


async def go_on(play: Play, *workers: Runner, seconds: int = 60) -> None:
    """Each second every worker advances what is due."""
    for _ in range(seconds):
        if not play.open_runs():
            return
        for request in play.pending():
            play.vote(request.approval.approval_id)
        for one in workers:
            one.expire()
            await asyncio.gather(*(one.advance(due.run_id) for due in one.due()))
        play.toy.run(1)


def test_two_workers_share_an_incident_and_act_once(stage: Stage) -> None:
    async def play_it() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            a, b = worker(play, "a"), worker(play, "b")
            play.patrol.runner = a
            await play.until(play.pending)
            play.vote(play.pending()[0].approval.approval_id)
            run_id = play.open_runs()[0].run_id
            moved = await asyncio.gather(*(w.advance(run_id) for w in (a, b, a, b)))
            assert sorted(moved) == [False, False, False, True]
            await go_on(play, b, a)
            assert_well(play)
            assert stage.toy.effects == ["roll_back orders 41"]

    run(play_it())


def test_a_worker_that_sleeps_inside_the_call_is_overtaken_and_refused(stage: Stage) -> None:
    """The other finds the act undone and does it; the first one's call then meets a changed target,
    and its outcome is refused.
    """

    async def play_it() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            a, b = worker(play, "a"), worker(play, "b")
            play.patrol.runner = a
            await play.until(play.pending)
            play.vote(play.pending()[0].approval.approval_id)
            run_id = play.open_runs()[0].run_id
            real = stage.toy.roll_back
            calls: list[str] = []

            async def sleepy(
                service: str, to_revision: int, *, expected: str, mark: str
            ) -> WriteResult:
                calls.append(expected)
                if len(calls) == 1:
                    stage.toy.run(LEASE_MS // 1000 + 1)
                    assert await b.advance(run_id)
                return await real(service, to_revision, expected=expected, mark=mark)

            stage.toy.roll_back = sleepy  # type: ignore[method-assign]  # the slow network
            with pytest.raises(LeaseLost, match="stale"):
                await a.advance(run_id)
            assert len(calls) == 2
            await go_on(play, b)
            assert stage.toy.effects == ["roll_back orders 41"]
            assert [i.state for i in play.acts()] == [IntentState.DONE]
            assert [i.state for i in play.incidents()] == ["resolved"]
            assert play.chain_holds()

    run(play_it())


def test_a_run_that_ends_its_workers_again_and_again_is_given_up_and_paged(stage: Stage) -> None:
    async def play_it() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            a = worker(play, "a")
            play.patrol.runner = a
            await play.until(play.pending)
            run_id = play.open_runs()[0].run_id
            before = len([f for f in stage.files() if "/page-" in f])
            for death in range(POISONOUS):
                with play.ledger.transaction() as tx:
                    now_ms = stage.toy.clock.now_ms()
                    assert leases.take(tx, run_id, f"w{death}", now_ms=now_ms, ttl_ms=LEASE_MS)
                stage.toy.run(LEASE_MS // 1000)
            assert [due.run_id for due in a.due()] == [run_id]
            with play.ledger.transaction() as tx:  # and the next one dies with it as well
                leases.take(tx, run_id, "w", now_ms=stage.toy.clock.now_ms(), ttl_ms=LEASE_MS)
            stage.toy.run(LEASE_MS // 1000)
            assert await a.advance(run_id)
            with play.ledger.read() as tx:
                over = runs.get(tx, run_id)
            assert over is not None
            assert over.state is runs.RunState.FAILED
            assert [i.state for i in play.incidents()] == ["escalated"]
            assert len([f for f in stage.files() if "/page-" in f]) == before + 1
            assert any("workers in a row died" in str(r.body) for r in play.records("violation"))
            assert stage.toy.effects == []
            assert play.chain_holds()

    run(play_it())


def test_a_leg_that_loses_its_database_gives_the_run_back_and_is_no_death(stage: Stage) -> None:
    """More often in a row than a run that ends its workers is tried."""

    async def play_it() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            a = worker(play, "a")
            play.patrol.runner = a
            await play.until(play.pending)
            run_id = play.open_runs()[0].run_id
            play.vote(play.pending()[0].approval.approval_id)
            with pytest.MonkeyPatch.context() as patch:

                async def lost(*_: object) -> None:
                    raise LedgerUnavailable("checkpoints cannot be read or written: disk is full")

                patch.setattr(type(a.legs.saver), "aput", lost)
                patch.setattr(type(a.legs.saver), "aput_writes", lost)
                for _ in range(POISONOUS + 2):
                    with pytest.raises(LedgerUnavailable):
                        await a.advance(run_id)
                    with play.ledger.read() as tx:
                        lease = leases.get(tx, run_id)
                    assert lease is not None
                    assert (lease.holder, lease.takeovers) == ("", 0)
                    assert [due.run_id for due in a.due()] == [run_id], "at once, by anybody"
            await go_on(play, worker(play, "b"))
            assert stage.toy.effects == ["roll_back orders 41"]
            assert [i.state for i in play.incidents()] == ["resolved"]
            assert play.chain_holds()

    run(play_it())


def test_a_stopped_process_that_goes_on_after_its_lease_cannot_write(
    tmp_path: Path, place: Path | str
) -> None:
    """SIGSTOP right after the effect; another worker settles it; SIGCONT: refused."""
    make_operations(tmp_path / "operations")
    if isinstance(place, str):
        (tmp_path / "db").write_text(place, encoding="utf-8")
    sleeper = subprocess.Popen(
        [sys.executable, "-m", "tests.graphs.sleeper", str(tmp_path), str(LEASE_MS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _, status = os.waitpid(sleeper.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        stage = same_stage(tmp_path)

        async def take_over() -> None:
            async with stage.opened(shared=True) as play:
                assert len(play.acts()) == 1
                assert play.acts()[0].state is IntentState.INTENDED
                b = worker(play, "b")
                assert b.due() == (), "the stopped one still holds its lease"
                stage.toy.run(LEASE_MS // 1000 + 1)
                await go_on(play, b)
                assert_well(play)

        run(take_over())
        before = head(stage)
        os.kill(sleeper.pid, signal.SIGCONT)
        told, _ = sleeper.communicate(timeout=30)
        assert sleeper.returncode == 0
        assert told.startswith("refused: run 'run-INC-2026-001-1'"), told
        assert (tmp_path / "effects.log").read_text().count("roll_back orders 41") == 1
        assert head(stage) == before
    finally:
        sleeper.kill()
        sleeper.communicate()
