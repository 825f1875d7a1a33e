"""One sweep of the health targets and the inventory: what is wrong now, as events. Cheap; no graph,
no model.
"""

from __future__ import annotations

from collections.abc import Collection

from loop4.agents.health import Burn, read_target
from loop4.domain import Event, EventKind, Reading
from loop4.errors import BackendError, QueryError
from loop4.graphs.fleet import Fleet
from loop4.graphs.triage import SCOPE_MS
from loop4.policies.catalogue import Service
from loop4.tools.names import named
from loop4.tools.reader import Reader, Scope

RESTARTS = 2  # respawns since the last clean start that make a replica odd


def sweep_reader(fleet: Fleet, environment: str) -> Reader:
    """A reader over every service of the catalogue."""
    return Reader(
        fleet.world,
        fleet.policy,
        fleet.clock,
        Scope(
            "sweep",
            environment,
            frozenset(fleet.catalogue.names()),
            fleet.clock.now_ms() - SCOPE_MS,
        ),
    )


async def read_targets(fleet: Fleet, services: Collection[str] | None = None) -> tuple[Burn, ...]:
    """Every target, or those of some services, read now. Pass, fail or no data."""
    environments = {s.name: s.environment for s in fleet.catalogue.services}
    readers: dict[str, Reader] = {}
    burns = []
    for target in fleet.targets:
        environment = environments.get(target.service)
        if environment is None or (services is not None and target.service not in services):
            continue
        reader = readers.setdefault(environment, sweep_reader(fleet, environment))
        burns.append(await read_target(reader, target, fleet.clock.now_ms()))
    return tuple(burns)


def events_of(fleet: Fleet, burns: tuple[Burn, ...]) -> tuple[Event, ...]:
    """One breach event per failing target; a service that others depend on comes before them.

    The id holds the time of this sweep; whether it is news is for the patrol to say.
    """
    now_ms = fleet.clock.now_ms()
    failing = [b for b in burns if b.reading is Reading.FAIL]
    failing.sort(key=lambda b: (len(fleet.catalogue.downstream(b.target.service)), b.target.name))
    found = []
    for burn in failing:
        service = fleet.catalogue.require(burn.target.service)
        found.append(_event(EventKind.BREACH, "target", burn.target.name, service, now_ms))
    return tuple(found)


async def instance_events(
    fleet: Fleet, services: Collection[str] | None = None
) -> tuple[Event, ...]:
    """One anomaly event per replica, of these services, that keeps being respawned."""
    if fleet.world.workloads is None:
        return ()
    try:
        inventory = await fleet.world.workloads.inventory()
    except (BackendError, QueryError):
        return ()
    now_ms = fleet.clock.now_ms()
    found = []
    for workload in inventory.workloads:
        service = fleet.catalogue.service(workload.service)
        if service is None or (services is not None and service.name not in services):
            continue
        for instance in workload.instances:
            if instance.restarts >= RESTARTS:
                name = named(instance.instance)
                found.append(_event(EventKind.ANOMALY, "instance", name, service, now_ms))
    return tuple(found)


def _event(kind: EventKind, label: str, name: str, service: Service, now_ms: int) -> Event:
    """One thing that is wrong with a service now."""
    return Event(
        event_id=f"{kind.value}:{name}:{now_ms}",
        kind=kind,
        source="sweep",
        service=service.name,
        environment=service.environment,
        at_ms=now_ms,
        correlation=f"{service.environment}/{service.name}",
        labels={label: name},
    )
