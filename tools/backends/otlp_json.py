"""OTLP JSON of traces and logs as `Span` and `LogRecord`.

Only the fields that the ports carry are read; unknown ones are ignored, as the format asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loop4.errors import BackendError
from loop4.tools.backends.ports import LogRecord, Span

_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_SEVERITIES = ((17, "ERROR"), (13, "WARN"), (9, "INFO"), (0, "DEBUG"))


class _Value(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)
    stringValue: str = ""
    intValue: str = ""


class _Attribute(BaseModel):
    key: str
    value: _Value = _Value()


class _Attributed(BaseModel):
    attributes: list[_Attribute] = []

    def values(self) -> dict[str, str]:
        return {a.key: a.value.stringValue or a.value.intValue for a in self.attributes}


class _Status(BaseModel):
    code: int = 0
    message: str = ""


class _Span(_Attributed):
    trace_id: str = Field(alias="traceId")
    span_id: str = Field(alias="spanId")
    parent_id: str = Field(alias="parentSpanId", default="")
    name: str = ""
    kind: int = 1
    start_ns: int = Field(alias="startTimeUnixNano")
    end_ns: int = Field(alias="endTimeUnixNano")
    status: _Status = _Status()


class _ScopeSpans(BaseModel):
    spans: list[_Span] = []


class _ResourceSpans(BaseModel):
    resource: _Attributed = _Attributed()
    scopes: list[_ScopeSpans] = Field(alias="scopeSpans", default=[])


class _Traces(BaseModel):
    groups: list[_ResourceSpans] = Field(alias="resourceSpans")


class _Body(BaseModel):
    stringValue: str = ""


class _Log(_Attributed):
    at_ns: int = Field(alias="timeUnixNano")
    severity: int = Field(alias="severityNumber", default=0)
    body: _Body = _Body()
    trace_id: str = Field(alias="traceId", default="")


class _ScopeLogs(BaseModel):
    records: list[_Log] = Field(alias="logRecords", default=[])


class _ResourceLogs(BaseModel):
    resource: _Attributed = _Attributed()
    scopes: list[_ScopeLogs] = Field(alias="scopeLogs", default=[])


class _Logs(BaseModel):
    groups: list[_ResourceLogs] = Field(alias="resourceLogs")


M = TypeVar("M", bound=BaseModel)


def spans(document: bytes | str) -> tuple[Span, ...]:
    """The spans of an OTLP JSON body of traces, newest first. Raises BackendError."""
    found = _spans_of(_read(_Traces, document, "traces"))
    return tuple(sorted(found, key=lambda s: (-s.start_ms, s.trace_id, s.span_id)))


def log_records(document: bytes | str) -> tuple[LogRecord, ...]:
    """The records of an OTLP JSON body of logs, newest first. Raises BackendError."""
    found = _records_of(_read(_Logs, document, "logs"))
    return tuple(sorted(found, key=lambda r: (-r.at_ms, r.instance, r.body)))


def _spans_of(document: _Traces) -> Iterator[Span]:
    for group in document.groups:
        resource = group.resource.values()
        for span in (span for scope in group.scopes for span in scope.spans):
            values = span.values()
            status = values.get("http.response.status_code", "0")
            yield Span(
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_id=span.parent_id,
                name=span.name,
                service=resource.get("service.name", ""),
                version=resource.get("service.version", ""),
                instance=resource.get("service.instance.id", ""),
                kind=_KINDS.get(span.kind, "internal"),
                peer=values.get("peer.service", ""),
                start_ms=span.start_ns // 1_000_000,
                duration_ms=max(0, round((span.end_ns - span.start_ns) / 1_000_000)),
                is_error=span.status.code == 2,
                status=int(status) if status.isdigit() else 0,
                text=span.status.message,
            )


def _records_of(document: _Logs) -> Iterator[LogRecord]:
    for group in document.groups:
        resource = group.resource.values()
        for record in (record for scope in group.scopes for record in scope.records):
            yield LogRecord(
                at_ms=record.at_ns // 1_000_000,
                service=resource.get("service.name", ""),
                version=resource.get("service.version", ""),
                instance=resource.get("service.instance.id", ""),
                severity=next(word for least, word in _SEVERITIES if record.severity >= least),
                body=record.body.stringValue,
                trace_id=record.trace_id,
            )


def _read(model: type[M], document: bytes | str, what: Literal["traces", "logs"]) -> M:
    try:
        return model.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BackendError(
            f"not an OTLP JSON body of {what}: {first['msg']} at {place!r}"
        ) from error
