"""Prometheus' HTTP answers in both directions: the lab's store writes them, our client reads them.

Form: `/api/v1/query` and `/api/v1/query_range` of the Prometheus HTTP API, classic samples only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation

import promql_parser as parser

from loop4.domain import Json, JsonObject
from loop4.errors import BackendError, QueryError
from loop4.tools.backends.ports import Series
from loop4.tools.backends.promql import compiled
from loop4.tools.backends.promql_places import DURATION
from loop4.tools.backends.series import SeriesStore


def instant_json(expression: str, store: SeriesStore, at_ms: int) -> JsonObject:
    """The whole body for `/api/v1/query`. Raises QueryError (see `error_json`)."""
    query = compiled(expression)
    series = query.instant(store, at_ms)
    if query.is_scalar:
        return _success("scalar", _point(*series[0].points[0]))
    return _success(
        "vector", [{"metric": dict(s.labels), "value": _point(*s.points[0])} for s in series]
    )


def range_json(
    expression: str, store: SeriesStore, start_ms: int, end_ms: int, step_ms: int
) -> JsonObject:
    """The whole body for `/api/v1/query_range`. Raises QueryError (see `error_json`)."""
    series = compiled(expression).range(store, start_ms, end_ms, step_ms)
    return _success(
        "matrix",
        [{"metric": dict(s.labels), "values": [_point(*p) for p in s.points]} for s in series],
    )


def error_json(error: QueryError) -> tuple[int, JsonObject]:
    """HTTP status and body for a query that cannot be evaluated."""
    return 400, {"status": "error", "errorType": "bad_data", "error": str(error)}


def parse_answer(body: Json) -> tuple[Series, ...]:
    """The series of a `success` answer; a scalar is one series without labels.

    Raises QueryError for an answer that says the query is wrong, BackendError for anything that is
    not such an answer.
    """
    if not isinstance(body, Mapping) or body.get("status") not in ("success", "error"):
        raise BackendError("the answer is not a Prometheus API answer: no status")
    if body["status"] == "error":
        raise QueryError(
            f"{body.get('errorType', 'error')}: {body.get('error', 'no reason given')}"
        )
    data = body.get("data")
    if not isinstance(data, Mapping):
        raise BackendError("the answer is not a Prometheus API answer: no data")
    kind, result = data.get("resultType"), data.get("result")
    if kind == "scalar":
        return (Series({}, (_read_point(result),)),)
    if kind not in ("vector", "matrix") or not isinstance(result, list):
        raise BackendError(f"the answer holds {kind!r}, expected vector, matrix or scalar")
    return tuple(_read_series(entry, kind) for entry in result)


def parse_time(text: str) -> int:
    """Milliseconds from a `time`, `start` or `end` parameter: Unix seconds or RFC 3339."""
    try:
        seconds = Decimal(text)
        if seconds.is_finite() and abs(seconds) < 10**12:
            return int((seconds * 1000).to_integral_value())
    except InvalidOperation:
        pass
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return round(moment.timestamp() * 1000)
    except ValueError:
        pass
    raise QueryError(f"time {text!r}: expected Unix seconds or RFC 3339")


def parse_step(text: str) -> int:
    """Milliseconds from a `step` parameter: seconds or a duration such as 15s. Above 0."""
    step_ms = 0
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
        step_ms = int(Decimal(text) * 1000)
    elif DURATION.fullmatch(text):
        try:
            step_ms = round(parser.parse_duration(text).total_seconds() * 1000)
        except ValueError:
            step_ms = 0
    if step_ms <= 0:
        raise QueryError(f"step {text!r}: expected seconds or a duration such as 15s, above 0")
    return step_ms


def _success(kind: str, result: Json) -> JsonObject:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _point(at_ms: int, value: float) -> Json:
    return [at_ms / 1000, _shown(value)]


def _shown(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _read_series(entry: Json, kind: str) -> Series:
    if not isinstance(entry, Mapping):
        raise BackendError("the answer holds a series that is not an object")
    metric = entry.get("metric")
    if not isinstance(metric, Mapping):
        raise BackendError("the answer holds a series without labels")
    if "histogram" in entry or "histograms" in entry:
        raise BackendError("the answer holds a native histogram; query its _bucket series instead")
    values = [entry.get("value")] if kind == "vector" else entry.get("values")
    if not isinstance(values, list):
        raise BackendError("the answer holds a series without values")
    labels = {str(name): str(value) for name, value in metric.items()}
    return Series(labels, tuple(_read_point(value) for value in values))


def _read_point(point: Json) -> tuple[int, float]:
    if isinstance(point, list) and len(point) == 2:
        at_s, value = point
        if isinstance(at_s, int | float) and isinstance(value, str):
            try:
                return round(at_s * 1000), float(value)
            except (ValueError, OverflowError):
                pass
    raise BackendError(
        f"the answer holds a sample {str(point)[:60]!r}, expected [seconds, 'value']"
    )
