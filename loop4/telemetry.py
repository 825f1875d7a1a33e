"""OpenTelemetry spans of the fleet itself: run, agent, tool and gate decision.

Names and attributes follow the GenAI conventions; `loop4.*` says what they have no word for. No
span carries free text, arguments or results. Nothing is exported unless the standard OTLP
variables name an endpoint; before `start_telemetry` a span costs next to nothing. Telemetry never
stops a run: what goes wrong with it is kept for `stop_telemetry` to say.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loop4.domain import Verdict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Attribute = str | bool | int | Sequence[str]

_SCOPE = "loop4"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_EXPORT_TIMEOUT_S = 2.0


class SpanHandle:
    """One span, or none when telemetry is off: every method then does nothing."""

    __slots__ = ("_attributes", "_name", "_scope", "_span")

    def __init__(self, name: str, attributes: Mapping[str, Attribute]) -> None:
        self._name = name
        self._attributes = attributes
        self._span: Span | None = None
        self._scope: AbstractContextManager[Span] | None = None

    def set(self, key: str, value: Attribute) -> None:
        """Set one attribute."""
        if self._span is not None:
            self._span.set_attribute(key, value)

    def verdict(self, verdict: Verdict) -> None:
        """Set what the gate decided."""
        if self._span is not None:
            self.set("loop4.gate.effect", verdict.effect.value)
            self.set("loop4.gate.decided", verdict.decided.value)
            self.set("loop4.gate.rules", verdict.rules)
            self.set("loop4.gate.policy_version", verdict.policy_version)
            self.set("loop4.gate.mode", verdict.mode.value)

    def fail(self, kind: str) -> None:
        """Mark the span as failed. `kind` is a class of error, never its text."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR)
            self._span.set_attribute("error.type", kind)

    def __enter__(self) -> SpanHandle:
        if _state.tracer is not None:
            self._scope = _state.tracer.start_as_current_span(
                self._name,
                attributes=self._attributes,
                record_exception=False,  # its text could hold what telemetry of others said
                set_status_on_exception=False,
            )
            self._span = self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scope is not None:
            if kind is not None and issubclass(kind, Exception):
                self.fail(kind.__name__)
            self._scope.__exit__(kind, error, trace)
            self._scope = self._span = None


def run_span(workflow: str, *, run_id: str = "", incident_id: str = "") -> SpanHandle:
    """A span around one leg of a run."""
    attributes = _attributes("invoke_workflow", incident_id)
    attributes["gen_ai.workflow.name"] = workflow
    if run_id:
        attributes["gen_ai.conversation.id"] = run_id
    return SpanHandle(f"invoke_workflow {workflow}", attributes)


def agent_span(agent: str, *, incident_id: str = "") -> SpanHandle:
    """A span around one agent's work."""
    attributes = _attributes("invoke_agent", incident_id)
    attributes["gen_ai.agent.name"] = agent
    return SpanHandle(f"invoke_agent {agent}", attributes)


def tool_span(
    tool: str, *, call_id: str = "", tool_class: str = "", incident_id: str = ""
) -> SpanHandle:
    """A span around one call of a tool; `call_id` is the action id of an act."""
    attributes = _attributes("execute_tool", incident_id)
    attributes["gen_ai.tool.name"] = tool
    attributes["gen_ai.tool.type"] = "function"
    if call_id:
        attributes["gen_ai.tool.call.id"] = call_id
    if tool_class:
        attributes["loop4.tool.class"] = tool_class
    return SpanHandle(f"execute_tool {tool}", attributes)


def model_span(model: str, *, answer_limit: int = 0) -> SpanHandle:
    """A span around one turn of a model; set `gen_ai.usage.input_tokens` and `output_tokens`."""
    attributes = _attributes("chat", "")
    attributes["gen_ai.request.model"] = model
    if answer_limit:
        attributes["gen_ai.request.max_tokens"] = answer_limit
    return SpanHandle(f"chat {model}", attributes)


def gate_span(tool: str, *, incident_id: str = "") -> SpanHandle:
    """A span around one decision of the gate; call `verdict` on it."""
    attributes = _attributes("", incident_id)
    attributes["gen_ai.tool.name"] = tool
    return SpanHandle(f"judge {tool}", attributes)


def current_trace_id() -> str:
    """The id of the present trace, 32 hexadecimal digits; empty outside a span or when off."""
    if _state.tracer is None:
        return ""
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def start_telemetry(environ: Mapping[str, str] | None = None) -> None:
    """Begin to make spans, and to export them if the environment names an OTLP endpoint.

    A second call changes nothing. OTEL_SDK_DISABLED=true leaves telemetry off.
    """
    environ = os.environ if environ is None else environ
    if _state.tracer is not None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    _keep_quiet()
    own = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": _SCOPE}
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    if any(environ.get(name) for name in _ENDPOINTS):
        _export(provider, environ)
    use_tracer_provider(provider)


def use_tracer_provider(provider: TracerProvider | None) -> None:
    """Make spans with this provider; None switches telemetry off."""
    _state.provider = provider
    _state.tracer = provider.get_tracer(_SCOPE) if provider is not None else None


def stop_telemetry() -> str:
    """Send what is left, switch telemetry off, and return what went wrong with it, or empty."""
    provider = _state.provider
    use_tracer_provider(None)
    if provider is not None:
        provider.shutdown()
    problem, _state.problem = _state.problem, ""
    return problem


def _export(provider: TracerProvider, environ: Mapping[str, str]) -> None:
    if environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    if protocol != "http/protobuf":
        _state.problem = f"traces not exported: protocol {protocol!r}, expected 'http/protobuf'"
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    timeout = None if any(environ.get(name) for name in _TIMEOUTS) else _EXPORT_TIMEOUT_S
    try:
        exporter = OTLPSpanExporter(timeout=timeout)
    except (ValueError, OSError) as error:  # a malformed variable, an unreadable certificate
        _state.problem = f"traces not exported: {error}"
        return
    provider.add_span_processor(BatchSpanProcessor(exporter))


def _attributes(operation: str, incident_id: str) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {}
    if operation:
        attributes["gen_ai.operation.name"] = operation
    if incident_id:
        attributes["loop4.incident.id"] = incident_id
    return attributes


class _State:
    """What this process does about telemetry; `problem` is the first thing that went wrong."""

    def __init__(self) -> None:
        self.provider: TracerProvider | None = None
        self.tracer: Tracer | None = None
        self.problem = ""


class _Remember(logging.Handler):
    """Keeps the exporter's first complaint instead of printing it over the terminal's view."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _state.problem:
            _state.problem = f"traces not exported: {record.getMessage()}"[:300]


def _keep_quiet() -> None:
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Remember) for handler in logger.handlers):
        logger.addHandler(_Remember(logging.WARNING))
        logger.propagate = False


_state = _State()
