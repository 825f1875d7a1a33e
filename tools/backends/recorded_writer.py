"""The write side of a recorded world: what was done in the recording can be done again.

A write that was never recorded reports success, as it would have had, and ends the world's data.
"""

from __future__ import annotations

from loop4.domain import Json
from loop4.errors import Conflict, Refused
from loop4.tools.backends.ports import Workload, WriteResult
from loop4.tools.backends.recorded import RecordedWorld

ALL_BP = 10_000


class RecordedWriter:
    """The `WorkloadsWriter` of a recorded world."""

    def __init__(self, world: RecordedWorld) -> None:
        self._world = world
        self._restarts: set[tuple[str, int]] = set()

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        """As the port says; see `RecordedWorld.make`."""
        before: dict[str, int | str] = {"revision": 0}
        if self._world.present_ms() is not None:
            workload = self._world.workload(service)
            before = {"revision": workload.current_revision}
            shares = {r.revision: r.weight_bp for r in workload.revisions}
            if to_revision not in shares:
                raise Refused(f"{service} has no revision {to_revision} in the recorded world")
            if workload.current_revision == to_revision and shares[to_revision] == ALL_BP:
                return WriteResult(False, before, before)
            _expect(workload, expected)
        arguments: dict[str, Json] = {"service": service, "to_revision": to_revision}
        self._world.make("deployments.roll_back", service, arguments, service, mark)
        return WriteResult(True, before, {"revision": to_revision})

    async def restart(
        self, instance: str, restarted_at_ms: int, *, expected: str, mark: str
    ) -> WriteResult:
        """As the port says; see `RecordedWorld.make`."""
        arguments: dict[str, Json] = {"instance": instance, "restarted_at_ms": restarted_at_ms}
        state: dict[str, int | str] = {"instance": instance, "restarted_at_ms": restarted_at_ms}
        if (instance, restarted_at_ms) in self._restarts:
            return WriteResult(False, state, state)
        service = ""
        if self._world.present_ms() is not None:
            workload = self._owner(instance)
            _expect(workload, expected)
            service = workload.service
        self._world.make("workloads.restart", instance, arguments, service, mark)
        self._restarts.add((instance, restarted_at_ms))
        return WriteResult(True, {"instance": instance}, state)

    async def scale(self, service: str, replicas: int, *, expected: str, mark: str) -> WriteResult:
        """As the port says; see `RecordedWorld.make`."""
        before: dict[str, int | str] = {"replicas": 0}
        if self._world.present_ms() is not None:
            workload = self._world.workload(service)
            before = {"replicas": workload.replicas}
            if workload.replicas == replicas:
                return WriteResult(False, before, before)
            _expect(workload, expected)
        arguments: dict[str, Json] = {"service": service, "replicas": replicas}
        self._world.make("workloads.scale", service, arguments, service, mark)
        return WriteResult(True, before, {"replicas": replicas})

    def _owner(self, instance: str) -> Workload:
        for workload in self._world.inventory().workloads:
            if any(found.instance == instance for found in workload.instances):
                return workload
        raise Refused(f"the recorded world has no instance {instance!r}")


def _expect(workload: Workload, expected: str) -> None:
    if workload.resource_version != expected:
        raise Conflict(
            f"{workload.service} is at resource version {workload.resource_version!r},"
            f" expected {expected!r}; read it again"
        )
