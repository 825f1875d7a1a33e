"""What a conversation may set going: a person's request through the gate, and a note to a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from loop4.domain import Effect, Json
from loop4.graphs.conversation.sheet import AnswerKind
from loop4.graphs.incident_facts import timeline
from loop4.ledger import events
from loop4.ledger.evidence import EvidenceRecord
from tests.graphs.conftest import Play, Stage
from tests.graphs.conversation.conftest import INCIDENT, run, talking

JONAS = "jonas"  # on-call and service owner; `mira` is on call too


def decisions(play: Play, requester: str) -> tuple[EvidenceRecord, ...]:
    return tuple(r for r in play.records("decision") if r.body["requester"] == requester)


def test_a_question_about_an_act_leaves_no_trace_and_moves_nothing(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            await play.asked()
            before = talk.chain(), list(play.toy.effects), play.requests()
            for line in ("may you restart orders-v1?", "why not?", "may you roll back orders?"):
                assert (await talk.ask(line)).kind is AnswerKind.ANSWERED
            assert (await talk.ask("roll back orders")).kind is AnswerKind.ASKS
            assert (await talk.ask("no")).lines == ("nothing was asked for",)
            assert (await talk.ask("yes")).kind is AnswerKind.NOT_UNDERSTOOD
            assert (talk.chain(), list(play.toy.effects), play.requests()) == before

    run(story())


def test_the_dry_judgement_is_what_the_gate_then_decides(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            asked = await play.asked()
            answer = await talk.ask("may you roll back orders?")
            judged = cast("Mapping[str, Json]", answer.body["judgement"])
            own = cast("Mapping[str, Json]", judged["fleet"])
            real = next(
                r for r in play.records("decision") if r.action_id == asked.approval.action_id
            )
            assert own["effect"] == real.body["effect"] == "require_approval"
            assert own["rules"] == real.body["rules"]
            assert judged["arguments"] == real.body["arguments"]

    run(story())


def test_a_request_goes_to_the_live_runner_and_waits_for_another_person(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.run(60)
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            shown = await talk.ask("restart orders-v1")
            assert shown.kind is AnswerKind.ASKS
            assert any("requester: jonas" in line for line in shown.lines)
            given = await talk.ask("yes")
            assert given.kind is AnswerKind.SUBMITTED
            assert "lies in the ledger" in given.lines[0]
            await play.second()  # the live runner takes it up at its next beat
            (request,) = play.pending()
            assert request.approval.requester == JONAS
            judged = cast("Mapping[str, Json]", shown.body["judgement"])
            asked = cast("Sequence[Mapping[str, Json]]", request.payload["action_requests"])
            assert asked[0]["args"] == judged["arguments"], "exactly what was shown"
            assert play.toy.effects == []
            assert not play.vote(request.approval.approval_id, person=JONAS), "never one's own"
            text = await talk.text("what is pending?")
            assert "waits for 1 vote of role on-call (mira)" in text
            assert play.vote(request.approval.approval_id)
            await play.session.runner.resume()
            assert play.toy.effects == ["restart orders-v1"]
            text = await talk.text("why did you restart orders-v1?")
            assert "asked by jonas: allow" in text
            assert "mira approved it" in text

    run(story())


def test_without_a_live_runner_the_conversation_runs_the_request_itself(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.run(60)
        async with stage.opened() as play:
            pass
        async with talking(play, person=JONAS) as talk:
            await talk.ask("restart orders-v1")
            given = await talk.conversation.ask("yes")
            assert given.kind is AnswerKind.SUBMITTED
            assert any("the gate: require_approval" in line for line in given.lines)
            assert any("waits for 1 vote of role on-call (mira)" in line for line in given.lines)

    run(story())


def test_a_request_that_the_rules_deny_is_denied_and_nothing_runs(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            await play.asked()
            shown = await talk.text("roll back orders to 42")
            assert "denied (deny) [rule unrecorded-artefact" in shown
            await talk.ask("yes")
            await play.second()
            (record,) = decisions(play, JONAS)
            assert record.body["effect"] == Effect.DENY.value
            assert play.toy.effects == []

    run(story())


def test_nobody_signed_in_asks_for_nothing(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play, talking(play) as talk:
            await play.asked()
            before = talk.chain()
            answer = await talk.ask("roll back orders to 41")
            assert answer.kind is AnswerKind.REFUSED
            assert "mira (on-call), jonas (on-call, service-owner)" in answer.lines[-1]
            assert (await talk.ask("yes")).kind is AnswerKind.NOT_UNDERSTOOD
            assert (await talk.ask("look at payments too")).kind is AnswerKind.REFUSED
            assert talk.chain() == before

    run(story())


def test_an_offer_is_for_five_minutes_and_for_the_very_next_line(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.run(60)
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            await talk.ask("restart orders-v1")
            stage.toy.run(301)
            assert (await talk.ask("yes")).kind is AnswerKind.REFUSED
            await talk.ask("restart orders-v1")
            await talk.ask("how is orders?")
            assert (await talk.ask("yes")).kind is AnswerKind.NOT_UNDERSTOOD
            assert play.incidents() == ()

    run(story())


def test_a_note_lands_in_the_inbox_of_the_live_run_and_in_the_chain(stage: Stage) -> None:
    async def story() -> None:
        stage.bad_deploy()
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            await play.asked()
            answer = await talk.ask("look at payments too")
            assert answer.kind is AnswerKind.SUBMITTED
            assert "payments is tied to orders, so the run reads it already" in answer.lines[0]
            assert any("payments-availability: not breached" in line for line in answer.lines)
            with play.ledger.read() as tx:
                (note,) = events.inbox(tx, INCIDENT)
            assert (note.service, note.requester, note.request) == ("payments", JONAS, None)
            (record,) = play.records("note")
            assert record.body["look_at"] == "payments"
            await play.second()
            with play.ledger.read() as tx:
                assert events.inbox(tx, INCIDENT) == (), "the run took it"
            play.vote(play.pending()[0].approval.approval_id)
            await play.resolved()
            told = [str(e) for e in timeline(play.session.fleet, play.incidents()[0])]
            assert sum(f"{JONAS} asked to look at payments" in line for line in told) == 1
            assert "no investigation is running" in await talk.text("look at payments too")

    run(story())


def test_a_note_without_an_incident_just_looks(stage: Stage) -> None:
    async def story() -> None:
        stage.toy.run(60)
        async with stage.opened() as play, talking(play, person=JONAS) as talk:
            text = await talk.text("look at payments too")
            assert "no investigation is running" in text
            assert "payments-availability: not breached" in text
            assert play.records("note") == ()

    run(story())
