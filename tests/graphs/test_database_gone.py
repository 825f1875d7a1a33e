"""The database server dies in the middle of an incident, or the clock jumps: one effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop4.errors import LedgerError
from loop4.graphs import postgresql_saver
from tests.graphs.conftest import Stage, assert_well, new_stage, run
from tests.postgresql import Server, new_server, prepare, remove


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, since it is killed."""
    made = new_server()
    try:
        made.start()
        prepare(made)
        yield made
    finally:
        remove(made)


@pytest.mark.parametrize(
    ("point", "acted"), [("before_intent", 0), ("after_intent", 1), ("after_effect", 1)]
)
def test_without_its_database_a_run_stops_and_goes_on_when_it_is_back(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, point: str, acted: int
) -> None:
    monkeypatch.setattr(postgresql_saver, "WAIT_S", 1.0)
    stage = new_stage(tmp_path, server.url(server.database("ready")))

    def passing(name: str) -> None:
        if name == point:
            server.kill()

    async def until_it_dies() -> None:
        stage.bad_deploy()
        async with stage.opened(passing=passing) as play:
            asked = await play.asked()
            play.vote(asked.approval.approval_id)
            with pytest.raises(LedgerError, match=r"run `loop4 resume`|cannot be reached"):
                await play.second()

    async def to_the_end() -> None:
        async with stage.opened() as play:
            await play.resolved()
            assert_well(play)

    try:
        run(until_it_dies())
    finally:
        server.start()
    assert len(stage.toy.effects) == acted  # without a durable intent there is no act
    run(to_the_end())
    assert stage.toy.effects == ["roll_back orders 41"]


@pytest.fixture
def stage(tmp_path: Path, place: Path | str) -> Stage:
    return new_stage(tmp_path, place)


def test_one_runner_outlives_a_restarted_server(tmp_path: Path, server: Server) -> None:
    stage = new_stage(tmp_path, server.url(server.database("ready")))

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            server.kill()
            server.start()
            assert play.vote(asked.approval.approval_id)
            await play.resolved()
            assert_well(play)

    run(story())
    assert stage.toy.effects == ["roll_back orders 41"]


@pytest.mark.parametrize("back_s", [5, 3600])
def test_a_clock_that_jumps_back_after_the_vote_repeats_and_loses_nothing(
    stage: Stage, back_s: int
) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert play.vote(asked.approval.approval_id)
            await play.until(lambda: play.toy.effects)
            now_ms = play.toy.clock.at_ms
            play.toy.clock.at_ms -= back_s * 1000
            await play.session.runner.resume()
            assert not play.vote(asked.approval.approval_id)
            assert play.toy.effects == ["roll_back orders 41"]
            play.toy.clock.at_ms = now_ms
            await play.resolved()
            assert_well(play)

    run(story())
    assert stage.toy.effects == ["roll_back orders 41"]
