"""A run's own traces, and that nothing of a run leaves the machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from loop4.telemetry import use_tracer_provider
from tests.graphs.conftest import Stage, assert_well, run


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    use_tracer_provider(provider)
    yield memory
    use_tracer_provider(None)
    provider.shutdown()


def live(stage: Stage) -> tuple[str, set[str]]:
    """One incident to its end: the policy version and the trace ids in its evidence."""

    async def story() -> tuple[str, set[str]]:
        stage.bad_deploy()
        async with stage.opened() as play:
            asked = await play.asked()
            play.vote(asked.approval.approval_id)
            await play.resolved()
            assert_well(play)
            traces = {r.trace_id for r in play.records("decision", "outcome", "triage")}
            return play.session.fleet.policy.version, traces

    return run(story())


def named(spans: tuple[ReadableSpan, ...], start: str) -> list[ReadableSpan]:
    return [s for s in spans if s.name.startswith(start)]


def test_one_runs_spans_tell_run_agents_tools_and_decisions(
    stage: Stage, exporter: InMemorySpanExporter
) -> None:
    version, traces = live(stage)
    spans = exporter.get_finished_spans()
    by_id = {s.context.span_id: s for s in spans if s.context}

    runs = named(spans, "invoke_workflow")
    assert runs
    assert all(s.parent is None for s in runs)
    agents = {str((s.attributes or {}).get("gen_ai.agent.name")) for s in named(spans, "invoke_ag")}
    assert agents == {"health", "incident", "remediation", "signal"}
    tools = {str((s.attributes or {}).get("gen_ai.tool.name")) for s in named(spans, "execute_to")}
    assert {"deployments.roll_back", "oncall.page", "signals.file"} <= tools

    gates = [s for s in spans if "loop4.gate.effect" in (s.attributes or {})]
    of_act = [dict(s.attributes or {}) for s in gates if "roll_back" in str(s.attributes)]
    effects = [a["loop4.gate.effect"] for a in of_act]
    assert (effects[0], effects[-1]) == ("require_approval", "allow")
    for attributes in of_act:
        assert attributes["loop4.gate.policy_version"] == version
        assert "wide-blast-radius" in str(attributes["loop4.gate.rules"])

    for span in (*gates, *named(spans, "invoke_agent"), *named(spans, "execute_tool")):
        assert span.parent is not None
        assert by_id[span.parent.span_id].name.startswith("invoke_")
    seen = {format(s.context.trace_id, "032x") for s in spans if s.context}
    assert traces <= seen
    assert len(traces) >= 3  # one trace a leg, and evidence names it


def test_no_socket_opens_in_a_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError(f"a socket was used: {arguments}")

    for name in ("connect", "connect_ex", "bind", "sendto", "listen"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(AssertionError, match="a socket was used"):
        socket.create_connection(("127.0.0.1", 9))
    live(stage)
    assert os.environ["LANGSMITH_TRACING"] == "false"
