"""Spans and log lines in memory, as they came in by OTLP, with the two reads over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loop4.domain import Json
from loop4.errors import InputError

KEEP_SPANS = 40_000
KEEP_LOGS = 20_000
ERROR_STATUS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """One span or log record. `rank` is the severity number of a log, 2 for a failed span."""

    at_ms: int
    service: str
    resource_id: int
    rank: int
    body: Json


class TelemetryStore:
    """Bounded: the oldest make room."""

    def __init__(self) -> None:
        self._spans: deque[Stored] = deque(maxlen=KEEP_SPANS)
        self._logs: deque[Stored] = deque(maxlen=KEEP_LOGS)
        self._resources: list[Json] = []

    def add_traces(self, document: Json) -> int:
        """Take an OTLP JSON body of traces; the number of spans. Raises InputError."""
        return self._add(document, "resourceSpans", "scopeSpans", "spans", self._spans, _span)

    def add_logs(self, document: Json) -> int:
        """Take an OTLP JSON body of logs; the number of records. Raises InputError."""
        return self._add(document, "resourceLogs", "scopeLogs", "logRecords", self._logs, _log)

    def traces(
        self, start_ms: int, end_ms: int, *, service: str, errors_only: bool, limit: int
    ) -> Json:
        """Spans that began in [start, end), newest first, as OTLP JSON."""
        least = ERROR_STATUS if errors_only else 0
        chosen = _choose(self._spans, start_ms, end_ms, service, least, limit)
        return {"resourceSpans": self._grouped(chosen, "scopeSpans", "spans")}

    def logs(
        self, start_ms: int, end_ms: int, *, service: str, min_severity: int, limit: int
    ) -> Json:
        """Records in [start, end), newest first, as OTLP JSON."""
        chosen = _choose(self._logs, start_ms, end_ms, service, min_severity, limit)
        return {"resourceLogs": self._grouped(chosen, "scopeLogs", "logRecords")}

    def _add(
        self,
        document: Json,
        outer: str,
        middle: str,
        inner: str,
        into: deque[Stored],
        read: Callable[[Mapping[str, Json]], tuple[int, int]],
    ) -> int:
        count = 0
        for group in _items(document, outer):
            resource = group.get("resource")
            if resource not in self._resources:
                self._resources.append(resource)
            resource_id = self._resources.index(resource)
            service = _attribute(resource, "service.name")
            for scope in _items(group, middle):
                for entry in _items(scope, inner):
                    at_ms, rank = read(entry)
                    into.append(Stored(at_ms, service, resource_id, rank, entry))
                    count += 1
        return count

    def _grouped(self, chosen: Iterable[Stored], middle: str, inner: str) -> list[Json]:
        groups: dict[int, list[Json]] = {}
        for stored in chosen:
            groups.setdefault(stored.resource_id, []).append(stored.body)
        return [
            {
                "resource": self._resources[resource_id],
                middle: [{"scope": {"name": "loop4.lab"}, inner: bodies}],
            }
            for resource_id, bodies in groups.items()
        ]


def _choose(
    among: deque[Stored], start_ms: int, end_ms: int, service: str, least: int, limit: int
) -> list[Stored]:
    matching = [
        stored
        for stored in among
        if start_ms <= stored.at_ms < end_ms
        and stored.rank >= least
        and service in ("", stored.service)
    ]
    matching.sort(key=lambda stored: stored.at_ms, reverse=True)
    return matching[:limit]


def _items(document: Json, key: str) -> list[Mapping[str, Json]]:
    found = document.get(key) if isinstance(document, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise InputError(f"an OTLP body needs a list of objects under {key!r}, found {found!r:.80}")
    return found


def _attribute(resource: Json, key: str) -> str:
    for pair in _items(resource, "attributes"):
        value = pair.get("value")
        if pair.get("key") == key and isinstance(value, Mapping):
            return str(value.get("stringValue", ""))
    return ""


def _number(entry: Mapping[str, Json], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, str | int) or not str(value).isdigit():
        raise InputError(f"an OTLP record needs a number under {key!r}, found {value!r:.80}")
    return int(value)


def _span(entry: Mapping[str, Json]) -> tuple[int, int]:
    status = entry.get("status")
    code = status.get("code", 0) if isinstance(status, Mapping) else 0
    return _number(entry, "startTimeUnixNano") // 1_000_000, code if isinstance(code, int) else 0


def _log(entry: Mapping[str, Json]) -> tuple[int, int]:
    return _number(entry, "timeUnixNano") // 1_000_000, _number(entry, "severityNumber")
