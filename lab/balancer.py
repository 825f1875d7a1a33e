"""Who gets the next call: smooth weighted round robin over versions, then over their instances.

Pure bookkeeping without I/O; times are arguments. An instance takes traffic after its first passed
health check, is ejected after two failures in a row (health checks and refused calls alike) and
comes back after two passed checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

EJECT_AFTER = 2
READMIT_AFTER = 2
ALL_BP = 10_000


class _Weighted(Protocol):
    weight: int
    current: int


W = TypeVar("W", bound=_Weighted)


def smooth_pick(candidates: Collection[W]) -> W:
    """The next of `candidates` (not empty, positive weights): each comes evenly, by its weight."""
    total = 0
    for candidate in candidates:
        candidate.current += candidate.weight
        total += candidate.weight
    chosen = max(candidates, key=lambda c: c.current)
    chosen.current -= total
    return chosen


@dataclass(slots=True)
class Backend:
    """One instance as the router sees it."""

    name: str
    version: str
    port: int
    routable: bool = False
    admitted: bool = False  # has ever been routable; before that it is new, not ejected
    failures: int = 0
    passes: int = 0
    weight: int = 1
    current: int = 0

    @property
    def ejected(self) -> bool:
        """Whether it had traffic before and gets none now."""
        return self.admitted and not self.routable


@dataclass(slots=True)
class VersionPool:
    """The instances of one version and the version's desired weight in basis points."""

    version: str
    weight: int
    backends: list[Backend] = field(default_factory=list)
    current: int = 0

    def routable(self, without: Collection[str]) -> list[Backend]:
        """Those that may take a call now."""
        return [b for b in self.backends if b.routable and b.name not in without]


@dataclass(frozen=True, slots=True)
class Route:
    """One instance in a pushed table."""

    instance: str
    version: str
    port: int


@dataclass(frozen=True, slots=True)
class Table:
    """The routing of one service that the orchestrator wants: weights by version, instances."""

    weights: tuple[tuple[str, int], ...]
    routes: tuple[Route, ...]


class ServiceBalancer:
    """Routing of one service."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.changed_ms = 0
        self._pools: list[VersionPool] = []
        self._table: Table | None = None

    def backends(self) -> Iterable[Backend]:
        """All instances of the present table."""
        return (backend for pool in self._pools for backend in pool.backends)

    def find(self, instance: str) -> Backend | None:
        """The instance of that name, or None."""
        return next((b for b in self.backends() if b.name == instance), None)

    def apply(self, table: Table, at_ms: int) -> None:
        """Route by `table` from now on; what is known about an instance's health is kept, unless
        it moved to another port (then it must pass a check first).
        """
        if table == self._table:
            return
        known = {backend.name: backend for backend in self.backends()}
        before = self.effective()
        pools = {version: VersionPool(version, weight) for version, weight in table.weights}
        for route in table.routes:
            backend = known.get(route.instance)
            if backend is None:
                backend = Backend(route.instance, route.version, route.port)
            elif backend.port != route.port:
                backend.port, backend.routable, backend.passes = route.port, False, 0
            pools[route.version].backends.append(backend)
        self._pools, self._table = list(pools.values()), table
        if self.effective() != before:
            self.changed_ms = at_ms

    def pick(self, without: Collection[str] = ()) -> Backend | None:
        """The instance for the next call, or None. Versions without weight are the last resort."""
        able = [(pool, pool.routable(without)) for pool in self._pools]
        weighted = [pool for pool, backends in able if backends and pool.weight > 0]
        if weighted:
            return smooth_pick(smooth_pick(weighted).routable(without))
        spare = [backend for _, backends in able for backend in backends]
        return smooth_pick(spare) if spare else None

    def passed(self, backend: Backend, at_ms: int) -> None:
        """A health check of the instance passed."""
        backend.failures = 0
        backend.passes += 1
        needed = READMIT_AFTER if backend.admitted else 1
        if not backend.routable and backend.passes >= needed:
            backend.routable = backend.admitted = True
            self.changed_ms = at_ms

    def failed(self, backend: Backend, at_ms: int) -> None:
        """A health check failed or a call was refused."""
        backend.passes = 0
        backend.failures += 1
        if backend.routable and backend.failures >= EJECT_AFTER:
            backend.routable = False
            self.changed_ms = at_ms

    def effective(self) -> dict[str, dict[str, int]]:
        """Weight now in force, by version and instance, in basis points of the service's traffic.

        0 for what takes no traffic. Instances of a version share its weight; rounding goes to the
        first.
        """
        able = {pool.version: pool.routable(()) for pool in self._pools}
        total = sum(pool.weight for pool in self._pools if able[pool.version])
        shares: dict[str, dict[str, int]] = {}
        for pool in self._pools:
            share = dict.fromkeys((b.name for b in pool.backends), 0)
            backends = able[pool.version]
            if backends and total:
                bp = round(pool.weight * ALL_BP / total)
                each, rest = divmod(bp, len(backends))
                for position, backend in enumerate(backends):
                    share[backend.name] = each + (1 if position < rest else 0)
            shares[pool.version] = share
        return shares
