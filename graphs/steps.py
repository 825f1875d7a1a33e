"""What a plan is made of: steps, each a batch of notices or a single write, with their fixed action
ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from loop4.canonical import digest
from loop4.domain import Action, Incident, Json, JsonObject, RequesterKind
from loop4.errors import BackendError
from loop4.graphs.fleet import Fleet
from loop4.tools.facts.sources import Candidate
from loop4.tools.orchestrator import target_revision

NOTIFY, WRITE = "notify", "write"


@dataclass(frozen=True, slots=True)
class Item:
    """One action in a plan, before the gate. `ordinal` tells repeats of the same act apart."""

    agent: str
    tool: str
    target: str
    service: str
    arguments: JsonObject
    reason: str
    evidence: tuple[str, ...] = ()
    runbook: str = ""
    inverse: JsonObject | None = None
    ordinal: int = 0
    requester: str = ""

    def action_id(self, incident_id: str) -> str:
        """Fixed before the gate: who is told or changed, with exactly what, for the nth time."""
        return digest(
            {
                "incident": incident_id,
                "target": self.target,
                "tool": self.tool,
                "arguments": self.arguments,
                "ordinal": self.ordinal,
            }
        )


@dataclass(frozen=True, slots=True)
class Step:
    """A batch of notices, or one write."""

    kind: str
    items: tuple[Item, ...] = field(default_factory=tuple)


def put_steps(fleet: Fleet, steps: Sequence[Step]) -> str:
    """Draft a plan; its digest is what the state carries."""
    return fleet.drafts.put(
        [{"kind": s.kind, "items": [_item_body(i) for i in s.items]} for s in steps]
    )


def read_steps(fleet: Fleet, plan: str) -> tuple[Step, ...]:
    """A plan by its digest; empty when a crash lost it before it was written."""
    body = cast("Sequence[Mapping[str, Json]]", fleet.drafts.get(plan) or ())
    return tuple(
        Step(
            str(s["kind"]),
            tuple(_item(i) for i in cast("Sequence[Mapping[str, Json]]", s["items"])),
        )
        for s in body
    )


def _item_body(item: Item) -> dict[str, Json]:
    return {
        "agent": item.agent,
        "tool": item.tool,
        "target": item.target,
        "service": item.service,
        "arguments": item.arguments,
        "reason": item.reason,
        "evidence": list(item.evidence),
        "runbook": item.runbook,
        "inverse": item.inverse,
        "ordinal": item.ordinal,
        "requester": item.requester,
    }


def _item(body: Mapping[str, Json]) -> Item:
    return Item(
        agent=str(body["agent"]),
        tool=str(body["tool"]),
        target=str(body["target"]),
        service=str(body["service"]),
        arguments=cast("JsonObject", body["arguments"]),
        reason=str(body["reason"]),
        evidence=tuple(str(e) for e in cast("Sequence[Json]", body["evidence"])),
        runbook=str(body["runbook"]),
        inverse=cast("JsonObject | None", body["inverse"]),
        ordinal=cast("int", body["ordinal"]),
        requester=str(body["requester"]),
    )


async def candidate_for(fleet: Fleet, incident: Incident, item: Item) -> Candidate:
    """The exact action as it would run now: the target revision is read fresh from the world."""
    action = Action(
        action_id=item.action_id(incident.incident_id),
        incident_id=incident.incident_id,
        tool=item.tool,
        target=item.target,
        service=item.service,
        environment=incident.environment,
        arguments=item.arguments,
        target_revision=await _revision(fleet, item),
        agent=item.agent,
        requester=item.requester or item.agent,
        requester_kind=RequesterKind.PERSON if item.requester else RequesterKind.AGENT,
        ordinal=item.ordinal,
    )
    return Candidate(action, item.evidence, item.runbook)


async def _revision(fleet: Fleet, item: Item) -> str:
    """Digest of the target's desired specification; empty for notices and for what nobody could
    read.
    """
    if "path" in item.arguments or fleet.world.workloads is None:
        return ""
    try:
        workload = (await fleet.world.workloads.inventory()).workload(item.service)
    except BackendError:
        return ""
    return "" if workload is None else target_revision(workload)
