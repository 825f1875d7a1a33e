"""A runner that dies before or after any commit of an incident: one effect, one proven fix.

The death is an exception that nothing in the project catches; folders and world stay as they are,
and a new runner goes on. `test_kill.py` does the same with real processes and SIGKILL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop4.ledger.ledger import Ledger, Tx
from tests.graphs.conftest import Play, Stage, assert_well, new_stage, run

COMMITS = 14  # at most, of one undisturbed incident


@pytest.fixture
def stage(tmp_path: Path, place: Path | str) -> Stage:
    return new_stage(tmp_path, place)


class Death(BaseException):
    """The process is gone."""


class Reaper:
    """Ends the runner at one moment, once; counts commits while it watches."""

    def __init__(self, *, before: int = 0, after: int = 0) -> None:
        self.before, self.after = before, after
        self.watching = False
        self.commits = 0
        self.dead = False

    def commit_begins(self) -> None:
        if self.watching:
            self.commits += 1
            if self.commits == self.before and not self.dead:
                self._die()

    def commit_ended(self) -> None:
        if self.watching and self.commits == self.after and not self.dead:
            self._die()

    def _die(self) -> None:
        self.dead = True
        raise Death


@contextmanager
def watched(reaper: Reaper, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the reaper see each transaction of the runner."""
    plain = Ledger.transaction

    @contextmanager
    def transaction(ledger: Ledger) -> Iterator[Tx]:
        with plain(ledger) as tx:
            yield tx
            reaper.commit_begins()
        reaper.commit_ended()

    with patch.context() as patched:
        patched.setattr(Ledger, "transaction", transaction)
        yield


async def beats(play: Play, reaper: Reaper) -> bool:
    """Beat and vote until the incident is resolved. False: the runner died."""
    for _ in range(80):
        play.toy.run(1)
        reaper.watching = True
        try:
            await play.patrol.beat()
        except Death:
            return False
        finally:
            reaper.watching = False
        for request in play.pending():
            play.vote(request.approval.approval_id)
        if play.incidents() and all(i.state == "resolved" for i in play.incidents()):
            return True
    pytest.fail(play.story())


def live_through(stage: Stage, reaper: Reaper, patch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        stage.bad_deploy()
        for _ in range(2):
            async with stage.opened() as play:
                if await beats(play, reaper):
                    assert_well(play)
                    assert play.toy.effects == ["roll_back orders 41"]
                    return
        pytest.fail("it died more than once")

    with watched(reaper, patch):
        run(story())


def test_an_undisturbed_incident_needs_no_more_commits_than_we_try(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    reaper = Reaper()
    live_through(stage, reaper, monkeypatch)
    assert 8 <= reaper.commits <= COMMITS


@pytest.mark.parametrize("commit", range(1, COMMITS + 1))
def test_death_right_after_a_commit_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, commit: int
) -> None:
    reaper = Reaper(after=commit)
    live_through(stage, reaper, monkeypatch)
    assert reaper.dead or reaper.commits < commit


@pytest.mark.parametrize("commit", range(1, COMMITS + 1))
def test_death_right_before_a_commit_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, commit: int
) -> None:
    reaper = Reaper(before=commit)
    live_through(stage, reaper, monkeypatch)
    assert reaper.dead or reaper.commits < commit
