"""One service as desired: its revisions, their routing weights, its replica count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loop4.canonical import digest
from loop4.domain import Json
from loop4.lab.topology import REPLICAS, SERVICES, first_revision, version_of
from loop4.tools.backends.ports import Change, Revision

ALL_BP = 10_000
HOUR_MS = 3_600_000
PIPELINE = "pipeline"


@dataclass(slots=True)
class Deployment:
    """One service as desired. `wanted` holds replica counts by revision."""

    service: str
    revisions: dict[int, Revision]
    current: int
    replicas: int = REPLICAS
    generation: int = 1
    version: int = 1
    mark: str = ""
    wanted: dict[int, int] = field(default_factory=dict)
    last_routing_change_ms: int = 0
    seen: Json = None

    def desired_digest(self) -> str:
        """Digest of generation, artefacts, configuration, weights and replica count."""
        weights = {r.digest: r.weight_bp for r in self.revisions.values() if r.weight_bp}
        return digest(
            {
                "service": self.service,
                "generation": self.generation,
                "revisions": weights,
                "replicas": self.replicas,
            }
        )

    def shown(self) -> dict[str, int | str]:
        """What a write reports as before and after."""
        revision = self.revisions[self.current]
        return {
            "revision": self.current,
            "version": revision.version,
            "weight_bp": revision.weight_bp,
            "replicas": self.replicas,
            "generation": self.generation,
        }

    def weigh(self, weights: Mapping[int, int]) -> None:
        """Set the routing weights; revisions not named get none."""
        for number, revision in self.revisions.items():
            self.revisions[number] = Revision(
                number,
                revision.version,
                revision.digest,
                revision.created_ms,
                weights.get(number, 0),
            )


def history(service: str, started_ms: int, seed: int) -> tuple[Deployment, list[Change]]:
    """A service that has run for a while: three revisions, the last one with all traffic, and the
    two deploys that brought the later ones.
    """
    last = first_revision(service, seed)
    position = list(SERVICES).index(service)
    revisions: dict[int, Revision] = {}
    for number in range(last - 2, last + 1):
        age = last - number
        at_ms = started_ms - (age * 47 + 19 + position * 7) * HOUR_MS
        revisions[number] = new_revision(service, number, {"workers": str(4 - age % 2)}, at_ms)
    deployment = Deployment(service, revisions, last)
    deployment.weigh({last: ALL_BP})
    deployment.wanted = {last: REPLICAS}
    changes = [
        Change(
            change_id=f"{service}-{number}",
            at_ms=revisions[number].created_ms,
            kind="deploy",
            service=service,
            instance="",
            from_revision=number - 1,
            to_revision=number,
            from_version=revisions[number - 1].version,
            to_version=revisions[number].version,
            from_digest=revisions[number - 1].digest,
            to_digest=revisions[number].digest,
            weight_bp=ALL_BP,
            actor=PIPELINE,
            text=f"release {revisions[number].version}",
        )
        for number in (last - 1, last)
    ]
    return deployment, changes


def new_revision(
    service: str, number: int, settings: Mapping[str, str], created_ms: int
) -> Revision:
    """A revision without traffic; its digest covers artefact and settings."""
    version = version_of(service, number)
    content: Json = {"artefact": f"{service}@{version}", "settings": dict(settings)}
    return Revision(number, version, digest(content), created_ms, 0)
