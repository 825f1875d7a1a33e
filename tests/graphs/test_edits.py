"""An edit of a request: the old one is rejected, the new action goes the whole way through the
gate.
"""

from __future__ import annotations

import pytest

from loop4.domain import ApprovalState
from loop4.ledger.approval_edits import Edited, edit
from tests.graphs.conftest import ON_CALL, Play, Stage, run

Changes = dict[str, str | int | bool]


def edited(play: Play, changes: Changes, *, person: str = ON_CALL) -> Edited:
    (asked,) = play.pending()
    with play.ledger.transaction() as tx:
        return edit(
            tx,
            asked.approval.approval_id,
            person,
            ("on-call",),
            changes,
            play.toy.clock.now_ms(),
        )


def test_an_edit_is_a_new_action_that_its_author_cannot_approve(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            first = (await play.asked()).approval
            assert edited(play, {"to_revision": 40}).accepted
            await play.session.runner.resume()

            by_id = {r.approval.approval_id: r.approval for r in play.requests()}
            assert by_id[first.approval_id].state is ApprovalState.REJECTED
            decided = [r.body for r in play.records("decision") if r.body["requester"] == ON_CALL]
            assert [d["tool"] for d in decided] == ["deployments.roll_back"]
            assert decided[0]["arguments"] == {"service": "orders", "to_revision": 40}
            assert play.toy.effects == []

            for request in play.pending():
                assert request.approval.requester == ON_CALL
                assert request.approval.action_digest != first.action_digest
                assert not play.vote(request.approval.approval_id)
            assert not play.vote(first.approval_id, person="noor")
            assert play.toy.effects == []
            (record,) = play.records("approval_edited")
            assert record.body["changes"] == {"to_revision": 40}
            assert play.chain_holds()

    run(story())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "nothing is changed"),
        ({"to_revision": 41}, "nothing is changed"),
        ({"service": "payments"}, "names the target"),
        ({"force": True}, "no argument 'force'"),
        ({"to_revision": "40"}, "expected another int"),
        ({"to_revision": True}, "expected another int"),
    ],
)
def test_an_edit_that_is_none_changes_nothing(stage: Stage, changes: Changes, reason: str) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            await play.asked()
            refused = edited(play, changes)
            assert not refused.accepted
            assert reason in refused.reason
            assert len(play.pending()) == 1
            assert play.records("approval_edited") == ()

    run(story())


def test_who_may_not_vote_may_not_edit(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            await play.asked()
            assert not edited(play, {"to_revision": 40}, person="remediation").accepted
            assert len(play.pending()) == 1
            (refused,) = play.records("vote")
            assert refused.body["accepted"] is False

    run(story())
