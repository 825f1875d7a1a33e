"""One concrete situation that the gate can be asked about, and the sentence that tells it.

Proofs and comparisons find situations with a solver; before anybody is told of one, the real gate
judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loop4.domain import Action, Approval, ApprovalState, Effect, Fact, FactScalar, Json, Mode, Vote
from loop4.policies.approval import action_digest
from loop4.policies.cases import NOW_MS, under
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.gate import judge
from loop4.policies.policy import Policy

OTHER = "any-other"  # stands for every word that neither rules nor bindings mention
_UNITS = {"s": "s", "ms": "ms"}


@dataclass(frozen=True, slots=True)
class Situation:
    """An action with the facts that hold. `mode` None = as the bindings say."""

    action: Action
    facts: Mapping[str, Fact]
    mode: Mode | None = Mode.ACT
    has_executor: bool = True
    is_approved: bool = False
    now_ms: int = NOW_MS


@dataclass(frozen=True, slots=True)
class Answer:
    """What the real gate says: before approvals, and with the situation's own."""

    effect: Effect
    before_approvals: Effect
    decided: Effect
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    role: str = ""


def answer(situation: Situation, policy: Policy) -> Answer:
    """The verdict of `judge`. An approved situation brings one approval that fits."""
    viewed = under(policy, situation.mode, situation.has_executor)
    action, facts, now_ms = situation.action, situation.facts, situation.now_ms
    verdict = judge(action, facts, viewed, (), now_ms)
    effect, reasons = verdict.effect, verdict.reasons
    if situation.is_approved:
        need = verdict.approval
        approval = fitting_approval(
            action,
            viewed.version,
            need.role if need else "policy-author",
            need.need if need else 1,
            now_ms,
        )
        lifted = judge(action, facts, viewed, (approval,), now_ms)
        effect, reasons = lifted.effect, lifted.reasons
    role = verdict.approval.role if verdict.approval else ""
    return Answer(effect, verdict.effect, verdict.decided, verdict.rules, reasons, role)


def fitting_approval(action: Action, version: str, role: str, need: int, now_ms: int) -> Approval:
    """An approval of exactly this action by `need` people of the role."""
    people = [f"approver-{index + 1}" for index in range(need)]
    return Approval(
        approval_id="fitting",
        action_id=action.action_id,
        action_digest=action_digest(action, version),
        policy_version=version,
        state=ApprovalState.APPROVED,
        requester=action.requester,
        role=role,
        need=need,
        requested_ms=now_ms,
        expires_ms=now_ms + 1000,
        votes=tuple(Vote(person, (role,), True, now_ms) for person in people),
    )


def situation_json(situation: Situation, said: Answer) -> dict[str, Json]:
    """The situation in the form that `loop4 policy explain` reads, with the verdict."""
    action = situation.action
    return {
        "action": {
            "tool": action.tool,
            "service": action.service,
            "environment": action.environment,
            "agent": action.agent,
            "requester": action.requester,
            "requester_kind": str(action.requester_kind),
            "arguments": dict(action.arguments),
            "facts": {
                name: {"value": fact.value, "age_ms": situation.now_ms - fact.at_ms}
                for name, fact in sorted(situation.facts.items())
            },
        },
        "mode": "bound" if situation.mode is None else str(situation.mode),
        "has_executor": situation.has_executor,
        "is_approved": situation.is_approved,
        "effect": str(said.effect),
        "rules": list(said.rules),
        "reasons": list(said.reasons),
    }


def tell(situation: Situation, policy: Policy, named: frozenset[str] = frozenset()) -> str:
    """The situation in the operator's words: who asks for what, and which facts matter.

    Facts at their safe value are left out unless they are `named`.
    """
    action = situation.action
    who = f"agent {action.agent}" if action.requester_kind == "agent" else "a person"
    service = "any service" if action.service == OTHER else f"service {action.service}"
    environment = action.environment.replace(OTHER, "an environment that no rule names")
    parts = [
        f"{who} asks for {action.tool} on {service} in {environment} ({_mode(situation.mode)})"
    ]
    parts += _facts(situation, policy, named)
    if not situation.has_executor:
        parts.append("the tool has no executor")
    if situation.is_approved:
        parts.append("a fitting approval is there")
    return "; ".join(parts)


def with_unit(name: str, value: FactScalar, schema: FactSchema | None = None) -> str:
    """A fact's value as people write it: 2501 bp (25.01 %), 300 s, yes, none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or (schema is not None and schema.type is not FactType.INT):
        return str(value)
    unit = name.rsplit("_", 1)[-1]
    if unit == "bp":
        return f"{value} bp ({value / 100:.2f} %)"
    return f"{value} {_UNITS[unit]}" if unit in _UNITS else str(value)


def _mode(mode: Mode | None) -> str:
    return "as bound" if mode is None else f"mode {mode}"


def _facts(situation: Situation, policy: Policy, named: frozenset[str]) -> list[str]:
    tool = policy.tools.get(situation.action.tool)
    if tool is None:
        return ["no such tool is declared"]
    told = []
    for name in tool.facts:
        schema = policy.facts[name]
        fault = schema.fault(situation.facts, situation.now_ms)
        if fault:
            told.append(fault)
            continue
        value = situation.facts[name].value
        if value != schema.safe or name in named:
            told.append(f"{name} is {with_unit(name, value, schema)}")
    return told or ["every fact is at its safe value"]
