"""How many customers feel it: failed or too slow edge requests, over the fast window."""

from __future__ import annotations

from collections.abc import Sequence

from loop4.domain import Fact
from loop4.errors import BackendError, QueryError
from loop4.policies.catalogue import Catalogue
from loop4.policies.targets import Target
from loop4.tools.backends.ports import Metrics
from loop4.tools.facts.sources import Candidate, FactSources


async def customer_impact_bp(
    metrics: Metrics | None, catalogue: Catalogue, targets: Sequence[Target], at_ms: int
) -> int | None:
    """Share of edge requests that failed or were too slow, in basis points; None without data.

    Read from the targets of the edge services: the failing share, and of the rest the too slow
    share (both from the shortest window of the first pair). With several edge services the worst
    one counts.
    """
    if metrics is None:
        return None
    edges = {s.name for s in catalogue.edge_services()}
    worst: int | None = None
    for name in sorted(edges):
        rest, seen = 1.0, False
        for target in (t for t in targets if t.service == name):
            series = await metrics.query(target.error_ratio_query(target.windows[0].short_s), at_ms)
            if not series or not series[0].points:
                continue
            ratio = series[0].points[-1][1]
            if ratio == ratio:  # NaN: no requests at all
                rest, seen = rest * (1.0 - min(1.0, max(0.0, ratio))), True
        if seen:
            impact = round((1.0 - rest) * 10_000)
            worst = impact if worst is None else max(worst, impact)
    return worst


async def customer_impact(sources: FactSources, candidate: Candidate) -> Fact | None:
    """The fact of that name."""
    try:
        impact = await customer_impact_bp(
            sources.world.metrics, sources.catalogue, sources.targets, sources.now_ms
        )
    except (BackendError, QueryError):
        return None
    return None if impact is None else Fact(impact, sources.now_ms, "edge targets")
