"""Is what was wrong right again? Read from telemetry, over samples after the act."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from loop4.domain import Event, EventKind, Json, Reading
from loop4.errors import BackendError, QueryError
from loop4.graphs.fleet import Fleet
from loop4.graphs.triage import related
from loop4.ledger import events, evidence
from loop4.policies.targets import Target
from loop4.tools.backends.ports import Metrics

MINIMUM_REQUESTS = 10.0
LOOKS = (1, 2, 4)  # verification windows that are looked over


@dataclass(frozen=True, slots=True)
class Check:
    """One target (or instance) looked at. `failing_bp` is over its verification window."""

    target: str
    reading: Reading
    failing_bp: int


def overall(checks: tuple[Check, ...]) -> Reading:
    """The worst reading; nothing checked is no data."""
    readings = {c.reading for c in checks}
    if Reading.FAIL in readings:
        return Reading.FAIL
    return Reading.NO_DATA if not readings or Reading.NO_DATA in readings else Reading.PASS


def breached_targets(fleet: Fleet, incident_id: str) -> frozenset[str]:
    """Names of the targets that an incident is about, by its events and its triage."""
    with fleet.ledger.read() as tx:
        known = events.of_incident(tx, incident_id)
        records = evidence.list_records(tx, incident_id, kinds=("triage",))
    triaged = [
        str(t["target"])
        for r in records
        for t in cast("Sequence[Mapping[str, Json]]", r.body["targets"])
        if t["reading"] == Reading.FAIL
    ]
    return frozenset([*triaged, *(e.labels["target"] for e in known if "target" in e.labels)])


async def check_recovery(
    fleet: Fleet, event: Event, breached: Collection[str], *, since_ms: int
) -> tuple[Check, ...]:
    """Every affected target over its verification window, which must lie after `since_ms`.

    A breached target must be back inside its objective over its latest verification window, or
    over two or four of them where that long has passed: with few requests one window is noisy.
    The others must not breach.
    An odd instance must be ready, take traffic, and not have been respawned since its clean start.
    """
    services = related(fleet, event.service)
    checks = [
        await _check(fleet, t, since_ms, must_be_inside=t.name in breached)
        for t in fleet.targets
        if t.service in services
    ]
    if event.kind is EventKind.ANOMALY:
        checks.append(await _check_instance(fleet, event))
    return tuple(checks)


async def _check(fleet: Fleet, target: Target, since_ms: int, *, must_be_inside: bool) -> Check:
    metrics, now_ms = fleet.world.metrics, fleet.clock.now_ms()
    window_s = target.verification_window_s
    if metrics is None or now_ms - window_s * 1000 < since_ms:
        return Check(target.name, Reading.NO_DATA, 0)
    try:
        spans_s = [window_s * n for n in LOOKS if now_ms - window_s * n * 1000 >= since_ms]
        ratios = [await _ratio(metrics, target, span_s, now_ms) for span_s in spans_s]
    except (BackendError, QueryError):
        return Check(target.name, Reading.NO_DATA, 0)
    latest = ratios[0]
    if latest is None:
        return Check(target.name, Reading.NO_DATA, 0)
    breaches = latest > target.threshold(target.windows[0])
    inside = any(ratio is not None and ratio <= target.budget_ratio for ratio in ratios)
    well = not breaches and (inside or not must_be_inside)
    return Check(target.name, Reading.PASS if well else Reading.FAIL, round(latest * 10_000))


async def _ratio(metrics: Metrics, target: Target, window_s: int, at_ms: int) -> float | None:
    """The failing share of a window; None with too few requests."""
    total = await metrics.query(target.total_query(window_s), at_ms)
    ratio = await metrics.query(target.error_ratio_query(window_s), at_ms)
    least = max(MINIMUM_REQUESTS, target.minimum_requests)
    if not total or not ratio or total[0].points[-1][1] < least:
        return None
    return ratio[0].points[-1][1]


async def _check_instance(fleet: Fleet, event: Event) -> Check:
    name = event.labels.get("instance", "")
    if fleet.world.workloads is None:
        return Check(name, Reading.NO_DATA, 0)
    try:
        inventory = await fleet.world.workloads.inventory()
    except (BackendError, QueryError):
        return Check(name, Reading.NO_DATA, 0)
    found = [i for w in inventory.workloads for i in w.instances if i.instance == name]
    if not found:
        return Check(name, Reading.NO_DATA, 0)
    well = found[0].state == "ready" and not found[0].ejected and found[0].restarts == 0
    return Check(name, Reading.PASS if well else Reading.FAIL, 0)
