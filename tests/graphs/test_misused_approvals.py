"""Each way to misuse an approval, on the real graph, gate and ledger: refused, with its reason in
evidence.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from sqlalchemy import update

from loop4.domain import Approval, ApprovalState, RequesterKind
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, open_session
from loop4.ledger import approvals
from loop4.ledger.schema import approvals as table
from tests.graphs.conftest import ON_CALL, Play, Stage, assert_well, run

Misuse = Callable[[Play, Approval], None]


def reasons(play: Play) -> list[str]:
    """Every reason that the chain holds, in order."""
    told = []
    for record in play.records():
        one, many = record.body.get("reason"), record.body.get("reasons")
        told += [str(one)] if one else []
        told += [str(text) for text in many] if isinstance(many, list) else []
    return told


def vote(
    play: Play,
    asked: Approval,
    person: str = ON_CALL,
    roles: tuple[str, ...] = ("on-call",),
    kind: RequesterKind = RequesterKind.PERSON,
) -> None:
    with play.ledger.transaction() as tx:
        cast = approvals.vote(
            tx, asked.approval_id, person, roles, True, play.toy.clock.now_ms(), kind=kind
        )
    assert not cast.accepted


def by_the_requester(play: Play, asked: Approval) -> None:
    vote(play, asked, person=asked.requester)


def by_the_requester_in_other_letters(play: Play, asked: Approval) -> None:
    vote(play, asked, person=f" {asked.requester.upper()} ")


def by_an_agent(play: Play, asked: Approval) -> None:
    vote(play, asked, person="health", kind=RequesterKind.AGENT)


def by_nobody(play: Play, asked: Approval) -> None:
    vote(play, asked, person="")


def with_another_role(play: Play, asked: Approval) -> None:
    vote(play, asked, roles=("developer", "on-call-ish"))


def after_its_time(play: Play, asked: Approval) -> None:
    play.toy.run((asked.expires_ms - play.toy.clock.now_ms()) // 1000 + 1)
    vote(play, asked)


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (by_the_requester, "requested this action and cannot vote on it"),
        (by_the_requester_in_other_letters, "requested this action and cannot vote on it"),
        (by_an_agent, "only a person may vote"),
        (by_nobody, "only a person may vote"),
        (with_another_role, "needs the role 'on-call' to vote (roles held: developer, on-call-ish"),
        (after_its_time, "expired"),
    ],
)
def test_a_vote_that_must_not_count_has_no_effect_and_its_reason_in_evidence(
    stage: Stage, misuse: Misuse, said: str
) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = (await play.asked()).approval
            misuse(play, asked)
            for _ in range(3):
                await play.second()
            assert play.toy.effects == []
            assert play.acts() == ()
            (ballot,) = play.records("vote")
            assert ballot.body["accepted"] is False
            assert said in str(ballot.body["reason"])
            assert ballot.body["approval_id"] == asked.approval_id
            assert ballot.action_id == asked.action_id
            assert play.chain_holds()

    run(story())


def test_the_second_vote_of_one_person_does_not_count(tmp_path: Path, stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with with_two_voters(tmp_path, stage) as session:
            play = Play(stage, session, Patrol(session.fleet, session.runner))
            asked = (await play.asked()).approval
            assert asked.need == 2
            assert play.vote(asked.approval_id)
            vote(play, asked)
            vote(play, asked, person=ON_CALL.upper())
            for _ in range(3):
                await play.second()
            assert play.toy.effects == []  # one of two
            (waiting,) = play.pending()
            assert waiting.approval.approval_id == asked.approval_id
            first, second, third = play.records("vote")
            assert (first.body["accepted"], first.body["state"]) == (True, "pending")
            for refused in (second, third):
                assert "voted already" in str(refused.body["reason"])
            assert play.vote(asked.approval_id, person="dana")
            await play.resolved()
            assert play.toy.effects == ["roll_back orders 41"]
            assert play.chain_holds()

    run(story())


def test_one_of_two_votes_that_somebody_calls_approved_is_not_enough(
    tmp_path: Path, stage: Stage
) -> None:
    """Who can write the database may turn the state, but the gate counts the votes again."""

    async def story() -> None:
        stage.bad_deploy()
        async with with_two_voters(tmp_path, stage) as session:
            play = Play(stage, session, Patrol(session.fleet, session.runner))
            asked = (await play.asked()).approval
            assert play.vote(asked.approval_id)
            turn(play, asked, ApprovalState.APPROVED)
            for _ in range(3):
                await play.second()
            assert play.toy.effects == []
            assert any("1 of 2 people with role 'on-call' approved" in r for r in reasons(play))

    run(story())


def test_an_approval_that_was_not_used_in_time_does_not_count(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = (await play.asked()).approval
            assert play.vote(asked.approval_id)
            play.toy.run((asked.expires_ms - play.toy.clock.now_ms()) // 1000 + 1)
            for _ in range(3):
                await play.second()
            assert play.toy.effects == []
            assert play.acts() == ()
            assert any("it has expired" in r or "not used in time" in r for r in reasons(play)), (
                play.story()
            )

    run(story())


def test_an_approval_that_expires_between_verdict_and_intent_is_not_consumed(
    stage: Stage,
) -> None:
    asked: list[Approval] = []

    def late(point: str) -> None:
        if point == "before_intent" and asked:
            stage.toy.clock.at_ms = asked[0].expires_ms
            expire(plays[0], asked[0])

    plays: list[Play] = []

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened(passing=late) as play:
            plays.append(play)
            asked.append((await play.asked()).approval)
            assert play.vote(asked[0].approval_id)
            await play.second()
            assert play.toy.effects == []
            assert play.acts() == ()
            assert refusals(play) == [f"approval {asked[0].approval_id} can no longer be consumed"]
            assert play.chain_holds()

    run(story())


def test_an_approval_that_was_used_up_meanwhile_is_not_used_again(stage: Stage) -> None:
    """A replay: another process consumes it between our verdict and our intent."""
    plays: list[Play] = []
    asked: list[Approval] = []

    def replay(point: str) -> None:
        if point == "before_intent" and asked:
            (one,) = asked
            with plays[0].ledger.transaction() as tx:
                assert approvals.consume(
                    tx,
                    one.approval_id,
                    one.action_digest,
                    one.policy_version,
                    stage.toy.clock.now_ms(),
                )

    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened(passing=replay) as play:
            plays.append(play)
            asked.append((await play.asked()).approval)
            assert play.vote(asked[0].approval_id)
            await play.second()
            assert play.toy.effects == []
            assert refusals(play) == [f"approval {asked[0].approval_id} can no longer be consumed"]

    run(story())


def test_a_consumed_approval_does_not_open_the_gate_for_the_same_act_again(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = (await play.asked()).approval
            assert play.vote(asked.approval_id)
            await play.resolved()
            assert_well(play)
            vote(play, asked, person="dana")
            _, late = play.records("vote")
            assert "is consumed, not pending" in str(late.body["reason"])
            for _ in range(5):
                await play.second()
            assert play.toy.effects == ["roll_back orders 41"]

    run(story())


def test_an_approval_of_what_the_target_was_does_not_count(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = (await play.asked()).approval
            assert play.vote(asked.approval_id)
            play.toy.generation += 1  # another hand changed it: the act would be another one
            await play.second()
            assert play.toy.effects == []
            assert any("it was given for another action" in reason for reason in reasons(play))

    run(story())


def test_an_approval_under_another_policy_version_does_not_count(
    tmp_path: Path, stage: Stage
) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = (await play.asked()).approval
            assert play.vote(asked.approval_id)
        async with with_two_voters(tmp_path, stage) as session:
            play = Play(stage, session, Patrol(session.fleet, session.runner))
            await play.second()
            assert play.toy.effects == []
            assert any("it was given under another policy version" in r for r in reasons(play))
            (again,) = play.pending()
            assert again.approval.policy_version != asked.policy_version
            assert play.chain_holds()

    run(story())


def refusals(play: Play) -> list[str]:
    return [str(record.body["reason"]) for record in play.records("not_done")]


def turn(play: Play, asked: Approval, state: ApprovalState) -> None:
    """What somebody with the database in hand can do."""
    with play.ledger.transaction() as tx:
        change = update(table).where(table.c.approval_id == asked.approval_id)
        assert tx.change(change.values(state=state.value)) == 1


def expire(play: Play, asked: Approval) -> None:
    with play.ledger.transaction() as tx:
        assert approvals.expire(tx, play.toy.clock.now_ms()) == (asked.approval_id,)


def with_two_voters(folder: Path, stage: Stage) -> AbstractAsyncContextManager[Session]:
    """A session whose rule for wide acts wants two people: another policy version too."""
    rules = folder / "rules"
    with as_file(files("loop4.policies") / "rules") as shipped:
        shutil.copytree(shipped, rules)
    path = rules / "boundaries.yaml"
    text = path.read_text("utf-8")
    assert "{role: on-call, need: 1, ttl_s: 900}" in text
    wide = "approval: {role: on-call, need: 1, ttl_s: 900}"
    path.write_text(text.replace(wide, wide.replace("need: 1", "need: 2"), 1), "utf-8")
    return open_session(
        data=stage.data,
        operations=stage.operations,
        world=stage.toy.world(),
        writer=stage.toy,
        clock=stage.toy.clock,
        rules=rules,
    )
