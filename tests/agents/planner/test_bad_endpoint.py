"""Every way in which a model or its endpoint can fail, through the real adapter and the real wire.

Each time: the playbook's report stands, one clear line says why, and the key is nowhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from loop4.agents.planner.budget import Limits
from loop4.agents.planner.endpoint import Endpoint, EndpointError, Message, Request, Trouble
from loop4.agents.planner.model_planner import ModelPlanner
from loop4.agents.planner.port import ProseFacts, Refined
from loop4.agents.planner.settings import MAX_RETRIES, ModelSettings
from loop4.settings import Secret
from loop4.telemetry import use_tracer_provider
from tests.agents.conftest import KEY, Case, planner_on, refine, run
from tests.agents.model_server import Say, Script, in_turn, natively, report_of

LOG = ("logs_records", {"service": "orders", "seconds_back": 30})
FAILURES: dict[str, tuple[Script, str]] = {
    "garbage": (natively(lambda b: Say("qwe rty uiop")), "no tool call"),
    "nothing": (natively(lambda b: Say("")), "it was empty"),
    "invalid JSON": (
        natively(lambda b: Say(calls=(("report", '{"findings": ['),))),
        "expected an object",
    ),
    "a tool that does not exist": (
        natively(lambda b: Say(calls=(("workloads_delete", {}),))),
        "there is no tool 'workloads_delete'",
    ),
    "the same call for ever": (natively(lambda b: Say(calls=(LOG,))), "repeats the call"),
    "another language": (
        natively(lambda b: Say("Es tut mir leid, dabei kann ich nicht helfen.")),
        "no tool call",
    ),
    "a refusal": (natively(lambda b: Say(refusal="I cannot help with that.")), "it was empty"),
    "a filter": (natively(lambda b: Say(finish="content_filter")), "a filter of the endpoint"),
    "100,000 tokens": (natively(lambda b: Say("word " * 100_000)), "does not stop"),
    "no completion at all": (
        natively(lambda b: Say(body="<html>hello</html>")),
        "no chat completion",
    ),
    "broken events": (natively(lambda b: Say(body="data: {nope\n\n")), "no chat completion"),
    "events of another shape": (
        natively(lambda b: Say(body='data: {"choices": [{"index": 0}]}\n\n')),
        "no chat completion",
    ),
    "a stream cut in the middle": (
        natively(lambda b: Say("half of an answer that goes on and on " * 4, cut_after=2)),
        "cut in the middle",
    ),
    "rate limits": (natively(lambda b: Say(status=429, headers={"retry-after": "0"})), "(429)"),
    "500": (natively(lambda b: Say(status=500)), "failed (500)"),
    "a rejected request": (natively(lambda b: Say(status=404)), "does it know the model"),
    "a wrong key": (lambda b: Say(status=401), "does not accept the key (401)"),
}


def assert_playbook_stands(before: object, refined: Refined, words: str) -> None:
    assert refined.report == before
    assert refined.note is not None
    assert words in refined.note.fallback
    assert "\n" not in refined.note.fallback
    assert KEY not in json.dumps(refined.note.to_json())


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_model_leaves_the_playbook_standing(
    name: str, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    script, words = FAILURES[name]
    caplog.set_level(logging.DEBUG)
    exporter, told = InMemorySpanExporter(), list[str]()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use_tracer_provider(provider)
    try:
        with planner_on(script, tell=told.append) as (planner, served):
            before, refined = refine(planner, case)
    finally:
        use_tracer_provider(None)
    assert_playbook_stands(before, refined, words)
    assert any(KEY in key for key in served.keys)  # it was sent, and stays unsaid:
    assert KEY not in caplog.text + repr(planner) + repr(planner.settings) + "".join(told)
    assert KEY not in "".join(s.to_json() for s in exporter.get_finished_spans())


def test_a_model_that_says_nothing_for_a_minute_is_left_alone(case: Case) -> None:
    told: list[str] = []
    silent = natively(lambda b: Say("late", silent_s=30))
    with planner_on(silent, timeout_s=0.2, tell=told.append) as (planner, _):
        before, refined = refine(planner, case)
        assert_playbook_stands(before, refined, "said nothing for 0.2 s")
        again, rested = refine(planner, case, "health")
    assert_playbook_stands(again, rested, "not asked again for 60 s")
    assert len(told) == 1  # one line for the person, not one an agent
    assert "the playbook goes on without it" in told[0]


def test_a_slow_model_ends_with_the_time_budget(case: Case) -> None:
    slow = natively(lambda b: Say(calls=(LOG,), silent_s=5))
    with planner_on(slow, limits=Limits(seconds=1.0)) as (planner, _):
        before, refined = refine(planner, case)
    assert_playbook_stands(before, refined, "the model took more than 1 s")


def test_an_endpoint_that_is_down_is_one_line(case: Case) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with planner_on(natively(lambda b: report_of())) as (planner, _):
        gone = ModelPlanner(
            replace(planner.settings, base_url=f"http://user:{KEY}@127.0.0.1:{port}/v1?key={KEY}")
        )
        before, refined = refine(gone, case)
    assert_playbook_stands(before, refined, "cannot be reached")
    assert KEY not in repr(gone)


def test_the_sdk_retries_a_429_and_the_answer_counts(case: Case) -> None:
    busy = in_turn(Say(status=429, headers={"retry-after": "0.01"}), report_of())
    with planner_on(natively(busy), max_retries=2) as (planner, served):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.fallback == ""
    assert len(served.seen) == 3  # the probe, the 429, the report


@pytest.mark.parametrize("retries", [MAX_RETRIES, 0])
def test_a_kept_connection_that_the_server_closed_is_opened_again(retries: int) -> None:
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {"index": 0, "delta": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    events = f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(events)}"
    closed: list[int] = []

    async def read(reader: asyncio.StreamReader) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        length = next(w for w in asked.lower().split(b"\r\n") if w.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(f"{head}\r\n\r\n".encode() + events)
        await writer.drain()
        if not closed:  # the next request on it is read and gets no answer
            closed.append(1)
            await read(reader)
        writer.close()

    async def story() -> list[str]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = ModelSettings(
                "m", f"http://127.0.0.1:{port}/v1", Secret(KEY), max_retries=retries
            )
            endpoint = Endpoint(settings)
            try:
                asked = Request([Message("user", "hello")])
                return [(await endpoint.ask(asked)).text for _ in range(2)]
            finally:
                await endpoint.close()

    if retries:
        assert run(story()) == ["yes", "yes"]
    else:
        with pytest.raises(EndpointError, match="cannot be reached"):
            run(story())
    assert closed, "the connection was not kept, so nothing was shown"


def test_an_answer_that_is_repaired_counts(case: Case) -> None:
    script = natively(in_turn(Say("I think it is fine."), report_of()))
    with planner_on(script) as (planner, served):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.fallback == ""
    assert "one repair turn" in refined.note.notes
    assert "cannot be used" in str(served.seen[-1]["messages"][-1]["content"])


def test_a_text_that_fails_is_the_template(case: Case) -> None:
    facts = ProseFacts("orders fails 6000 bp of its requests.", incident_id="INC-2026-001")

    async def work(planner: ModelPlanner) -> tuple[str, list[str]]:
        written = await planner.write("summary", facts)
        streamed = [s async for s in planner.stream("summary", facts)]
        await planner.close()
        return written.text, streamed

    for name in ("garbage", "nothing", "a stream cut in the middle", "500", "another language"):
        with planner_on(FAILURES[name][0]) as (planner, _):
            text, streamed = run(work(planner))
        assert text == facts.template
        assert streamed == [facts.template]


def test_every_error_of_the_adapter_has_its_kind() -> None:
    async def trouble(endpoint: Endpoint) -> Trouble:
        try:
            await endpoint.ask(Request([Message("user", "hello")]))
        except EndpointError as error:
            return error.trouble
        finally:
            await endpoint.close()
        raise AssertionError("no error")

    expected = {
        401: Trouble.WRONG_KEY,
        403: Trouble.WRONG_KEY,
        400: Trouble.REJECTED,
        404: Trouble.REJECTED,
        422: Trouble.REJECTED,
        429: Trouble.RATE_LIMITED,
        500: Trouble.SERVER_ERROR,
        503: Trouble.SERVER_ERROR,
    }
    said = in_turn(*(Say(status=s) for s in expected))
    with planner_on(said) as (planner, _):
        for kind in expected.values():
            assert run(trouble(planner.turns.endpoint)) is kind


def test_usage_of_a_stream_is_read_and_native_calls_come_whole() -> None:
    async def ask(endpoint: Endpoint) -> None:
        answer = await endpoint.ask(Request([Message("user", "hello")]))
        await endpoint.close()
        assert answer.usage == (11, 7)
        assert [c.name for c in answer.calls] == ["a", "b"]
        assert answer.calls[1].arguments == {"long": "x" * 200}

    say = Say(calls=(("a", {}), ("b", {"long": "x" * 200})), usage=(11, 7))
    with planner_on(lambda b: say) as (planner, _):
        run(ask(planner.turns.endpoint))


def test_a_sentence_that_was_cut_by_the_limit_is_not_said() -> None:
    facts = ProseFacts(
        "orders fails 6000 bp of its requests. The change chg-42 is the likely cause of it.",
        incident_id="INC-2026-001",
    )
    cut = Say(
        "orders fails 6000 bp of its requests. The change chg-42 is the likely", finish="length"
    )

    async def work(planner: ModelPlanner) -> str:
        written = await planner.write("summary", facts)
        await planner.close()
        return written.text

    with planner_on(lambda b: cut) as (planner, _):
        assert run(work(planner)) == "orders fails 6000 bp of its requests."


def test_who_takes_sentences_slowly_is_not_cancelled_by_the_models_time() -> None:
    facts = ProseFacts("orders fails 6000 bp of its requests. chg-42 is the likely cause.")
    say = Say(facts.template)

    async def work(planner: ModelPlanner) -> list[str]:
        told = []
        async for sentence in planner.stream("summary", facts):
            told.append(sentence)
            await asyncio.sleep(0.4)  # longer than the model may take
        await planner.close()
        return told

    with planner_on(lambda b: say, limits=Limits(prose_seconds=0.3)) as (planner, _):
        told = run(work(planner))
    assert " ".join(told) == facts.template
