"""`traffic_share_bp`: what the router says now, or what was measured since routing changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from loop4.domain import Action, Fact, Incident, JsonObject, Severity
from loop4.ledger.ledger import Ledger
from loop4.policies.catalogue import shipped_catalogue
from loop4.policies.load import load_policy
from loop4.tools.backends.ports import Inventory, Revision, Workload, World
from loop4.tools.backends.promql import EmbeddedMetrics
from loop4.tools.backends.series import SeriesStore
from loop4.tools.facts.sources import Candidate, FactSources
from loop4.tools.facts.traffic import traffic_share_bp

START_MS = 1_790_000_000_000
INCIDENT = Incident("INC-2026-001", "lab/orders", "orders", "lab", Severity.SEV2, "open", START_MS)
RESTART: JsonObject = {"instance": "orders-1", "restarted_at_ms": START_MS}


@dataclass
class Router:
    """Weights and touched requests of orders, one sample a second, 30 edge requests a second."""

    store: SeriesStore = field(default_factory=SeriesStore)
    now_ms: int = START_MS
    changed_ms: int = START_MS
    revisions: tuple[Revision, ...] = (Revision(41, "v1", "d41", 0, 10_000),)
    counts: dict[tuple[str, ...], float] = field(default_factory=dict)

    def run(self, seconds: int, versions: dict[str, int], instances: dict[str, int]) -> None:
        """Let time pass under a routing: weights in basis points per version and instance."""
        for _ in range(seconds):
            self.now_ms += 1000
            self._count("router_edge_requests_total", {"outcome": "ok"}, 30)
            for version, weight in versions.items():
                labels = {"service": "orders", "version": version}
                self.store.append("router_weight_bp", labels, self.now_ms, weight)
            for name, weight in instances.items():
                version, _, _ = name.partition("/")
                labels = {"service": "orders", "version": version, "instance": name}
                self.store.append("router_instance_weight_bp", labels, self.now_ms, weight)
                self._count("router_edge_touched_total", labels, 30 * weight / 10_000)

    def _count(self, name: str, labels: dict[str, str], more: float) -> None:
        key = (name, *labels.values())
        self.counts[key] = self.counts.get(key, 0.0) + more
        self.store.append(name, labels, self.now_ms, self.counts[key])

    async def inventory(self) -> Inventory:
        workload = Workload(
            "orders", "rv1", 1, "d41", 41, 3, self.changed_ms, "", self.revisions, ()
        )
        return Inventory(self.now_ms, (workload,), ())


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[FactSources]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield FactSources(
            World(), ledger, load_policy(), shipped_catalogue(), (), (), INCIDENT, START_MS, True
        )


def share(sources: FactSources, router: Router, tool: str, target: str, **arguments: int) -> Fact:
    world = World(metrics=EmbeddedMetrics(router.store), workloads=router)
    action = Action(
        "a1", INCIDENT.incident_id, tool, target, "orders", "lab", arguments, "", "r", "r"
    )
    asked = replace(sources, world=world, now_ms=router.now_ms)
    fact = asyncio.run(traffic_share_bp(asked, Candidate(action)))
    assert fact is not None
    assert fact.source == "router"
    return fact


def test_an_ejected_crash_looping_replica_serves_nothing(sources: FactSources) -> None:
    router = Router()
    router.run(60, {"v1": 10_000}, {"v1/1": 0, "v1/2": 5_000, "v1/3": 5_000})
    assert share(sources, router, "workloads.restart", "v1/1").value == 0


def test_a_replica_ejected_a_moment_ago_counts_what_it_served_since_routing_changed(
    sources: FactSources,
) -> None:
    router = Router()
    router.run(60, {"v1": 10_000}, {"v1/1": 3_333, "v1/2": 3_333, "v1/3": 3_334})
    router.changed_ms = router.now_ms
    router.run(10, {"v1": 10_000}, {"v1/1": 0, "v1/2": 5_000, "v1/3": 5_000})
    assert share(sources, router, "workloads.restart", "v1/1").value == 0


def test_a_healthy_replica_of_three_serves_a_third(sources: FactSources) -> None:
    router = Router()
    router.run(60, {"v1": 10_000}, {"v1/1": 3_333, "v1/2": 3_333, "v1/3": 3_334})
    value = share(sources, router, "workloads.restart", "v1/1").value
    assert isinstance(value, int)
    assert 3_333 <= value <= 3_400


def test_a_version_at_half_for_five_seconds_counts_a_half(sources: FactSources) -> None:
    router = Router()
    router.run(120, {"v1": 10_000}, {"v1/1": 10_000})
    router.changed_ms = router.now_ms
    router.revisions = (
        Revision(41, "v1", "d41", 0, 5_000),
        Revision(42, "v2", "d42", router.now_ms, 5_000),
    )
    router.run(5, {"v1": 5_000, "v2": 5_000}, {"v1/1": 5_000, "v2/1": 5_000})
    assert share(sources, router, "deployments.roll_back", "orders", to_revision=41).value == 5_000


def test_the_measured_share_counts_when_it_is_larger(sources: FactSources) -> None:
    router = Router()
    router.revisions = (
        Revision(41, "v1", "d41", 0, 9_000),
        Revision(42, "v2", "d42", router.now_ms, 1_000),
    )
    router.run(30, {"v1": 9_000, "v2": 1_000}, {"v1/1": 9_000, "v2/1": 4_000})
    value = share(sources, router, "deployments.roll_back", "orders", to_revision=41).value
    assert isinstance(value, int)
    assert 3_900 <= value <= 4_100


def test_a_router_that_is_silent_gives_no_fact(sources: FactSources) -> None:
    router = Router()
    router.run(60, {"v1": 10_000}, {"v1/1": 10_000})
    router.now_ms += 60_000
    world = World(metrics=EmbeddedMetrics(router.store), workloads=router)
    action = Action("a1", "i", "workloads.restart", "v1/1", "orders", "lab", RESTART, "", "r", "r")
    asked = replace(sources, world=world, now_ms=router.now_ms)
    assert asyncio.run(traffic_share_bp(asked, Candidate(action))) is None


def test_a_service_that_the_orchestrator_does_not_know_gives_no_fact(sources: FactSources) -> None:
    router = Router()
    router.run(30, {"v1": 10_000}, {"v1/1": 10_000})
    world = World(metrics=EmbeddedMetrics(router.store), workloads=router)
    action = Action("a1", "i", "workloads.restart", "v1/1", "other", "lab", RESTART, "", "r", "r")
    asked = replace(sources, world=world, now_ms=router.now_ms)
    assert asyncio.run(traffic_share_bp(asked, Candidate(action))) is None


EVIL = 'v2"} or vector(0) or x{a="'


def test_a_version_that_is_a_query_of_its_own_is_looked_up_and_not_run(
    sources: FactSources,
) -> None:
    """Unquoted it reads: the weight of v2 (none), or 0; and a wide act would be a small one."""
    router = Router(
        revisions=(Revision(41, "v1", "d41", 0, 5_000), Revision(42, EVIL, "d", 0, 5_000))
    )
    router.run(3, {"v1": 5_000, EVIL: 5_000}, {"v1/1": 10_000})
    router.changed_ms = router.now_ms  # too short to measure: the weight alone counts
    assert share(sources, router, "deployments.roll_back", "orders", to_revision=41).value == 5_000
