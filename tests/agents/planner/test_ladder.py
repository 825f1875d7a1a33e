"""Each rung of the ladder, on an endpoint that can do just that much."""

from __future__ import annotations

import json

import pytest

from loop4.agents.planner.budget import Limits
from loop4.agents.planner.endpoint import Answer, Call, Message, ToolMode
from loop4.agents.planner.ladder import Fault, calls_of
from loop4.agents.planner.model_planner import ModelPlanner
from loop4.agents.planner.shapes import Tool, fault, object_of, one_of, some, text, whole
from loop4.domain import JsonObject
from tests.agents.conftest import Case, planner_on, refine, run
from tests.agents.model_server import Body, Say, Script, is_probe, natively, report_of

FINDING = {
    "evidence": ["E1", "E4"],
    "kind": "observation",
    "subject": "orders",
    "claim": "orders v2 fails 6000 bp of its requests.",
    "confidence": 60,
}
REPORT = {"call": {"tool": "report", "arguments": {"findings": [FINDING]}}}
READY = {"call": {"tool": "ready", "arguments": {"word": "ok"}}}


def form_of(body: Body) -> str:
    if "tools" in body:
        return "native"
    kind = str(body.get("response_format", {}).get("type", ""))
    return {"json_schema": "schema", "json_object": "object", "": "parse"}[kind]


def only(rung: str, *, wrap: str = "{}", refuses: int = 400) -> Script:
    """An endpoint that knows this rung and rejects the ones above it."""

    def answer(body: Body) -> Say:
        if form_of(body) != rung:
            return Say(status=refuses)
        if rung == "native":
            return Say(calls=(("ready", {"word": "ok"}),)) if is_probe(body) else native_report()
        return Say(wrap.replace("{}", json.dumps(READY if is_probe(body) else REPORT)))

    return answer


def native_report() -> Say:
    return report_of(findings=[FINDING])


@pytest.mark.parametrize(
    ("rung", "probes"), [("native", 1), ("schema", 2), ("object", 3), ("parse", 4)]
)
def test_the_best_rung_that_works_is_found_once_and_kept(
    rung: str, probes: int, case: Case
) -> None:
    with planner_on(only(rung)) as (planner, served):
        before, refined = refine(planner, case)
        assert refined.note is not None
        assert (refined.note.rung, refined.note.fallback) == (rung, "")
        assert [f.claim for f in refined.report.findings[len(before.findings) :]] == [
            FINDING["claim"]
        ]
        refine(planner, case)
    assert sum(is_probe(b) for b in served.seen) == probes


def test_an_endpoint_that_ignores_tools_is_asked_by_schema(case: Case) -> None:
    def prints_calls(body: Body) -> Say:
        return Say("```json\n" + json.dumps(READY if is_probe(body) else REPORT) + "\n```")

    with planner_on(prints_calls) as (planner, served):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.rung == "schema"
    assert [form_of(b) for b in served.seen] == ["native", "schema", "schema"]


@pytest.mark.parametrize("mode", ["native", "schema", "object", "parse"])
def test_a_named_mode_is_not_tried_but_used(mode: str, case: Case) -> None:
    with planner_on(only(mode), mode=ToolMode(mode)) as (planner, served):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert (refined.note.rung, refined.note.fallback) == (mode, "")
    assert not any(is_probe(b) for b in served.seen)


def test_words_round_the_json_do_not_matter(case: Case) -> None:
    wrap = "Sure! Here it is:\n```json\n{}\n```\nAnything else?"
    with planner_on(only("parse", wrap=wrap), mode=ToolMode.PARSE) as (planner, _):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.fallback == ""


def test_an_endpoint_without_any_rung_leaves_the_playbook(case: Case) -> None:
    with planner_on(lambda b: Say("I do not do JSON.")) as (planner, served):
        before, refined = refine(planner, case)
    assert refined.report == before
    assert refined.note is not None
    assert "no way was found" in refined.note.fallback
    assert [form_of(b) for b in served.seen] == ["native", "schema", "object", "parse"]


