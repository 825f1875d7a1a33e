"""How much of the environment's edge traffic an action touches.

`traffic_share_bp` is the larger of two numbers: the effective routing weight of exactly these
instances or versions (0 when ejected), and the share of edge requests that touched them since the
last routing change, at most 60 s back. Router conventions: `router_weight_bp{service,version}`,
`router_instance_weight_bp{service,instance}`,
`router_edge_touched_total{service,version,instance}`, `router_edge_requests_total`.
"""

from __future__ import annotations

from math import ceil

from loop4.domain import Fact
from loop4.errors import BackendError, QueryError
from loop4.tools.backends.ports import Metrics, Workload
from loop4.tools.facts.sources import Candidate, FactSources
from loop4.tools.names import label_literal

MEASURE_S = 60
FRESH_S = 15


async def traffic_share_bp(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Share of edge requests in basis points, 0 to 10000; None when router or orchestrator gave no
    fresh data.
    """
    metrics, orchestrator = sources.world.metrics, sources.world.workloads
    if metrics is None or orchestrator is None:
        return None
    action = candidate.action
    try:
        workload = (await orchestrator.inventory()).workload(action.service)
        if workload is None:
            return None
        if not await metrics.query(
            f"sum(increase(router_edge_requests_total[{FRESH_S}s]))", sources.now_ms
        ):
            return None
        matchers = _matchers(
            action.tool, action.target, action.arguments.get("to_revision"), workload
        )
        weight = 0.0
        measured = 0.0
        window_s = _window_s(sources.now_ms, workload)
        for weights, touched in matchers:
            weight += await _sum(metrics, f"sum({weights})", sources.now_ms, missing=None)
            if window_s:
                measured += await _share(metrics, touched, window_s, sources.now_ms)
    except (BackendError, QueryError, _NoData):
        return None
    share = min(10_000, max(ceil(weight), ceil(measured)))
    return Fact(share, sources.now_ms, "router")


class _NoData(Exception):
    """The router did not report a weight."""


def _matchers(
    tool: str, target: str, to_revision: object, workload: Workload
) -> list[tuple[str, str]]:
    """Selectors of (effective weight, touched requests) for what the action takes out of
    service.
    """
    name = label_literal(workload.service)
    if tool == "workloads.restart":
        labels = f"service={name},instance={label_literal(target)}"
        return [
            (f"router_instance_weight_bp{{{labels}}}", f"router_edge_touched_total{{{labels}}}")
        ]
    removed = [
        r.version for r in workload.revisions if r.revision != to_revision and r.weight_bp > 0
    ]
    if tool == "deployments.roll_back":
        return [
            (
                f"router_weight_bp{{service={name},version={v}}}",
                f"router_edge_touched_total{{service={name},version={v}}}",
            )
            for v in sorted(map(label_literal, set(removed)))
        ]
    return [(f"router_weight_bp{{service={name}}}", f"router_edge_touched_total{{service={name}}}")]


def _window_s(now_ms: int, workload: Workload) -> int:
    """Whole seconds since the last routing change, at most 60; 0 while too short to measure."""
    since = min(MEASURE_S * 1000, now_ms - workload.last_routing_change_ms)
    return since // 1000 if since >= 2_000 else 0


async def _sum(metrics: Metrics, expression: str, at_ms: int, *, missing: float | None) -> float:
    series = await metrics.query(expression, at_ms)
    if not series or not series[0].points:
        if missing is None:
            raise _NoData
        return missing
    return series[0].points[-1][1]


async def _share(metrics: Metrics, touched: str, window_s: int, at_ms: int) -> float:
    """Requests that touched these, in basis points of all edge requests. Both are edge requests, so
    at most 10000.
    """
    part = await _sum(metrics, f"sum(increase({touched}[{window_s}s]))", at_ms, missing=0.0)
    whole = await _sum(
        metrics, f"sum(increase(router_edge_requests_total[{window_s}s]))", at_ms, missing=0.0
    )
    return 10_000 * part / whole if whole > 0 else 0.0
