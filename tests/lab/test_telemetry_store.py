from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from loop4.domain import Json
from loop4.errors import InputError
from loop4.lab.otlp import attributes, is_sampled
from loop4.lab.telemetry_store import TelemetryStore
from loop4.tools.backends.otlp_json import log_records, spans


def resource(service: str) -> Json:
    return {"attributes": attributes({"service.name": service})}


def span(at_ms: int, error: bool = False) -> Json:
    return {
        "traceId": "ab" * 16,
        "spanId": f"{at_ms:016x}",
        "startTimeUnixNano": str(at_ms * 1_000_000),
        "endTimeUnixNano": str(at_ms * 1_000_000 + 1),
        "status": {"code": 2 if error else 0},
    }


def filled(service: str, bodies: Sequence[Json], store: TelemetryStore) -> TelemetryStore:
    group: Json = {"resource": resource(service), "scopeSpans": [{"spans": list(bodies)}]}
    assert store.add_traces({"resourceSpans": [group]}) == len(bodies)
    return store


def starts(store: TelemetryStore, **given: int | str | bool) -> list[int]:
    errors_only, limit = bool(given.get("errors_only")), int(given.get("limit", 100))
    answer = store.traces(
        10, 40, service=str(given.get("service", "")), errors_only=errors_only, limit=limit
    )
    return [s.start_ms for s in spans(json.dumps(answer))]


def test_spans_are_found_by_time_service_and_error() -> None:
    store = TelemetryStore()
    filled("orders", [span(9), span(10), span(20, error=True), span(40)], store)
    filled("payments", [span(30)], store)
    assert starts(store) == [30, 20, 10]
    assert starts(store, service="orders") == [20, 10]
    assert starts(store, errors_only=True) == [20]
    assert starts(store, limit=1) == [30]


def test_logs_are_found_by_severity() -> None:
    store = TelemetryStore()
    records: Json = [
        {"timeUnixNano": "20000000", "severityNumber": n, "body": {"stringValue": "x"}}
        for n in (9, 13, 17)
    ]
    group: Json = {"resource": resource("orders"), "scopeLogs": [{"logRecords": records}]}
    store.add_logs({"resourceLogs": [group]})
    found = store.logs(0, 100, service="orders", min_severity=13, limit=10)
    assert [r.severity for r in log_records(json.dumps(found))] == ["WARN", "ERROR"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"resourceSpans": 4},
        {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [{}]}]}]},
    ],
)
def test_a_body_that_is_no_otlp_is_refused(body: Json) -> None:
    with pytest.raises(InputError, match="OTLP"):
        TelemetryStore().add_traces(body)


def test_one_trace_in_five_is_kept() -> None:
    kept = sum(is_sampled(f"{n * 2654435761 % 2**128:032x}") for n in range(5000))
    assert 900 <= kept <= 1100
