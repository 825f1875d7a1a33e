"""What the lab consists of: three services in a chain, one external dependency, three routes."""

from __future__ import annotations

import random
from dataclasses import dataclass

ENVIRONMENT = "lab"
BANK = "bank"
REPLICAS = 3
CANARY_REPLICAS = 2
SLOW_MS = 300  # an edge answer slower than this counts as "slow"; the latency target says the same


@dataclass(frozen=True, slots=True)
class Service:
    """One service of ours. `upstream` is whom it calls; `work_ms` its own median time per call."""

    name: str
    upstream: str
    work_ms: float
    routes: tuple[str, ...]
    major: int


SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Service("gateway", "orders", 3.0, ("browse", "order", "checkout"), 3),
        Service("orders", "payments", 5.0, ("order", "checkout"), 1),
        Service("payments", BANK, 6.0, ("checkout",), 2),
    )
}
EDGE_SERVICE = "gateway"

ROUTE_SHARES: tuple[tuple[str, int], ...] = (("browse", 30), ("order", 20), ("checkout", 50))
LAST_HOP = {"browse": "gateway", "order": "orders", "checkout": "payments"}


def calls_upstream(service: str, route: str) -> bool:
    """Whether `service` passes a request of `route` on (payments passes a checkout to the bank)."""
    return service == "payments" or LAST_HOP[route] != service


def first_revision(service: str, seed: int) -> int:
    """The revision that runs when the lab starts; the seed draws it."""
    return random.Random(f"{seed}:{service}").randrange(21, 90)  # noqa: S311  (not a secret)


def version_of(service: str, revision: int) -> str:
    """The version string of a revision, e.g. "1.41.0"."""
    return f"{SERVICES[service].major}.{revision}.0"
