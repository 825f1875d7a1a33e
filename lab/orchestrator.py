"""What should run, and the writes that change it: deploy, roll back, restart, scale.

Each write is compare-and-set on the workload's resource version, idempotent (asking for what
already is changes nothing), carries a mark that can be read back, and leaves one line in
`effects.jsonl` if it changed something.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TextIO

from loop4.domain import Clock, Json
from loop4.errors import Conflict, Refused
from loop4.lab.deployments import ALL_BP, Deployment, history, new_revision
from loop4.lab.replicas import Replica, Replicas
from loop4.lab.topology import BANK, CANARY_REPLICAS, SERVICES
from loop4.tools.backends.ports import Change, Revision, WriteResult

MAX_REPLICAS = 6
FLEET = "fleet"


class Orchestrator:
    """All deployments, the change history, and the reconciling of replicas with them."""

    def __init__(
        self, replicas: Replicas, clock: Clock, started_ms: int, seed: int, effects: TextIO
    ) -> None:
        self.replicas = replicas
        self._clock = clock
        self._effects = effects
        self.changes: list[Change] = []
        self.deployments: dict[str, Deployment] = {}
        for name in SERVICES:
            self.deployments[name], changes = history(name, started_ms, seed)
            self.changes += changes
        self.changes.sort(key=lambda change: change.at_ms)

    def deploy(
        self, service: str, *, weight_bp: int, actor: str, text: str, settings: Mapping[str, str]
    ) -> Change:
        """Create the next revision and give it `weight_bp` of the traffic; the others share the
        rest.
        """
        deployment = self._deployment(service)
        if not 0 < weight_bp <= ALL_BP:
            raise Refused(f"weight_bp {weight_bp} is not between 1 and {ALL_BP}")
        number = max(deployment.revisions) + 1
        before = deployment.revisions[deployment.current]
        new = new_revision(service, number, settings, self._clock.now_ms())
        old = {n: r.weight_bp for n, r in deployment.revisions.items() if r.weight_bp}
        rest = ALL_BP - weight_bp
        weights = {n: bp * rest // ALL_BP for n, bp in old.items()}
        weights[deployment.current] += rest - sum(weights.values())
        deployment.revisions[number] = new
        deployment.weigh(weights | {number: weight_bp})
        deployment.wanted = {
            n: c for n, c in deployment.wanted.items() if n in old or n == deployment.current
        }
        deployment.wanted[number] = CANARY_REPLICAS
        deployment.current = number
        self._specified(deployment, mark="")
        return self._record("deploy", deployment, before, weight_bp, actor=actor, text=text)

    def roll_back(self, service: str, to_revision: int, *, expected: str, mark: str) -> WriteResult:
        """Give all traffic to `to_revision`; the others are drained and stopped."""
        deployment = self._deployment(service)
        target = deployment.revisions.get(to_revision)
        if target is None:
            known = ", ".join(map(str, sorted(deployment.revisions)))
            raise Refused(f"{service} has no revision {to_revision}; it has {known}")
        before = deployment.revisions[deployment.current]
        shown_before = deployment.shown()
        if deployment.current == to_revision and target.weight_bp == ALL_BP:
            return WriteResult(False, shown_before, shown_before)
        self._expect(deployment, expected)
        deployment.weigh({to_revision: ALL_BP})
        deployment.wanted = {to_revision: deployment.replicas}
        deployment.current = to_revision
        self._specified(deployment, mark=mark)
        self._record("rollback", deployment, before, ALL_BP, actor=FLEET, mark=mark)
        return WriteResult(True, shown_before, deployment.shown())

    def scale(self, service: str, count: int, *, expected: str, mark: str) -> WriteResult:
        """Set the replica count of the current revision."""
        deployment = self._deployment(service)
        if not 1 <= count <= MAX_REPLICAS:
            raise Refused(f"{count} replicas is not between 1 and {MAX_REPLICAS}")
        shown_before = deployment.shown()
        if deployment.replicas == count == deployment.wanted.get(deployment.current):
            return WriteResult(False, shown_before, shown_before)
        self._expect(deployment, expected)
        deployment.replicas = count
        deployment.wanted[deployment.current] = count
        self._specified(deployment, mark=mark)
        before = deployment.revisions[deployment.current]
        self._record("scale", deployment, before, before.weight_bp, actor=FLEET, mark=mark)
        return WriteResult(True, shown_before, deployment.shown())

    async def restart(
        self, instance: str, restarted_at_ms: int, *, expected: str, mark: str
    ) -> WriteResult:
        """Clean start of one replica, once for each `restarted_at_ms`."""
        replica = self.replicas.find(instance)
        if replica is None:
            raise Refused(f"there is no instance {instance!r}")
        deployment = self._deployment(replica.service)
        shown_before = _shown_replica(replica)
        if replica.restarted_at_ms == restarted_at_ms:
            return WriteResult(False, shown_before, shown_before)
        self._expect(deployment, expected)
        if replica.is_held:
            raise Conflict(f"{instance} is being stopped or restarted already")
        replica.restarted_at_ms, replica.mark = restarted_at_ms, mark
        deployment.version += 1
        same = deployment.revisions[replica.revision]
        self._record(
            "restart",
            deployment,
            same,
            same.weight_bp,
            actor=FLEET,
            mark=mark,
            instance=instance,
            to=same,
        )
        await self.replicas.clean_start(replica)
        return WriteResult(True, shown_before, _shown_replica(replica))

    def missing(self) -> list[tuple[str, int, str]]:
        """(service, revision, version) of each replica that should be started."""
        return [
            (name, number, deployment.revisions[number].version)
            for name, deployment in self.deployments.items()
            for number, count in deployment.wanted.items()
            for _ in range(count - len(self.replicas.of(name, number)))
        ]

    def surplus(self) -> list[Replica]:
        """Replicas to stop. Nothing is stopped before a revision with weight can serve."""
        result: list[Replica] = []
        for name, deployment in self.deployments.items():
            replicas = self.replicas.of(name)
            if not any(r.weight_bp > 0 and deployment.wanted.get(r.revision) for r in replicas):
                continue
            for number in {replica.revision for replica in replicas}:
                result += self.replicas.of(name, number)[deployment.wanted.get(number, 0) :]
        return [replica for replica in result if not replica.is_held]

    def table(self) -> dict[str, Json]:
        """The routing that is wanted now."""
        return {
            name: {
                "weights": [
                    [deployment.revisions[number].version, deployment.revisions[number].weight_bp]
                    for number in sorted({r.revision for r in self.replicas.of(name)})
                ],
                "routes": [
                    {"instance": r.name, "version": r.version, "port": r.port}
                    for r in self.replicas.of(name)
                    if r.is_routed
                ],
            }
            for name, deployment in self.deployments.items()
        }

    def note_routing(self, status: Mapping[str, Mapping[str, Json]]) -> None:
        """Take the router's view: weights in force, ejections, time of the last change."""
        for name, entry in status.items():
            deployment = self.deployments[name]
            deployment.last_routing_change_ms = int(str(entry["changed_ms"]))
            weights, ejected = entry["weights"], entry["ejected"]
            if not isinstance(weights, dict) or not isinstance(ejected, list):
                raise ValueError(f"expected the router's status, found {entry!r}")
            for replica in self.replicas.of(name):
                replica.weight_bp = int(weights.get(replica.name, 0))
                replica.ejected = replica.name in ejected

    def note_status(self) -> None:
        """A new resource version for each workload whose status changed."""
        for name, deployment in self.deployments.items():
            seen: Json = [list(replica.status()) for replica in self.replicas.of(name)]
            if seen != deployment.seen:
                deployment.seen = seen
                deployment.version += 1

    def inventory(self) -> Json:
        """Everything desired and running, in the shape of `ports.Inventory`."""
        return {
            "at_ms": self._clock.now_ms(),
            "workloads": [
                _workload(deployment, self.replicas.of(name))
                for name, deployment in self.deployments.items()
            ],
            "externals": [BANK],
        }

    def _deployment(self, service: str) -> Deployment:
        if service not in self.deployments:
            raise Refused(f"there is no service {service!r}; there are {', '.join(SERVICES)}")
        return self.deployments[service]

    def _expect(self, deployment: Deployment, expected: str) -> None:
        if expected != str(deployment.version):
            raise Conflict(
                f"{deployment.service} is at resource version {deployment.version}, not"
                f" {expected!r}; read it again"
            )

    def _specified(self, deployment: Deployment, *, mark: str) -> None:
        deployment.generation += 1
        deployment.version += 1
        deployment.mark = mark

    def _record(
        self,
        kind: str,
        deployment: Deployment,
        before: Revision,
        weight_bp: int,
        *,
        actor: str,
        mark: str = "",
        text: str = "",
        instance: str = "",
        to: Revision | None = None,
    ) -> Change:
        after = to or deployment.revisions[deployment.current]
        change = Change(
            change_id=f"change-{len(self.changes) + 1}",
            at_ms=self._clock.now_ms(),
            kind=kind,
            service=deployment.service,
            instance=instance,
            from_revision=before.revision,
            to_revision=after.revision,
            from_version=before.version,
            to_version=after.version,
            from_digest=before.digest,
            to_digest=after.digest,
            weight_bp=weight_bp,
            actor=actor,
            mark=mark,
            text=text,
        )
        self.changes.append(change)
        self._effects.write(json.dumps(asdict(change)) + "\n")
        self._effects.flush()
        return change


def _workload(deployment: Deployment, replicas: list[Replica]) -> Json:
    return {
        "service": deployment.service,
        "resource_version": str(deployment.version),
        "generation": deployment.generation,
        "desired_digest": deployment.desired_digest(),
        "current_revision": deployment.current,
        "replicas": deployment.replicas,
        "last_routing_change_ms": deployment.last_routing_change_ms,
        "mark": deployment.mark,
        "revisions": [asdict(revision) for revision in deployment.revisions.values()],
        "instances": [_instance(replica) for replica in replicas],
    }


def _instance(replica: Replica) -> Json:
    return {
        "instance": replica.name,
        "service": replica.service,
        "revision": replica.revision,
        "version": replica.version,
        "state": replica.state,
        "ejected": replica.ejected,
        "restarts": replica.restarts,
        "started_ms": replica.started_ms,
        "weight_bp": replica.weight_bp,
        "mark": replica.mark,
    }


def _shown_replica(replica: Replica) -> dict[str, int | str]:
    return {
        "instance": replica.name,
        "state": replica.state,
        "restarts": replica.restarts,
        "restarted_at_ms": replica.restarted_at_ms,
    }
