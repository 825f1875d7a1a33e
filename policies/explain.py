"""Why the gate says what it says of one action: what matched, what nearly did, what would lift it.

Everything told here was asked of the real gate; nothing is derived beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from loop4.domain import (
    Action,
    ApprovalNeed,
    Effect,
    Fact,
    FactScalar,
    Json,
    RequesterKind,
    Verdict,
)
from loop4.policies.cases import under
from loop4.policies.evaluate import conjuncts, holds
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.gate import judge
from loop4.policies.policy import Policy
from loop4.policies.rules import LATTICE, Rule
from loop4.policies.situation import Situation, with_unit
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary, names, unparse

_MOST_CHANGED = 2  # facts that a suggestion changes at once
_MOST_SUGGESTED = 5
_NOT_SUGGESTED = ("environment",)  # another environment is another action


@dataclass(frozen=True, slots=True)
class RuleNote:
    """One rule and the parts of its condition with the values that decided them."""

    rule_id: str
    effect: Effect
    reason: str
    because: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "rule": self.rule_id,
            "effect": str(self.effect),
            "reason": self.reason,
            "because": list(self.because),
        }


@dataclass(frozen=True, slots=True)
class Lift:
    """The fewest facts that would have to be otherwise for a milder effect."""

    effect: Effect
    facts: Mapping[str, FactScalar]
    sentence: str

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "effect": str(self.effect),
            "facts": dict(self.facts),
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict with everything that explains it. `asks` is who could approve, None = nobody."""

    verdict: Verdict
    matched: tuple[RuleNote, ...]
    nearly: tuple[RuleNote, ...]
    lifts: tuple[Lift, ...]
    asks: ApprovalNeed | None

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        verdict = self.verdict
        need = self.asks
        return {
            "effect": str(verdict.effect),
            "decided": str(verdict.decided),
            "mode": str(verdict.mode),
            "reasons": list(verdict.reasons),
            "matched": [note.to_json() for note in self.matched],
            "nearly_matched": [note.to_json() for note in self.nearly],
            "lifts": [lift.to_json() for lift in self.lifts],
            "approval": None
            if need is None
            else {"role": need.role, "need": need.need, "ttl_s": need.ttl_s},
            "escalate_to": verdict.escalate_to,
            "obligations": dict(verdict.obligations),
            "policy_version": verdict.policy_version,
        }


def explain(situation: Situation, policy: Policy) -> Explanation:
    """The explanation of one action under the policy's own bindings, or the situation's mode."""
    viewed = under(policy, situation.mode, situation.has_executor)
    action, facts = situation.action, situation.facts
    verdict = judge(action, facts, viewed, (), situation.now_ms)
    rules = {rule.rule_id: rule for rule in policy.rules}
    values = _values(action, facts, viewed, situation.now_ms)
    return Explanation(
        verdict=verdict,
        matched=tuple(_note(rules[name], values, viewed, wanted=True) for name in verdict.rules),
        nearly=tuple(_nearly(action, values, viewed, frozenset(verdict.rules))),
        lifts=tuple(_lifts(situation, viewed, verdict)),
        asks=verdict.approval,
    )


def _values(
    action: Action, facts: Mapping[str, Fact], policy: Policy, now_ms: int
) -> dict[str, FactScalar]:
    """The facts that can be used, by name."""
    return {
        name: facts[name].value
        for name in policy.facts_of(action.tool)
        if not policy.facts[name].fault(facts, now_ms)
    }


def _nearly(
    action: Action, values: Mapping[str, FactScalar], policy: Policy, matched: frozenset[str]
) -> Iterator[RuleNote]:
    """Rules that cover the action and of whose condition exactly one part does not hold."""
    for rule in policy.rules:
        if rule.rule_id in matched or not rule.match.covers(
            action.tool, action.agent, action.environment, action.service
        ):
            continue
        failed = [part for part in _parts(rule) if not _holds(part, values)]
        if len(failed) == 1 and names(failed[0]) <= values.keys():
            yield _note(rule, values, policy, wanted=False)


def _parts(rule: Rule) -> list[Tree]:
    parts = list(conjuncts(rule.when))
    if rule.match.tiers is not None:
        tiers = tuple(Constant(tier, 0) for tier in sorted(rule.match.tiers))
        parts.append(Binary("in", Name("tier", 0), ListOf(tiers, 0), 0))
    return parts


def _holds(part: Tree, values: Mapping[str, FactScalar]) -> bool:
    return names(part) <= values.keys() and holds(part, values)


def _note(
    rule: Rule, values: Mapping[str, FactScalar], policy: Policy, *, wanted: bool
) -> RuleNote:
    """The rule with those parts that hold (`wanted`) or do not, each with the values in it."""
    because = []
    for part in _parts(rule):
        if _holds(part, values) is wanted:
            found = ", ".join(
                f"{name} is {with_unit(name, values[name], policy.facts[name])}"
                for name in sorted(names(part))
            )
            because.append(f"{unparse(part)} ({found})" if found else unparse(part))
    return RuleNote(rule.rule_id, rule.effect, rule.reason, tuple(because) or ("always",))


