"""An agent's only handle on the world: each read is judged, its answer digested, and kept once per
run.

A read has three exits: a value, no data, or a denial with its reason. No graph hop, no checkpoint.
What stands in the place of a name in an answer is one (`names.py`); free text stays free text.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from loop4.canonical import digest
from loop4.domain import (
    Action,
    Clock,
    Effect,
    Fact,
    Json,
    JsonObject,
    SourceKind,
)
from loop4.errors import BackendError, QueryError
from loop4.policies.gate import judge
from loop4.policies.policy import Policy
from loop4.tools.backends.ports import (
    Change,
    Changes,
    Inventory,
    LogRecord,
    Logs,
    Series,
    Span,
    Traces,
    WorkloadsReader,
    World,
)
from loop4.tools.names import (
    named,
    named_change,
    named_inventory,
    named_record,
    named_series,
    named_span,
)

T = TypeVar("T")
DEADLINE_S = 10.0
MOST_SPANS = 10_000
MOST_RECORDS = 1_000
EMPTY_IS_AN_ANSWER = frozenset({"changes.between"})  # that nothing changed is evidence
NOTHING = "answered with nothing"


@dataclass(frozen=True, slots=True)
class Scope:
    """What the reads of one incident may touch. `services` are catalogue names; `since_ms` the
    oldest data.
    """

    incident_id: str
    environment: str
    services: frozenset[str]
    since_ms: int


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """One answer. `value` is None for no data (then `missing` says what) and for a denial (`denied`
    says why).
    """

    value: T | None
    evidence: str
    source: SourceKind
    missing: str = ""
    denied: str = ""


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """What is kept of a read: enough to repeat it and to see that the answer was the same."""

    evidence: str
    tool: str
    source: SourceKind
    arguments: JsonObject
    answer_digest: str
    summary: str
    at_ms: int
    denied: str = ""


class Reader:
    """Reads for one run. The same question twice is one read, one record, one evidence id."""

    def __init__(self, world: World, policy: Policy, clock: Clock, scope: Scope) -> None:
        self._world = world
        self._policy = policy
        self._clock = clock
        self._scope = scope
        self._answers: dict[str, Read[object]] = {}
        self._records: dict[str, ReadRecord] = {}
        self._lock = asyncio.Lock()

    @property
    def records(self) -> Mapping[str, ReadRecord]:
        """Every read so far, by evidence id."""
        return self._records

    async def query(
        self, expression: str, at_ms: int, *, shown: str = ""
    ) -> Read[Sequence[Series]]:
        """Instant metrics query; what its ranges and offsets reach back to is judged too.

        `shown` is what the record says was asked, where the expression itself holds what was
        masked.
        """
        metrics = self._world.metrics
        return await self._read(
            "metrics.query",
            SourceKind.METRICS,
            {"expression": expression, "at_ms": at_ms},
            None if metrics is None else lambda: self._series(metrics.query(expression, at_ms)),
            oldest_ms=at_ms - reach_ms(expression),
            shown=shown,
        )

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int, *, shown: str = ""
    ) -> Read[Sequence[Series]]:
        """Range metrics query; `shown` as in `query`."""
        metrics = self._world.metrics
        return await self._read(
            "metrics.query_range",
            SourceKind.METRICS,
            {"expression": expression, "start_ms": start_ms, "end_ms": end_ms, "step_ms": step_ms},
            None
            if metrics is None
            else lambda: self._series(metrics.query_range(expression, start_ms, end_ms, step_ms)),
            oldest_ms=start_ms - reach_ms(expression),
            shown=shown,
        )

    async def spans(
        self, start_ms: int, end_ms: int, *, errors_only: bool = False, limit: int = 1000
    ) -> Read[Sequence[Span]]:
        """Spans of the services in scope, at most `MOST_SPANS`."""
        traces = self._world.traces
        limit = min(limit, MOST_SPANS)
        return await self._read(
            "traces.spans",
            SourceKind.TRACES,
            {"start_ms": start_ms, "end_ms": end_ms, "errors_only": errors_only, "limit": limit},
            None
            if traces is None
            else lambda: self._spans(traces, start_ms, end_ms, errors_only, limit),
            oldest_ms=start_ms,
        )

    async def logs(
        self, start_ms: int, end_ms: int, *, service: str, limit: int = 200
    ) -> Read[Sequence[LogRecord]]:
        """Error logs of one service, at most `MOST_RECORDS`."""
        logs = self._world.logs
        limit = min(limit, MOST_RECORDS)
        return await self._read(
            "logs.records",
            SourceKind.LOGS,
            {"start_ms": start_ms, "end_ms": end_ms, "service": service, "limit": limit},
            None if logs is None else lambda: self._logs(logs, start_ms, end_ms, service, limit),
            oldest_ms=start_ms,
            service=service,
        )

    async def changes(self, start_ms: int, end_ms: int) -> Read[Sequence[Change]]:
        """The change history of all services in scope."""
        changes = self._world.changes
        return await self._read(
            "changes.between",
            SourceKind.CHANGES,
            {"start_ms": start_ms, "end_ms": end_ms},
            None if changes is None else lambda: self._changes(changes, start_ms, end_ms),
            oldest_ms=start_ms,
        )

    async def inventory(self) -> Read[Inventory]:
        """What runs now."""
        workloads = self._world.workloads
        return await self._read(
            "workloads.inventory",
            SourceKind.TOPOLOGY,
            {"at_ms": self._clock.now_ms()},
            None if workloads is None else lambda: self._inventory(workloads),
            oldest_ms=self._clock.now_ms(),
        )

    async def _spans(
        self, traces: Traces, start_ms: int, end_ms: int, errors_only: bool, limit: int
    ) -> Sequence[Span]:
        found = await traces.spans(start_ms, end_ms, errors_only=errors_only, limit=limit)
        return [named_span(s) for s in found if s.service in self._scope.services]

    async def _changes(self, changes: Changes, start_ms: int, end_ms: int) -> Sequence[Change]:
        found = await changes.between(start_ms, end_ms)
        return [named_change(c) for c in found if c.service in self._scope.services]

    async def _series(self, asked: Awaitable[Sequence[Series]]) -> Sequence[Series]:
        return [named_series(s) for s in await asked]

    async def _logs(
        self, logs: Logs, start_ms: int, end_ms: int, service: str, limit: int
    ) -> Sequence[LogRecord]:
        found = await logs.records(
            start_ms, end_ms, service=service, min_severity="ERROR", limit=limit
        )
        return [named_record(r) for r in found]

    async def _inventory(self, workloads: WorkloadsReader) -> Inventory:
        return named_inventory(await workloads.inventory())

    async def _read(
        self,
        tool: str,
        source: SourceKind,
        arguments: dict[str, Json],
        ask: Callable[[], Awaitable[T]] | None,
        *,
        oldest_ms: int,
        service: str = "",
        shown: str = "",
    ) -> Read[T]:
        evidence = "ev-" + digest({"tool": tool, "arguments": arguments})[:16]
        async with self._lock:
            known = self._answers.get(evidence)
            if known is not None:
                return known  # type: ignore[return-value]  # the id fixes tool and arguments
            answer = await self._judged(
                evidence,
                tool,
                source,
                arguments,
                ask,
                oldest_ms=oldest_ms,
                service=service,
                shown=shown,
            )
            self._answers[evidence] = answer  # type: ignore[assignment]  # read back under its id
            return answer

    async def _judged(
        self,
        evidence: str,
        tool: str,
        source: SourceKind,
        arguments: dict[str, Json],
        ask: Callable[[], Awaitable[T]] | None,
        *,
        oldest_ms: int,
        service: str,
        shown: str,
    ) -> Read[T]:
        now_ms = self._clock.now_ms()
        reason = self._denial(tool, arguments, oldest_ms, service, now_ms)
        value: T | None = None
        missing = ""
        if not reason:
            if ask is None:
                missing = f"{source.value}: no back end is configured"
            else:
                try:
                    async with asyncio.timeout(DEADLINE_S):
                        value = await ask()
                except TimeoutError:
                    missing = f"{source.value}: no answer within {DEADLINE_S:.0f} s"
                except (BackendError, QueryError) as error:
                    missing = f"{source.value}: {error}"
        if value is not None and not value and tool not in EMPTY_IS_AN_ANSWER:
            value, missing = None, f"{source.value}: {tool} {NOTHING}"
        self._records[evidence] = ReadRecord(
            evidence=evidence,
            tool=tool,
            source=source,
            arguments={**arguments, "expression": shown} if shown else arguments,
            answer_digest=_answer_digest(value),
            summary=_summary(value, missing) if not shown else _counted(value),
            at_ms=now_ms,
            denied=reason,
        )
        return Read(value, evidence, source, missing=missing, denied=reason)

    def _denial(
        self, tool: str, arguments: dict[str, Json], oldest_ms: int, service: str, now_ms: int
    ) -> str:
        """Why the gate denies this read; empty when it allows it."""
        action = Action(
            action_id="",
            incident_id=self._scope.incident_id,
            tool=tool,
            target=service,
            service=service,
            environment=self._scope.environment,
            arguments=arguments,
            target_revision="",
            agent="reader",
            requester="reader",
        )
        in_scope = (not service or service in self._scope.services) and (
            oldest_ms >= self._scope.since_ms
        )
        facts = {
            "environment": Fact(self._scope.environment, now_ms, "catalogue"),
            "in_scope": Fact(in_scope, now_ms, "incident scope"),
            "range_s": Fact(max(0, (now_ms - oldest_ms) // 1000), now_ms, "arguments"),
            "secret_source": Fact(names_a_secret(arguments), now_ms, "arguments"),
        }
        verdict = judge(action, facts, self._policy, (), now_ms)
        return "" if verdict.effect is Effect.ALLOW else "; ".join(verdict.reasons)


_SECRET = re.compile(r"secret|passw|credential|api_?key|private_?key|(^|_)token", re.IGNORECASE)
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_BACK = re.compile(r"\[([^\]:]*)|\boffset\s+(\S+)")
_UNIT_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


def reach_ms(expression: str) -> int:
    """How far before its own time a metrics query looks: all its ranges and offsets together."""
    return sum(
        int(count) * _UNIT_MS[unit]
        for window, offset in _BACK.findall(expression)
        for count, unit in _DURATION.findall(window or offset)
    )


def names_a_secret(arguments: Mapping[str, Json]) -> bool:
    """Whether a read names a source that may hold secrets: by a word in its arguments."""
    return any(_SECRET.search(str(value)) is not None for value in arguments.values())


def _answer_digest(value: object) -> str:
    return digest(_plain(value))


def _plain(value: object) -> Json:
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    return _plain(asdict(value))  # type: ignore[call-overload]  # every port answer is a dataclass


def _counted(value: object) -> str:
    """How much was answered to what may not be said: its labels and errors may hold it."""
    return f"{len(value)} records" if isinstance(value, Sequence) else NOTHING


def _summary(value: object, missing: str) -> str:
    """A short neutral sentence for the record: counts, numbers and names, no other text."""
    if value is None:
        return missing
    if isinstance(value, Inventory):
        count = sum(len(w.instances) for w in value.workloads)
        return f"{len(value.workloads)} services, {count} instances"
    if isinstance(value, Sequence) and value and isinstance(value[0], Series):
        shown = ", ".join(
            "/".join(named(s.labels.get(k, "")) for k in sorted(s.labels) if k != "__name__")
            + f"={s.points[-1][1]:.6g}"
            for s in value[:6]
            if s.points
        )
        return f"{len(value)} series: {shown}"
    if isinstance(value, Sequence):
        return f"{len(value)} records"
    return "one record"
