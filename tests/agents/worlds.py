"""What can be wrong in the toy world beside its bad deploy, and what every report must keep to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loop4.agents.agent import Report
from loop4.tools.backends.ports import (
    Change,
    Changes,
    Inventory,
    LogRecord,
    Span,
    WorkloadsReader,
    World,
)
from tests.agents.conftest import Case, make_case
from tests.graphs.toy import START_MS

BACK_ENDS = ("metrics", "traces", "logs", "changes", "workloads")


def without(*names: str) -> Callable[[World], World]:
    """A world that lacks these back ends."""
    return lambda world: World(
        **{name: None if name in names else getattr(world, name) for name in BACK_ENDS}
    )


@dataclass
class SickReplica:
    """Orders has three replicas; the first was respawned four times and lies in back-off."""

    inner: WorkloadsReader

    async def inventory(self) -> Inventory:
        seen = await self.inner.inventory()
        workloads = []
        for workload in seen.workloads:
            one = workload.instances[0]
            if workload.service == "orders":
                three = tuple(replace(one, instance=f"orders-{n}") for n in (1, 2, 3))
                sick = replace(three[0], state="backoff", restarts=4, ejected=True, weight_bp=0)
                workload = replace(workload, instances=(sick, *three[1:]))
            workloads.append(workload)
        return replace(seen, workloads=tuple(workloads))


class LastWords:
    """The log of orders: what its first replica wrote before it died."""

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        if service != "orders":
            return []
        return [LogRecord(end_ms - 1, "orders", "v1", "orders-1", "ERROR", "journal is damaged")]


def crash_loop() -> Case:
    """No deploy, no failing request; one replica of orders keeps dying."""

    def change(world: World) -> World:
        assert world.workloads is not None
        return replace(world, workloads=SickReplica(world.workloads), logs=LastWords())

    return make_case(deploy=False, change=change)


@dataclass
class MoreChanges:
    """The change history with an innocent deploy of gateway, ten seconds before that of orders."""

    inner: Changes

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        change = Change(
            "chg-7",
            START_MS + 50_000,
            "deploy",
            "gateway",
            "",
            11,
            12,
            "v1",
            "v9",
            "d11",
            "d12",
            2_000,
            "kim",
        )
        found = await self.inner.between(start_ms, end_ms, service=service)
        return [*found, change] if start_ms <= change.at_ms < end_ms else found


def with_an_innocent_change(world: World) -> World:
    """The same world in which somebody deployed gateway too."""
    assert world.changes is not None
    return replace(world, changes=MoreChanges(world.changes))


def bank_outage(*, answering: float = 0.0) -> Case:
    """No deploy; 20 traces of the last seconds fail in a call to the bank, and a probe sees it.

    `answering` is the share of its probes that the bank answers.
    """
    case = make_case(deploy=False)
    toy, now_ms = case.toy, case.toy.clock.at_ms
    for n in range(15):
        at_ms = now_ms - 15_000 + (n + 1) * 1000
        toy.store.append("probe_success", {"dependency": "bank"}, at_ms, answering)
    for n in range(20):
        toy.spans_seen.extend(trace_to_the_bank(f"{n:032x}", now_ms - 5_000 + n))
    return case


def trace_to_the_bank(trace: str, at_ms: int) -> list[Span]:
    """A checkout through all three services that fails in the call to the bank; that call comes
    last.
    """
    calls = (
        ("s1", "", "gateway", "server", ""),
        ("c1", "s1", "gateway", "client", "orders"),
        ("s2", "c1", "orders", "server", ""),
        ("c2", "s2", "orders", "client", "payments"),
        ("s3", "c2", "payments", "server", ""),
        ("c3", "s3", "payments", "client", "bank"),
    )
    return [
        Span(
            trace,
            name,
            parent,
            f"{kind} {service}",
            service,
            "v1",
            f"{service}-v1",
            kind,
            peer,
            at_ms,
            5,
            True,
            503,
        )
        for name, parent, service, kind, peer in calls
    ]


def assert_grounded(case: Case, report: Report) -> None:
    """Whatever a report says stands on reads that were answered, of the kinds that it names."""
    records = case.brief.reader.records
    for finding in report.findings:
        assert finding.evidence
        assert {records[e].source for e in finding.evidence} == set(finding.sources)
    for proposal in report.proposals:
        assert len({records[e].source for e in proposal.evidence}) >= 2
    cited = {e for f in report.findings for e in f.evidence}
    for evidence in cited | {e for p in report.proposals for e in p.evidence}:
        assert records[evidence].denied == ""
        assert "no back end" not in records[evidence].summary