def _lifts(situation: Situation, policy: Policy, verdict: Verdict) -> Iterator[Lift]:
    """For each milder effect the nearest ways to it, one fact if one is enough, else two."""
    plan_facts = [
        name for name in policy.facts_of(situation.action.tool) if name not in _NOT_SUGGESTED
    ]
    if verdict.effect is Effect.ALLOW or not plan_facts:
        return
    moves = {name: _candidates(name, situation, policy) for name in plan_facts}
    found: dict[Effect, list[Lift]] = {}
    for count in range(1, _MOST_CHANGED + 1):
        for chosen in combinations(plan_facts, count):
            for effect, lift in _ways(chosen, moves, situation, policy, verdict.effect):
                lifts = found.setdefault(effect, [])
                if all(len(lift.facts) <= len(known.facts) for known in lifts):
                    lifts.append(lift)
        if Effect.ALLOW in found:
            break
    for effect in sorted(found, key=LATTICE.index, reverse=True):
        yield from found[effect][:_MOST_SUGGESTED]


def _ways(
    chosen: Sequence[str],
    moves: Mapping[str, Sequence[FactScalar]],
    situation: Situation,
    policy: Policy,
    now: Effect,
) -> Iterator[tuple[Effect, Lift]]:
    """The first (nearest) values of the chosen facts that lead to each milder effect."""
    seen: set[Effect] = set()
    for values in _products([moves[name] for name in chosen]):
        facts = dict(zip(chosen, values, strict=True))
        moved = _moved(situation, facts, policy)
        effect = judge(moved.action, moved.facts, policy, (), moved.now_ms).effect
        if LATTICE.index(effect) > LATTICE.index(now) and effect not in seen:
            seen.add(effect)
            told = " and ".join(
                f"{name} were {with_unit(name, value, policy.facts[name])}"
                for name, value in facts.items()
            )
            yield effect, Lift(effect, facts, f"{effect} if {told}")


def _products(moves: Sequence[Sequence[FactScalar]]) -> Iterator[tuple[FactScalar, ...]]:
    if not moves:
        yield ()
        return
    for value in moves[0]:
        for rest in _products(moves[1:]):
            yield (value, *rest)


def _moved(situation: Situation, values: Mapping[str, FactScalar], policy: Policy) -> Situation:
    facts = dict(situation.facts)
    action = situation.action
    for name, value in values.items():
        facts[name] = Fact(value, situation.now_ms, policy.facts[name].source)
        if name == "requester_kind":
            action = replace(action, requester_kind=RequesterKind(str(value)))
    return replace(situation, action=action, facts=facts)


def _candidates(name: str, situation: Situation, policy: Policy) -> Sequence[FactScalar]:
    """Other values of a fact at which some rule of the tool may turn, nearest first."""
    schema = policy.facts[name]
    usable = not schema.fault(situation.facts, situation.now_ms)
    value = situation.facts[name].value if usable else None
    if schema.type is FactType.BOOL:
        return [word for word in (True, False) if word is not value]
    if schema.type is FactType.ENUM:
        return [word for word in schema.values if word != value]
    turning = {int(schema.safe), schema.low, schema.high} if not usable else set()
    for rule in policy.rules:
        if situation.action.tool in rule.match.tools and rule.when is not None:
            turning |= set(_turning(rule.when, name, situation, policy.facts))
    near = int(value) if isinstance(value, int) else int(schema.safe)
    inside = {number for number in turning if schema.low <= number <= schema.high}
    if isinstance(value, int):
        inside.discard(value)
    return sorted(inside, key=lambda number: (abs(number - near), number))


def _turning(
    tree: Tree, name: str, situation: Situation, schemas: Mapping[str, FactSchema]
) -> Iterator[int]:
    """Numbers that the fact is compared with, and their neighbours."""
    if isinstance(tree, Unary):
        yield from _turning(tree.operand, name, situation, schemas)
    if not isinstance(tree, Binary):
        return
    for side, other in ((tree.left, tree.right), (tree.right, tree.left)):
        if name not in names(side):
            continue
        for number in _numbers(other, situation):
            yield from (number - 1, number, number + 1)
    yield from _turning(tree.left, name, situation, schemas)
    yield from _turning(tree.right, name, situation, schemas)


def _numbers(tree: Tree, situation: Situation) -> Iterator[int]:
    if isinstance(tree, Constant) and type(tree.value) is int:
        yield tree.value
    if isinstance(tree, ListOf):
        for constant in tree.values:
            yield from _numbers(constant, situation)
    if isinstance(tree, Name) and tree.name in situation.facts:
        value = situation.facts[tree.name].value
        if type(value) is int:
            yield value
