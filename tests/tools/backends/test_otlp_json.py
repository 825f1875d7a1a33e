from __future__ import annotations

import json

import pytest

from loop4.errors import BackendError
from loop4.tools.backends.otlp_json import log_records, spans

RESOURCE = {
    "attributes": [
        {"key": "service.name", "value": {"stringValue": "orders"}},
        {"key": "service.version", "value": {"stringValue": "1.41.0"}},
        {"key": "service.instance.id", "value": {"stringValue": "orders-2"}},
    ]
}


def traces(*bodies: dict[str, object]) -> str:
    scope = {"scope": {"name": "x"}, "spans": list(bodies)}
    return json.dumps({"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [scope]}]})


def span(start_ns: object = "2000000000", **more: object) -> dict[str, object]:
    return {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "call payments",
        "kind": 3,
        "startTimeUnixNano": start_ns,
        "endTimeUnixNano": "2012000000",
        "attributes": [
            {"key": "peer.service", "value": {"stringValue": "payments"}},
            {"key": "http.response.status_code", "value": {"intValue": "502"}},
        ],
        "status": {"code": 2, "message": "payments answered 502"},
    } | more


def test_a_span_keeps_what_the_port_names() -> None:
    (found,) = spans(traces(span()))
    assert (found.service, found.version, found.instance) == ("orders", "1.41.0", "orders-2")
    assert (found.kind, found.peer, found.status, found.is_error) == (
        "client",
        "payments",
        502,
        True,
    )
    assert (found.start_ms, found.duration_ms, found.parent_id) == (2000, 12, "")


def test_numbers_may_be_numbers_and_unknown_fields_are_ignored() -> None:
    attributes = [{"key": "http.response.status_code", "value": {"intValue": 200}}]
    body = span(2_000_000_000, attributes=attributes, status={}, droppedLinksCount=3)
    (found,) = spans(traces(body))
    assert (found.status, found.is_error, found.peer) == (200, False, "")


def test_spans_come_newest_first() -> None:
    found = spans(traces(span("1000000000"), span("2000000000")))
    assert [s.start_ms for s in found] == [2000, 1000]


def test_log_records_keep_severity_and_body() -> None:
    records = [
        {"timeUnixNano": str(n * 10**9), "severityNumber": n, "body": {"stringValue": f"line {n}"}}
        for n in (5, 9, 13, 17)
    ]
    group = {"resource": RESOURCE, "scopeLogs": [{"logRecords": records}]}
    found = log_records(json.dumps({"resourceLogs": [group]}))
    assert [r.severity for r in found] == ["ERROR", "WARN", "INFO", "DEBUG"]
    assert (found[0].at_ms, found[0].body, found[0].service) == (17_000, "line 17", "orders")


@pytest.mark.parametrize(
    "body", ["", "{}", '{"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}']
)
def test_what_is_no_otlp_is_told_with_its_place(body: str) -> None:
    with pytest.raises(BackendError, match="not an OTLP JSON body of traces"):
        spans(body)
