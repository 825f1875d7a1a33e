"""A dry judgement: the real facts, the real gate, and nothing recorded, asked or run.

The same act is judged twice: as the fleet's own proposal, with the evidence and the runbook that an
open incident gives it, and as the request of a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from loop4.domain import Effect, Fact, Incident, Json, JsonObject, RequesterKind, Verdict
from loop4.graphs.conversation.lookout import no_incident
from loop4.graphs.fleet import Fleet
from loop4.graphs.steps import Item, candidate_for
from loop4.graphs.triage import related
from loop4.ledger import approvals, evidence, incidents
from loop4.policies.gate import judge
from loop4.policies.runbooks import match_runbook
from loop4.policies.tree import Binary, Name, Tree, Unary
from loop4.tools.facts.providers import facts_for

PERSON = "a person"  # stands for whoever would ask; nobody of that name may vote


@dataclass(frozen=True, slots=True)
class Act:
    """An exact act that is asked about."""

    tool: str
    target: str
    service: str
    environment: str
    arguments: JsonObject

    @property
    def sentence(self) -> str:
        """E.g. `deployments.roll_back on orders {service: orders, to_revision: 41}`."""
        given = ", ".join(f"{k}: {v}" for k, v in sorted(self.arguments.items()))
        return f"{self.tool} on {self.target} {{{given}}}"


@dataclass(frozen=True, slots=True)
class Side:
    """The verdict for one kind of requester, with the facts that the gate looked at."""

    kind: RequesterKind
    verdict: Verdict
    facts: Mapping[str, Fact]
    decisive: tuple[str, ...]  # facts that the matched rules speak of, in name order


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate would say now. `incident_id` is the open incident it was judged in, or ""."""

    act: Act
    at_ms: int
    incident_id: str
    runbook: str
    cited: tuple[str, ...]
    fleet: Side
    person: Side


async def judge_dry(fleet: Fleet, act: Act, *, requester: str = "") -> Judgement:
    """Judge an act as of now, both ways. Writes nothing.

    `requester` is the signed-in person, if there is one; nobody votes for an act of their own.
    """
    incident = open_incident(fleet, act.service)
    stand_in = no_incident(act.service, act.environment, fleet.clock.now_ms())
    cited, runbook = _support(fleet, act, incident)
    own = await _side(fleet, act, incident or stand_in, cited=cited, runbook=runbook)
    # a request opens an incident of its own, so nothing of another one speaks for it
    asked = await _side(fleet, act, stand_in, requester=requester or PERSON)
    return Judgement(
        act=act,
        at_ms=fleet.clock.now_ms(),
        incident_id=incident.incident_id if incident else "",
        runbook=runbook,
        cited=cited,
        fleet=own,
        person=asked,
    )


def open_incident(fleet: Fleet, service: str) -> Incident | None:
    """The open incident that concerns a service: its own first, then one of a service it is tied
    to. People's requests are none.
    """
    with fleet.ledger.read() as tx:
        opened = [i for i in incidents.list_open(tx) if not i.correlation.startswith("request/")]
    near = related(fleet, service)
    own = [i for i in opened if i.service == service]
    return next(iter([*own, *(i for i in opened if i.service in near)]), None)


def body_of(side: Side) -> dict[str, Json]:
    """One side as JSON."""
    verdict = side.verdict
    need = verdict.approval
    return {
        "requester": side.kind.value,
        "effect": verdict.effect.value,
        "decided": verdict.decided.value,
        "mode": verdict.mode.value,
        "rules": list(verdict.rules),
        "reasons": list(verdict.reasons),
        "approval": None if need is None else {"role": need.role, "need": need.need},
        "escalate_to": verdict.escalate_to,
        "facts": {
            name: {"value": f.value, "source": f.source, "at_ms": f.at_ms}
            for name, f in sorted(side.facts.items())
        },
    }


async def _side(
    fleet: Fleet,
    act: Act,
    incident: Incident,
    *,
    cited: tuple[str, ...] = (),
    runbook: str = "",
    requester: str = "",
) -> Side:
    item = Item(
        agent="person" if requester else "remediation",
        tool=act.tool,
        target=act.target,
        service=act.service,
        arguments=act.arguments,
        reason="asked about",
        evidence=cited,
        runbook=runbook,
        requester=requester,
    )
    candidate = await candidate_for(fleet, incident, item)
    context = fleet.read_context(fleet.clock.now_ms())
    sources = fleet.sources(incident, context_complete=context.is_complete)
    facts = await facts_for(sources, candidate)
    with fleet.ledger.read() as tx:
        policy = fleet.in_force(tx)
        held = approvals.of_action(tx, candidate.action.action_id)
    verdict = judge(candidate.action, facts, policy, held, sources.now_ms)
    return Side(
        RequesterKind.PERSON if requester else RequesterKind.AGENT,
        verdict,
        facts,
        _decisive(fleet, verdict),
    )


def _support(fleet: Fleet, act: Act, incident: Incident | None) -> tuple[tuple[str, ...], str]:
    """The evidence and the runbook that the open incident's leading finding gives to this act."""
    if incident is None:
        return (), ""
    with fleet.ledger.read() as tx:
        found = evidence.list_records(tx, incident.incident_id, kinds=("finding",))
    for record in sorted(found, key=lambda r: -cast("int", r.body["confidence_bp"])):
        body = record.body
        if body["agent"] != "incident" or body["service"] != act.service:
            continue
        runbook = match_runbook(fleet.runbooks, str(body["kind"]), act.service)
        if runbook is not None and act.tool in {s.tool for s in runbook.steps}:
            cited = cast("Sequence[Json]", body["evidence"])
            return tuple(str(e) for e in cited), runbook.name
    return (), ""


def _decisive(fleet: Fleet, verdict: Verdict) -> tuple[str, ...]:
    matched = [r for r in fleet.policy.rules if r.rule_id in verdict.rules and r.when is not None]
    names: set[str] = set()
    for rule in matched:
        if rule.when is not None and (
            rule.effect is not Effect.ALLOW or verdict.effect is Effect.ALLOW
        ):
            names |= _names(rule.when)
    return tuple(sorted(names))


def _names(tree: Tree) -> frozenset[str]:
    match tree:
        case Name(name=name):
            return frozenset({name.removeprefix("facts.")})
        case Unary(operand=operand):
            return _names(operand)
        case Binary(left=left, right=right):
            return _names(left) | _names(right)
        case _:
            return frozenset()
