"""Spans and log lines as OTLP JSON, and the exporter that posts them to the store.

Light on purpose: spans of failed calls and those of one trace in five are sent. All services take
the same decision from the trace id, so a sampled trace is whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from loop4.domain import Clock, Json
from loop4.errors import LabError
from loop4.lab.wire import HttpClient, bearer

KEEP_ONE_TRACE_IN = 5
SPAN_KINDS = {"internal": 1, "server": 2, "client": 3}
SEVERITY_NUMBERS = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}
FLUSH_S = 0.5
MAX_PENDING = 2000


def is_sampled(trace_id: str) -> bool:
    """Whether a good trace is kept; the same answer in every process."""
    return int(trace_id[-8:], 16) % KEEP_ONE_TRACE_IN == 0


def attributes(values: Mapping[str, str | int]) -> list[Json]:
    """A mapping as an OTLP attribute list. 64-bit integers are strings in OTLP JSON."""
    return [
        {
            "key": key,
            "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
        }
        for key, value in values.items()
    ]


@dataclass(slots=True)
class Telemetry:
    """What one instance has to tell; `flush` posts and forgets it.

    Telemetry is lost, not retried, when the store is away: a service never waits for it.
    """

    resource: Mapping[str, str]
    store_port: int
    token: str
    clock: Clock
    client: HttpClient
    _spans: list[Json] = field(default_factory=list)
    _logs: list[Json] = field(default_factory=list)

    def span(
        self,
        *,
        trace_id: str,
        span_id: str,
        parent_id: str,
        name: str,
        kind: str,
        start_ns: int,
        end_ns: int,
        values: Mapping[str, str | int],
        error: str = "",
    ) -> None:
        """Keep a finished span, unless it is a good one of a trace that is not sampled."""
        if not error and not is_sampled(trace_id):
            return
        if len(self._spans) >= MAX_PENDING:
            return
        self._spans.append(
            {
                "traceId": trace_id,
                "spanId": span_id,
                "parentSpanId": parent_id,
                "name": name,
                "kind": SPAN_KINDS[kind],
                "startTimeUnixNano": str(start_ns),
                "endTimeUnixNano": str(end_ns),
                "attributes": attributes(values),
                "status": {"code": 2, "message": error} if error else {"code": 0},
            }
        )

    def log(self, severity: str, body: str, trace_id: str = "") -> None:
        """Keep a log line."""
        if len(self._logs) >= MAX_PENDING:
            return
        self._logs.append(
            {
                "timeUnixNano": str(self.clock.now_ms() * 1_000_000),
                "severityNumber": SEVERITY_NUMBERS[severity],
                "severityText": severity,
                "body": {"stringValue": body},
                "traceId": trace_id,
            }
        )

    async def flush(self) -> None:
        """Post what is pending."""
        resource: Json = {"attributes": attributes(self.resource)}
        spans, self._spans = self._spans, []
        logs, self._logs = self._logs, []
        if spans:
            scope: Json = {"scope": {"name": "loop4.lab"}, "spans": spans}
            await self._post(
                "/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
            )
        if logs:
            scope = {"scope": {"name": "loop4.lab"}, "logRecords": logs}
            await self._post(
                "/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}
            )

    async def run(self) -> None:
        """Flush twice a second, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def _post(self, path: str, document: Json) -> None:
        headers = bearer(self.token) | {"content-type": "application/json"}
        try:
            await self.client.request(
                "POST",
                self.store_port,
                path,
                headers=headers,
                body=json.dumps(document).encode(),
                timeout_s=1.0,
            )
        except LabError:
            return  # lost; see the class
