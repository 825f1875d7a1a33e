"""Past decisions judged again under another rule set: what would have come out otherwise.

A ledger keeps with each decision the facts it stood on. They are judged as they were then and at
that time, by the compiled conditions of the gate, so the only thing that differs is the rules.
Compared is what the rules alone say (`decided`); bindings, executors and approvals had their day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

from loop4.domain import Action, Effect, Json, RequesterKind
from loop4.policies.compile import (
    DecideRecorded,
    Matched,
    Recorded,
    compile_for_records,
    matching,
)
from loop4.policies.plan import Plan
from loop4.policies.policy import Policy

Facts: TypeAlias = "Mapping[str, Recorded]"


@dataclass(slots=True)
class PastDecision:
    """One recorded decision. `facts` and `action` are the ledger's own JSON, not copied.

    `action` has at least arguments, environment and requester_kind. Not frozen: hundreds of
    thousands are made in a second.
    """

    seq: int
    at_ms: int
    tool: str
    agent: str
    service: str
    environment: str
    facts: Facts
    action: Recorded
    decided: str
    rules: tuple[str, ...]
    target: str = ""


@dataclass(frozen=True, slots=True)
class Turned:
    """A decision that would come out otherwise."""

    decision: PastDecision
    becomes: Effect
    rules: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        past = self.decision
        return {
            "seq": past.seq,
            "at_ms": past.at_ms,
            "tool": past.tool,
            "target": past.target,
            "service": past.service,
            "was": past.decided,
            "rules_then": list(past.rules),
            "becomes": str(self.becomes),
            "rules_now": list(self.rules),
        }


@dataclass(frozen=True, slots=True)
class Replayed:
    """All decisions judged again. `by_other_rules` counts those with the same effect by others."""

    judged: int
    turned: tuple[Turned, ...]
    by_other_rules: int
    unknown_tools: int


class PolicyReplay:
    """The policy's compiled conditions over recorded facts, kept from one decision to the next."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._plans: dict[tuple[str, str, str, str], _RecordedPlan] = {}

    def run(self, decisions: Iterable[PastDecision]) -> Replayed:
        """Judge each decision at its own time. Never raises for facts that cannot be used."""
        plans, turned = self._plans, []
        judged = others = unknown = 0
        key_of = attrgetter("tool", "environment", "service", "agent")
        for past in decisions:
            judged += 1
            try:
                plan = plans[key_of(past)]
            except KeyError:
                found = self._plan(past)
                if found is None:
                    unknown += 1
                    if past.decided != Effect.DENY:
                        turned.append(Turned(past, Effect.DENY, ()))
                    continue
                plan = found
            matched = plan.decide(past.facts, past.at_ms, past.action)
            try:
                effect, rules = plan.answers[matched]
            except KeyError:
                effect, rules = plan.answer(matched)
            if effect != past.decided:
                turned.append(Turned(past, effect, rules))
            elif rules != past.rules:
                others += 1
        return Replayed(judged, tuple(turned), others, unknown)

    def _plan(self, past: PastDecision) -> _RecordedPlan | None:
        plan = self.policy.plan_for(_action(past))
        if plan is None:
            return None
        recorded = _RecordedPlan(plan)
        self._plans[past.tool, past.environment, past.service, past.agent] = recorded
        return recorded


class _RecordedPlan:
    """One plan of the gate, reading the ledger's JSON, and its answers by matched rules."""

    __slots__ = ("answers", "decide", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.decide: DecideRecorded = compile_for_records(plan.tool, plan.rules, plan.schemas)
        self.answers: dict[Matched | None, tuple[Effect, tuple[str, ...]]] = {}

    def answer(self, matched: Matched | None) -> tuple[Effect, tuple[str, ...]]:
        rules = matching(self.plan.rules, matched) if matched is not None else []
        effect = rules[0].effect if rules else Effect.DENY
        answer = effect, tuple(rule.rule_id for rule in rules)
        self.answers[matched] = answer
        return answer


def past_decision(
    seq: int, at_ms: int, body: Mapping[str, Json], service: str, environment: str
) -> PastDecision | None:
    """The decision of an evidence body; None if the body is no decision.

    `service` and `environment` are those of the incident, for bodies that do not say. What the
    action claimed of itself is taken from the facts where the body does not keep it.
    """
    tool, facts, arguments = body.get("tool"), body.get("facts"), body.get("arguments")
    decided, rules = body.get("decided"), body.get("rules")
    if not (isinstance(tool, str) and isinstance(facts, dict) and isinstance(decided, str)):
        return None
    if not (isinstance(rules, list) and isinstance(arguments, dict)):
        return None
    environment = _said(body, facts, "environment") or environment
    kind = _said(body, facts, "requester_kind")
    return PastDecision(
        seq,
        at_ms,
        tool,
        str(body.get("agent", "")),
        str(body.get("service") or service),
        environment,
        facts,
        {"arguments": arguments, "environment": environment, "requester_kind": kind},
        decided,
        tuple(map(str, rules)),
        str(body.get("target", "")),
    )


def _said(body: Mapping[str, Json], facts: Mapping[str, Json], name: str) -> str:
    found = body.get(name)
    if not found:
        fact = facts.get(name)
        found = fact.get("value") if isinstance(fact, dict) else ""
    return found if isinstance(found, str) else ""


def _action(past: PastDecision) -> Action:
    """An action that finds the plan; its arguments are never looked at."""
    return Action(
        action_id="",
        incident_id="",
        tool=past.tool,
        target=past.target,
        service=past.service,
        environment=past.environment,
        arguments={},
        target_revision="",
        agent=past.agent,
        requester="",
        requester_kind=RequesterKind.AGENT,
    )
