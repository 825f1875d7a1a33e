"""The model behind a conversation, over the real wire, saying what a script tells it."""

from __future__ import annotations

import pytest

from loop4.graphs.conversation.model_answerer import ModelAnswerer
from loop4.graphs.conversation.sheet import AnswerKind
from tests.agents.conftest import planner_on
from tests.agents.model_server import Body, Say, Script, natively, text_of, tools_of
from tests.graphs.conftest import Stage
from tests.graphs.conversation.conftest import run, talking

FOREIGN = "combien de marge reste-t-il pour orders, token=hunter2hunter2?"


def picks(intent: object, prose: str = "") -> Script:
    def answer(body: Body) -> Say:
        if tools_of(body):
            return Say(calls=(("pick", {"intent": intent}),))
        return Say(prose)

    return natively(answer)


def test_it_chooses_for_the_person_and_retells_what_holds(stage: Stage) -> None:
    prose = "orders-availability has 100 % left. mira restarted orders 7 times. 0 requests failed."

    async def story() -> None:
        stage.toy.run(30)
        with planner_on(picks("budget", prose)) as (planner, served):
            async with (
                stage.opened() as play,
                talking(play, answerer=ModelAnswerer(planner)) as talk,
            ):
                answer = await talk.ask(FOREIGN)
                assert answer.understood == "error budget of orders (chosen by the model)"
                assert answer.prose.startswith("orders-availability has 100 % left.")
                assert "mira" not in answer.prose
                await planner.close()
        assert "hunter2" not in served.said(), "a secret in a question does not leave"
        assert any("- budget: how much" in text_of(b) for b in served.seen)

    run(story())


@pytest.mark.parametrize(
    "script",
    [
        picks("request"),
        picks("none"),
        picks({"intent": 1}),
        natively(lambda body: Say("I am not sure.")),
        natively(lambda body: Say(calls=(("delete_everything", {}),))),
        lambda body: Say(status=500),
        lambda body: Say(status=401),
        lambda body: Say(body="<html>"),
    ],
    ids=["request", "none", "shape", "prose", "unknown tool", "500", "401", "garbage"],
)
def test_whatever_else_it_says_the_answer_is_that_nothing_was_understood(
    stage: Stage, script: Script
) -> None:
    async def story() -> None:
        stage.toy.run(30)
        with planner_on(script) as (planner, _):
            async with (
                stage.opened() as play,
                talking(play, person="jonas", answerer=ModelAnswerer(planner)) as talk,
            ):
                before = talk.chain()
                assert (await talk.ask(FOREIGN)).kind is AnswerKind.NOT_UNDERSTOOD
                known = await talk.ask("how is orders?")
                assert known.kind is AnswerKind.ANSWERED
                assert known.lines
                assert talk.chain() == before
                await planner.close()

    run(story())
