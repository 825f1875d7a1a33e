"""One incident on the toy world, from breach to report, and what may happen on the way."""

from __future__ import annotations

from loop4.domain import ApprovalState, IntentState, Reading
from loop4.ledger import events
from tests.graphs.conftest import Stage, breach, run


def test_a_bad_deploy_is_rolled_back_after_approval_and_proven_fixed(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert play.toy.effects == []
            assert asked.approval.role == "on-call"
            assert play.vote(asked.approval.approval_id)
            await play.resolved()

            (incident,) = play.incidents()
            assert incident.severity.value == "SEV1"
            assert incident.cause == "guilty_change:orders"
            assert incident.detected_ms < incident.mitigated_ms <= incident.resolved_ms
            assert play.toy.effects == ["roll_back orders 41"]
            (act,) = play.acts()
            assert (act.tool, act.state, act.verified) == (
                "deployments.roll_back",
                IntentState.DONE,
                Reading.PASS,
            )
            assert act.approval_id == asked.approval.approval_id
            judged = [r for r in play.records("decision") if r.body["tool"] == act.tool]
            assert [r.body["effect"] for r in judged] == ["require_approval", "allow"]
            assert {r.body["action_digest"] for r in judged} == {act.action_digest}
            assert play.chain_holds()
            assert play.open_runs() == ()

    run(story())
    names = [path.rsplit("/", 1)[-1] for path in stage.files()]
    assert {"page-01.md", "context-01.md", "customer-update-01.md"} <= set(names)
    assert any("retrospectives" in path for path in stage.files())
    assert any(path.startswith("work/signals/") for path in stage.files())
