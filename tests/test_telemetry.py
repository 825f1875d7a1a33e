"""Spans of the fleet itself, seen through the SDK's own in-memory exporter."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from loop4 import telemetry
from loop4.domain import Effect, Mode, Verdict

VERDICT = Verdict(
    effect=Effect.ALLOW,
    decided=Effect.REQUIRE_APPROVAL,
    rules=("wide-blast-radius", "restart-within-budget"),
    reasons=("touches 5000 bp",),
    mode=Mode.ACT,
    policy_version="abc",
)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    telemetry.use_tracer_provider(provider)
    yield memory
    telemetry.stop_telemetry()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_one_run_is_one_trace_of_nested_spans(exporter: InMemorySpanExporter) -> None:
    with telemetry.run_span("operations", run_id="run-1", incident_id="INC-2026-001"):
        trace_id = telemetry.current_trace_id()
        with telemetry.agent_span("incident"), telemetry.tool_span("metrics.query"):
            pass
        with telemetry.gate_span("workloads.restart", incident_id="INC-2026-001") as span:
            span.verdict(VERDICT)
    found = spans(exporter)
    run = found["invoke_workflow operations"]
    assert {span.context.trace_id for span in found.values() if span.context} == {int(trace_id, 16)}
    agent = found["invoke_agent incident"]
    assert agent.parent is not None
    assert run.context is not None
    assert agent.parent.span_id == run.context.span_id
    assert run.attributes == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "operations",
        "gen_ai.conversation.id": "run-1",
        "loop4.incident.id": "INC-2026-001",
    }
    assert dict(found["execute_tool metrics.query"].attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "metrics.query",
        "gen_ai.tool.type": "function",
    }


def test_a_gate_span_carries_effect_rules_and_policy_version(
    exporter: InMemorySpanExporter,
) -> None:
    with telemetry.gate_span("workloads.restart", incident_id="INC-2026-001") as span:
        span.verdict(VERDICT)
    assert dict(spans(exporter)["judge workloads.restart"].attributes or {}) == {
        "gen_ai.tool.name": "workloads.restart",
        "loop4.incident.id": "INC-2026-001",
        "loop4.gate.effect": "allow",
        "loop4.gate.decided": "require_approval",
        "loop4.gate.rules": ("wide-blast-radius", "restart-within-budget"),
        "loop4.gate.policy_version": "abc",
        "loop4.gate.mode": "act",
    }


def test_an_error_is_named_by_its_class_and_never_quoted(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), telemetry.tool_span("x"):
        raise ValueError("secret text of a log line")
    span = spans(exporter)["execute_tool x"]
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "ValueError"
    assert not span.events
    assert "secret" not in span.to_json()


def test_before_the_start_nothing_happens() -> None:
    with telemetry.run_span("operations") as span:
        span.set("a", 1)
        span.verdict(VERDICT)
        span.fail("X")
        assert telemetry.current_trace_id() == ""
    assert telemetry.stop_telemetry() == ""


def test_without_an_endpoint_there_are_trace_ids_and_no_thread_that_sends() -> None:
    before = threading.active_count()
    telemetry.start_telemetry({})
    try:
        with telemetry.run_span("operations"):
            assert len(telemetry.current_trace_id()) == 32
        assert threading.active_count() == before
    finally:
        assert telemetry.stop_telemetry() == ""


def test_the_standard_switch_leaves_telemetry_off() -> None:
    telemetry.start_telemetry({"OTEL_SDK_DISABLED": "true"})
    with telemetry.run_span("operations"):
        assert telemetry.current_trace_id() == ""


def test_spans_go_to_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Stay silent."""

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        telemetry.start_telemetry()
        with telemetry.run_span("operations"):
            pass
        problem = telemetry.stop_telemetry()
        server.shutdown()
        thread.join()
    assert problem == ""
    assert [path for path, _ in bodies] == ["/v1/traces"]
    assert b"invoke_workflow operations" in bodies[0][1]


def test_a_dead_endpoint_is_said_at_the_end_and_never_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port  # free again once the block ends
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    telemetry.start_telemetry()
    with telemetry.run_span("operations"):
        pass
    assert telemetry.stop_telemetry().startswith("traces not exported: ")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("opentelemetry").propagate is False


@pytest.mark.parametrize(
    "environ",
    [
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        },
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "not a url"},
    ],
)
def test_a_useless_setting_is_said_at_the_end(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    telemetry.start_telemetry()
    with telemetry.run_span("operations"):
        pass
    assert telemetry.stop_telemetry().startswith("traces not exported: ")
