"""One incident on the toy world, from breach to report, and what may happen on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from loop4.domain import ApprovalState, IntentState, Reading
from loop4.ledger import events, parameters
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


def test_a_rejected_request_leads_to_no_act_and_is_not_asked_again(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert play.vote(asked.approval.approval_id, approve=False)
            for _ in range(30):
                await play.second()
            assert play.toy.effects == []
            assert play.acts() == ()
            (request,) = play.requests()
            assert request.approval.state is ApprovalState.REJECTED
            assert [i.state for i in play.incidents()] == ["open"]
            assert play.chain_holds()

    run(story())


def test_an_expired_request_leads_to_no_act_and_pages_a_person(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            pages = [p for p in stage.files() if "/page-" in p]
            play.toy.run((asked.approval.expires_ms - play.toy.clock.now_ms()) // 1000 + 1)
            assert not play.vote(asked.approval.approval_id)
            await play.until(lambda: [i.state for i in play.incidents()] == ["escalated"], 5)
            assert play.toy.effects == []
            assert play.acts() == ()
            assert [r.approval.state for r in play.requests()] == [ApprovalState.EXPIRED]
            (told,) = [p for p in stage.files() if "/page-" in p and p not in pages]
            assert "nobody answered" in (stage.operations / told).read_text(encoding="utf-8")
            play.toy.failing_bp = 0  # the person who was paged mended it by hand
            await play.resolved()
            assert play.toy.effects == []
            assert play.chain_holds()

    run(story())


def test_an_act_that_does_not_help_is_not_undone_into_what_was_bad_and_a_person_is_paged(
    stage: Stage,
) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert play.vote(asked.approval.approval_id)
            play.toy.is_stubborn = True
            await play.until(lambda: play.open_runs() == (), 120)
            assert play.toy.effects == ["roll_back orders 41"]
            undone = [
                r.body
                for r in play.records("decision")
                if r.body["tool"] == "deployments.roll_back" and r.body["effect"] == "deny"
            ]
            assert [b["arguments"] for b in undone] == [{"service": "orders", "to_revision": 42}]
            assert "unrecorded-artefact" in cast("list[str]", undone[0]["rules"])
            assert [i.state for i in play.incidents()] == ["escalated"]
            assert play.chain_holds()

    run(story())


def test_a_breach_that_clears_during_the_wait_withdraws_the_request(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.toy.failing_bp = 0
            await play.resolved()
            assert [r.approval.state for r in play.requests()] == [ApprovalState.WITHDRAWN]
            assert not play.vote(asked.approval.approval_id)
            await play.second()
            assert play.toy.effects == []
            assert play.acts() == ()
            assert play.chain_holds()

    run(story())


def test_severity_that_rises_during_the_wait_supersedes_the_request(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.failing_bp = 600
        stage.bad_deploy()
        async with stage.opened() as play:
            first = await play.asked()
            assert [i.severity.value for i in play.incidents()] == ["SEV2"]
            play.toy.failing_bp = 6_000
            play.toy.run(10)
            handled = await play.session.runner.handle(breach(stage, event_id="breach:worse"))
            assert not handled.started
            await play.patrol.beat()
            assert [i.severity.value for i in play.incidents()] == ["SEV1"]
            old, new = play.requests()
            assert old.approval.approval_id == first.approval.approval_id
            assert old.approval.state is ApprovalState.SUPERSEDED
            assert new.approval.state is ApprovalState.PENDING
            assert not play.vote(first.approval.approval_id)
            await play.second()
            assert play.toy.effects == []
            assert play.vote(new.approval.approval_id)
            await play.resolved()
            assert play.toy.effects == ["roll_back orders 41"]
            assert play.chain_holds()

    run(story())


def test_the_same_event_delivered_twice_is_one(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            play.toy.run(10)
            first = await play.session.runner.handle(breach(stage))
            seen = len(play.records())
            again = await play.session.runner.handle(breach(stage))
            assert first.started
            assert not first.duplicate
            assert again.duplicate
            assert not again.started
            assert again.incident_id == first.incident_id
            assert len(play.records()) == seen
            assert len(play.incidents()) == len(play.open_runs()) == 1

    run(story())


def test_an_event_of_a_related_service_joins_the_live_run(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            play.toy.run(10)
            first = await play.session.runner.handle(breach(stage))
            caller = breach(stage, service="gateway", event_id="breach:2")
            second = await play.session.runner.handle(caller)
            assert not second.started
            assert second.run_id == first.run_id
            with play.ledger.read() as tx:
                assert [e.event_id for e in events.inbox(tx, first.incident_id)] == ["breach:2"]
            assert len(play.incidents()) == 1

    run(story())


def test_an_event_of_another_environment_does_not_join(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            play.toy.run(10)
            first = await play.session.runner.handle(breach(stage))
            other = replace(
                breach(stage, event_id="breach:2"),
                environment="staging",
                correlation="staging/orders",
            )
            second = await play.session.runner.handle(other)
            assert second.started
            assert second.incident_id != first.incident_id

    run(story())


def test_a_new_alert_after_a_resolve_is_a_new_incident(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.vote(asked.approval.approval_id)
            await play.resolved()
            later = await play.session.runner.handle(breach(stage, event_id="breach:later"))
            assert later.started
            assert [i.incident_id for i in play.incidents()] == ["INC-2026-001", "INC-2026-002"]
            assert later.incident_id == "INC-2026-002"

    run(story())


def test_an_alert_of_an_unknown_service_gets_no_act(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.run(20)
        async with stage.opened() as play:
            await play.session.runner.handle(breach(stage, service="warehouse"))
            assert play.acts() == ()
            assert play.toy.effects == []
            (triage,) = play.records("triage")
            assert triage.body["service_known"] is False
            assert play.open_runs() == ()

    run(story())


def test_a_resolved_alert_of_nothing_open_starts_nothing(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.run(20)
        async with stage.opened() as play:
            handled = await play.session.runner.handle(replace(breach(stage), resolved=True))
            assert handled.incident_id == ""
            assert play.incidents() == ()
            await play.session.runner.resume()
            assert play.incidents() == ()

    run(story())


def test_in_observe_everything_is_judged_and_recorded_and_nothing_is_done(stage: Stage) -> None:
    async def story() -> None:
        bindings = stage.operations / "policies" / "bindings.yaml"
        bindings.write_text(bindings.read_text().replace("mode: act", "mode: observe"))
        stage.bad_deploy()
        async with stage.opened() as play:
            await play.until(lambda: play.records("decision"), 20)
            play.toy.failing_bp = 0
            await play.until(lambda: play.open_runs() == (), 60)
            assert play.toy.effects == []
            assert stage.files() == []
            decided = {(r.body["effect"], r.body["mode"]) for r in play.records("decision")}
            assert decided == {("deny", "observe")}
            assert "require_approval" in {r.body["decided"] for r in play.records("decision")}

    run(story())


def test_who_does_not_answer_is_reminded_and_then_the_secondary_is_paged(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            approval = asked.approval
            span_s = (approval.expires_ms - approval.requested_ms) // 1000
            before = set(stage.files())

            play.toy.run(span_s // 2 - 5)
            await play.session.runner.resume()
            assert set(stage.files()) == before
            play.toy.run(10)
            await play.session.runner.resume()
            await play.session.runner.resume()
            (note,) = set(stage.files()) - before
            text = (stage.operations / note).read_text(encoding="utf-8")
            assert "/notification-" in note
            assert "Nobody has answered yet: deployments.roll_back" in text
            assert "on-call" in text

            play.toy.run(span_s * 80 // 100 - span_s // 2)
            await play.session.runner.resume()
            (page,) = set(stage.files()) - before - {note}
            text = (stage.operations / page).read_text(encoding="utf-8")
            assert "/page-" in page
            assert "platform-on-call" in text
            assert play.toy.effects == []

            assert play.vote(approval.approval_id)
            await play.resolved()
            assert play.toy.effects == ["roll_back orders 41"]
            assert play.chain_holds()

    run(story())


def test_nobody_is_reminded_of_what_was_answered(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            assert play.vote(asked.approval.approval_id, approve=False)
            await play.session.runner.resume()
            before = set(stage.files())
            play.toy.run((asked.approval.expires_ms - asked.approval.requested_ms) // 1000 - 60)
            await play.session.runner.resume()
            assert not [f for f in set(stage.files()) - before if "notification" in f]

    run(story())


def test_a_pause_stops_an_approved_act_and_not_the_pages(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            now_ms = play.toy.clock.now_ms()
            with play.ledger.transaction() as tx:
                parameters.put(tx, "paused", "yes", by="noor", reason="storm", now_ms=now_ms)
            assert play.vote(asked.approval.approval_id)
        async with stage.opened() as play:  # the pause survives the restart
            for _ in range(5):
                await play.second()
            assert play.toy.effects == []
            last = [
                r for r in play.records("decision") if r.body["tool"] == "deployments.roll_back"
            ][-1]
            assert last.body["effect"] == "deny"
            assert "fleet-paused" in str(last.body["rules"])
            assert any("/page-" in name for name in stage.files())
            assert play.chain_holds()

    run(story())
