"""Was what an action would put into service ever recorded as deployed and healthy?"""

from __future__ import annotations

from collections.abc import Sequence

from loop4.domain import Fact
from loop4.errors import BackendError, QueryError
from loop4.policies.targets import Target
from loop4.tools.backends.ports import Change, Metrics, Revision, Series, Workload
from loop4.tools.facts.sources import Candidate, FactSources

HISTORY_MS = 30 * 24 * 3_600_000
MINIMUM_REQUESTS = 10.0


async def known_good(sources: FactSources, candidate: Candidate) -> Fact | None:
    """True when the resulting digest stands in the change history and served inside its target.

    Healthy means: in the longest burn window before it was replaced, it did not breach the
    service's target. A digest that the history does not know is False; a history that cannot be
    read is None.
    """
    world, action = sources.world, candidate.action
    if world.changes is None or world.workloads is None or world.metrics is None:
        return None
    try:
        workload = (await world.workloads.inventory()).workload(action.service)
        history = await world.changes.between(
            sources.now_ms - HISTORY_MS, sources.now_ms, service=action.service
        )
        wanted = _wanted(workload, candidate)
        if workload is None or wanted is None:
            return Fact(False, sources.now_ms, "change history")
        replaced = _replaced_at(history, wanted)
        if replaced is None:
            return Fact(False, sources.now_ms, "change history")
        target = next(
            (t for t in sources.targets if t.service == action.service and t.is_availability), None
        )
        healthy = target is not None and await _was_healthy(world.metrics, target, wanted, replaced)
    except (BackendError, QueryError):
        return None
    return Fact(healthy, sources.now_ms, "change history and metrics")


def _wanted(workload: Workload | None, candidate: Candidate) -> Revision | None:
    """The revision that the action would leave in service, if the orchestrator has it."""
    if workload is None:
        return None
    arguments = candidate.action.arguments
    if candidate.action.tool == "deployments.roll_back":
        number = arguments.get("to_revision")
        return next((r for r in workload.revisions if r.revision == number), None)
    digest = arguments.get("digest") or arguments.get("config_digest")
    return next((r for r in workload.revisions if r.digest == digest), None)


def _replaced_at(history: Sequence[Change], wanted: Revision) -> int | None:
    """When the last change moved traffic away from this digest; None if it was never recorded in
    service.
    """
    times = [
        c.at_ms for c in history if c.from_digest == wanted.digest and c.to_digest != wanted.digest
    ]
    return max(times) if times else None


async def _was_healthy(metrics: Metrics, target: Target, wanted: Revision, until_ms: int) -> bool:
    window = target.windows[0]
    total = _of_version(
        await metrics.query(target.total_by("version", window.long_s), until_ms), wanted.version
    )
    good = _of_version(
        await metrics.query(target.good_by("version", window.long_s), until_ms), wanted.version
    )
    if total is None or total < MINIMUM_REQUESTS:
        return False
    limit = window.factor * (10_000 - target.objective_bp) / 10_000
    return (total - (good or 0.0)) / total <= limit


def _of_version(series: Sequence[Series], version: str) -> float | None:
    for one in series:
        if one.labels.get("version") == version and one.points:
            return one.points[-1][1]
    return None