def test_a_schema_rung_sends_strict_json_schema_and_no_tools(case: Case) -> None:
    with planner_on(only("schema")) as (planner, served):
        refine(planner, case)
    sent = served.seen[-1]["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["schema"]["additionalProperties"] is False
    assert "tools" not in served.seen[-1]


def test_requests_stream_with_usage_and_bounded_answers(case: Case) -> None:
    with planner_on(natively(lambda b: native_report())) as (planner, served):
        refine(planner, case)
    body = served.seen[-1]
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert 0 < body["max_completion_tokens"] <= 1000
    assert body["temperature"] == 0


SHAPE = object_of(word=one_of(["a", "b"]), many=some(whole(1, 3), 2), free=text(5))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"word": "a", "many": [1, 2], "free": "x"}, ""),
        ({"word": "c", "many": [], "free": ""}, "expected one of a, b"),
        ({"word": "a", "many": [1, 2, 3], "free": ""}, "at most 2 items"),
        ({"word": "a", "many": [4], "free": ""}, "expected 1 to 3"),
        ({"word": "a", "many": [True], "free": ""}, "expected a whole number"),
        ({"word": "a", "many": [1.0], "free": ""}, "expected a whole number"),
        ({"word": "a", "many": "12", "free": ""}, "expected a list"),
        ({"word": "a", "many": [], "free": "123456"}, "at most 5 characters"),
        ({"word": "a", "many": []}, "'free' is missing"),
        ({"word": "a", "many": [], "free": "", "more": 1}, "unknown field 'more'"),
        ([], "expected an object"),
        (None, "expected an object"),
    ],
)
def test_a_shape_says_what_does_not_fit(value: object, problem: str) -> None:
    found = fault(SHAPE, value)  # type: ignore[arg-type]  # foreign JSON
    assert problem in found
    assert bool(problem) == bool(found)


def test_calls_are_checked_against_their_tool() -> None:
    tool = Tool("a", "", object_of(word=one_of(["ok"])))
    for content in ("", "no", "{}", '{"call": 3}', '{"call": {"tool": "b"}}', "{" * 100_000):
        assert isinstance(calls_of(Answer(content), (tool,)), Fault)
    good = '{"tool": "a", "arguments": {"word": "ok"}}'
    assert not isinstance(calls_of(Answer(good), (tool,)), Fault)


def test_the_rung_stays_with_its_planner() -> None:
    with planner_on(only("schema")) as (planner, _):

        async def rung(planner: ModelPlanner) -> str:
            try:
                return str(await planner.turns.ladder.rung())
            finally:
                await planner.close()

        assert run(rung(planner)) == "schema"
        assert str(planner.turns.ladder.found) == "schema"


@pytest.mark.parametrize(
    "answer",
    [
        Answer('{"call": {"tool": "r", "arguments": {"f": [{"kind": "x"}', finish="length"),
        Answer('{"call": {"tool": "report", "argum', finish="length"),
        Answer("", finish="length"),
        Answer("", (Call("report", '{"findings": ['),), finish="length"),
    ],
    ids=["inside", "early", "empty", "native"],
)
def test_an_answer_cut_at_its_length_is_told_so(answer: Answer) -> None:
    report = Tool("report", "Report.", object_of(findings={"type": "array"}))
    found = calls_of(answer, (report,))
    assert isinstance(found, Fault)
    assert "too long and was cut" in found.reason


def test_a_probe_and_a_pick_are_booked() -> None:
    pick = Tool("pick", "Pick.", object_of(word=one_of(["red", "green"])))

    def script(body: Body) -> Say:
        return Say(calls=(("pick", {"word": "red"}),), usage=(200, 10))

    async def picked(planner: ModelPlanner) -> JsonObject:
        try:
            return await planner.pick("question-1", (Message("user", "Which?"),), pick)
        finally:
            await planner.close()

    with planner_on(natively(script)) as (planner, served):
        assert run(picked(planner)) == {"word": "red"}
        assert planner.totals.turns == len(served.seen) == 2
        assert planner.totals.usage.prompt_tokens == 120 + 200
    with planner_on(natively(lambda b: Say("no call"))) as (planner, _):
        assert run(picked(planner)) == {}
    with planner_on(natively(script), limits=Limits(tokens=100)) as (planner, served):
        assert run(picked(planner)) == {}
        assert served.seen == []


def test_a_native_call_that_was_cut_is_no_report(case: Case) -> None:
    cut = Say(calls=(("report", ""),), finish="length")
    with planner_on(natively(lambda b: cut)) as (planner, _):
        before, refined = refine(planner, case)
    assert refined.report == before
    assert refined.note is not None
    assert "too long and was cut" in refined.note.fallback


def test_a_whole_call_inside_a_cut_one_does_not_count() -> None:
    tool = Tool("a", "", object_of(word=one_of(["ok"])))
    inner = json.dumps({"tool": "a", "arguments": {"word": "ok"}})
    for text_, is_whole in (
        (inner, True),
        (inner + " and", True),
        (f'{{"call": [{inner}, ', False),
    ):
        found = calls_of(Answer(text_, finish="length"), (tool,))
        assert isinstance(found, Fault) is not is_whole


def test_a_model_that_thinks_first_is_given_room_to_say_ready(case: Case) -> None:
    def thinks(body: Body) -> Say:
        if not is_probe(body):
            return native_report()
        room = max(body.get("max_tokens") or 0, body.get("max_completion_tokens") or 0)
        return Say(calls=(("ready", {"word": "ok"}),)) if room > 100 else Say(finish="length")

    with planner_on(thinks) as (planner, _):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert (refined.note.rung, refined.note.fallback) == ("native", "")
