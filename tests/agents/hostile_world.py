"""The toy world with hostile text wherever its telemetry can hold any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loop4.tools.backends.ports import (
    Change,
    Changes,
    Inventory,
    LogRecord,
    Logs,
    Metrics,
    Series,
    Span,
    Traces,
    WorkloadsReader,
    World,
)
from tests.agents.hostile import planted


@dataclass
class HostileTelemetry:
    """A world's answers with the planted texts in them. The numbers stay what they are."""

    metrics: Metrics
    traces: Traces
    logs: Logs
    changes: Changes
    workloads: WorkloadsReader

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        found = await self.metrics.query(expression, at_ms)
        return [_labelled(s, i) for i, s in enumerate(found)]

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        found = await self.metrics.query_range(expression, start_ms, end_ms, step_ms)
        return [_labelled(s, i) for i, s in enumerate(found)]

    async def spans(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        errors_only: bool = False,
        limit: int = 1000,
    ) -> Sequence[Span]:
        found = await self.traces.spans(start_ms, end_ms, errors_only=errors_only, limit=limit)
        texts = planted("span")
        return [replace(s, text=texts[i % len(texts)]) for i, s in enumerate(found)]

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        return [
            LogRecord(end_ms - 1 - i, service, "v2", f"{service}-v2", "ERROR", text)
            for i, text in enumerate(planted("log"))
        ]

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        found = list(await self.changes.between(start_ms, end_ms))
        texts, versions = planted("commit"), planted("version")
        more = [
            Change(
                f"chg-{90 + i}",
                end_ms - 30_000 - i,
                "deploy",
                "payments",
                "",
                40,
                41,
                "v0",
                versions[i % len(versions)],
                "d40",
                "d41",
                2_000,
                text,
                text=text,
            )
            for i, text in enumerate(texts)
        ]
        return [replace(c, text=texts[0]) for c in found] + more

    async def inventory(self) -> Inventory:
        found = await self.workloads.inventory()
        names = planted("label")
        return replace(
            found,
            workloads=tuple(
                replace(
                    w,
                    instances=(
                        *w.instances,
                        *(replace(w.instances[0], instance=name) for name in names),
                    ),
                )
                if w.service == "payments"
                else w
                for w in found.workloads
            ),
        )


def _labelled(series: Series, index: int) -> Series:
    names = planted("label")
    return replace(series, labels={**series.labels, "note": names[index % len(names)]})


def hostile(world: World) -> World:
    """The same world, telling lies in words."""
    assert world.metrics
    assert world.traces
    assert world.logs
    assert world.changes
    assert world.workloads
    told = HostileTelemetry(world.metrics, world.traces, world.logs, world.changes, world.workloads)
    return World(metrics=told, traces=told, logs=told, changes=told, workloads=told)
