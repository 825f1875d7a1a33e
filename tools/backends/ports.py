"""What a system behind Loop4 must offer: protocols with units, idempotence and errors.

All times are integer milliseconds since the epoch, UTC. Reads raise `Unreachable` when nothing
answered within the deadline; an empty answer is a value (no data), never an error. Writes are
compare-and-set on `expected` and carry a `mark` (our action id) that can be read back after a
crash; they raise `Conflict` (target changed, nothing done), `Refused` (target said no, nothing
done) or `Unreachable` (unknown: ask the target before anything else).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Series:
    """One labelled series: `points` are (at_ms, value), ascending. Labels include `__name__` where
    the query kept it.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[int, float], ...]


class Metrics(Protocol):
    """A Prometheus-like store, read only. Raises QueryError for what it cannot evaluate."""

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        """Instant query: one point per series, at `at_ms`. Empty when nothing matches (no data)."""
        ...

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        """Range query, both ends included."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """One span, from OTLP. `kind` is server | client | internal; `peer` the service or external
    system called.

    `version` and `instance` come from the resource attributes service.version and
    service.instance.id.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    version: str
    instance: str
    kind: str
    peer: str
    start_ms: int
    duration_ms: int
    is_error: bool
    status: int
    text: str = ""


class Traces(Protocol):
    """A trace store, read only."""

    async def spans(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        errors_only: bool = False,
        limit: int = 1000,
    ) -> Sequence[Span]:
        """Spans that began in [start, end), newest first, at most `limit`; no service = all."""
        ...


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log line. `body` is free text from outside: tainted."""

    at_ms: int
    service: str
    version: str
    instance: str
    severity: str
    body: str
    trace_id: str = ""


class Logs(Protocol):
    """A log store, read only."""

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        """Records in [start, end), newest first, at most `limit`. Severities: DEBUG INFO WARN
        ERROR.
        """
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change history: deploy | rollback | restart | scale | config | weight.

    `to_digest` is the digest of artefact and configuration together. `weight_bp` is the routing
    weight that the new revision received (10000 = all). `mark` is our action id when the change was
    ours.
    """

    change_id: str
    at_ms: int
    kind: str
    service: str
    instance: str
    from_revision: int
    to_revision: int
    from_version: str
    to_version: str
    from_digest: str
    to_digest: str
    weight_bp: int
    actor: str
    mark: str = ""
    text: str = ""


class Changes(Protocol):
    """The change history, read only."""

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        """Changes in [start, end), oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Revision:
    """One deployable revision of a service. `digest` covers artefact and configuration."""

    revision: int
    version: str
    digest: str
    created_ms: int
    weight_bp: int  # present routing weight inside its service, 0 = none


@dataclass(frozen=True, slots=True)
class Instance:
    """One replica. `state`: starting | ready | crashed | backoff | stopped. `ejected`: the router
    sends it nothing.

    `restarts` counts the supervisor's own respawns since the instance was last started on purpose
    (clean start). `mark` is the action id of the last deliberate restart, empty if none.
    """

    instance: str
    service: str
    revision: int
    version: str
    state: str
    ejected: bool
    restarts: int
    started_ms: int
    weight_bp: int  # share of its service's traffic under the present routing, 0 if ejected
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One service as the orchestrator sees it.

    `resource_version` changes with every write and every status change: for compare-and-set only.
    `generation` and `desired_digest` change only with the desired specification; approvals bind to
    those. `mark` is the action id that made the present specification, empty if none of ours did.
    """

    service: str
    resource_version: str
    generation: int
    desired_digest: str
    current_revision: int
    replicas: int
    last_routing_change_ms: int
    mark: str
    revisions: tuple[Revision, ...]
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that runs, at one moment."""

    at_ms: int
    workloads: tuple[Workload, ...]
    externals: tuple[str, ...] = field(default=())

    def workload(self, service: str) -> Workload | None:
        """The workload of that service, or None."""
        return next((w for w in self.workloads if w.service == service), None)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write changed. `changed` False = it already was so (idempotent)."""

    changed: bool
    before: Mapping[str, int | str]
    after: Mapping[str, int | str]


class WorkloadsReader(Protocol):
    """The orchestrator, read side."""

    async def inventory(self) -> Inventory:
        """What is desired and what runs now."""
        ...


class WorkloadsWriter(Protocol):
    """The orchestrator, write side. Credentials of its own; only executors hold one."""

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        """Give all traffic to `to_revision` and retire the others. Asking for the present state
        changes nothing.
        """
        ...

    async def restart(
        self, instance: str, restarted_at_ms: int, *, expected: str, mark: str
    ) -> WriteResult:
        """Clean start of one replica (local state wiped). The same `restarted_at_ms` twice restarts
        once.
        """
        ...

    async def scale(self, service: str, replicas: int, *, expected: str, mark: str) -> WriteResult:
        """Set the replica count of the current revision."""
        ...


class FileSystem(Protocol):
    """Where pages, drafts, postmortems and signals are written: the operations folder."""

    async def write_new(self, path: str, text: str, *, mark: str) -> WriteResult:
        """Create `path` (relative, below work/) atomically. An existing file with the same bytes is
        'unchanged';
        with other bytes: Refused. Raises Refused for a path outside work/, Unreachable when the
        disk refuses.
        """
        ...


@dataclass(frozen=True, slots=True)
class World:
    """All read handles on one system. A missing one is None: agents then say what is missing."""

    metrics: Metrics | None = None
    traces: Traces | None = None
    logs: Logs | None = None
    changes: Changes | None = None
    workloads: WorkloadsReader | None = None
