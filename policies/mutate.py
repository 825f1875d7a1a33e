"""Wrong versions of the loaded rules, to find out whether the cases would notice.

Each mutant is one rule with one small fault: an operator flipped, a bound moved by one, a word
swapped, a `!` put in or taken out, the rule dropped, its effect swapped, a field of its match or a
tool dropped, its approval, escalation or obligation altered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loop4.domain import ApprovalNeed, Effect
from loop4.policies.cases import Case, first_failure
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.load import with_rules
from loop4.policies.policy import Policy
from loop4.policies.rules import ESCALATION_ROLES, ROLES, Match, Rule
from loop4.policies.tree import (
    Binary,
    BinaryOperator,
    Constant,
    ListOf,
    Name,
    Tree,
    Unary,
    names,
    unparse,
)

_FLIPS: Mapping[BinaryOperator, tuple[BinaryOperator, ...]] = {
    "&&": ("||",), "||": ("&&",), "==": ("!=",), "!=": ("==",),
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="),
    "+": ("-",), "-": ("+",), "in": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: which rule, what was done to it, and the rule as it is then (None = dropped)."""

    rule_id: str
    change: str
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no case noticed."""

    rule_id: str
    change: str


def mutants(policy: Policy) -> Iterator[Mutant]:
    """All mutants of all rules."""
    for rule in policy.rules:
        yield Mutant(rule.rule_id, "rule dropped", None)
        for change, changed in _of_rule(rule, policy):
            yield Mutant(rule.rule_id, change, changed)


def survivors(policy: Policy, cases: Sequence[Case]) -> tuple[int, tuple[Survivor, ...]]:
    """How many mutants were tried, and those under which every case still passes.

    Only cases on tools that the rule matches, before or after, can tell; those that name the rule
    run first.
    """
    found, tried = [], 0
    for mutant in mutants(policy):
        tried += 1
        original = next(rule for rule in policy.rules if rule.rule_id == mutant.rule_id)
        rules = [rule for rule in policy.rules if rule is not original]
        rules += [mutant.rule] if mutant.rule else []
        tools = original.match.tools | (mutant.rule.match.tools if mutant.rule else frozenset())
        telling = [case for case in cases if case.tool in tools]
        telling.sort(key=lambda case: _distance(case, mutant))
        if first_failure(telling, with_rules(policy, rules, policy.bindings)) is None:
            found.append(Survivor(mutant.rule_id, mutant.change))
    return tried, tuple(found)


def _distance(case: Case, mutant: Mutant) -> int:
    """0 for a case that names the rule; 1 for one with an exact list of rules; else 2."""
    if mutant.rule_id in (*(case.expected.rules or ()), *case.expected.includes):
        return 0
    return 1 if case.expected.rules is not None else 2


def _of_rule(rule: Rule, policy: Policy) -> Iterator[tuple[str, Rule]]:
    if rule.when is not None:
        yield "condition dropped", replace(rule, when=None)
        for tree in _of_tree(rule.when, policy.facts):
            yield f"when: {unparse(tree)}", replace(rule, when=tree)
    for effect in Effect:
        if effect is not rule.effect:
            yield f"effect: {effect}", _with_effect(rule, effect)
    for change, match in _of_match(rule, policy):
        yield change, replace(rule, match=match)
    if rule.approval is not None:
        for need in _of_need(rule.approval):
            yield f"approval: {need.need} {need.role} {need.ttl_s} s", replace(rule, approval=need)
    if rule.escalate_to:
        other = next(role for role in ESCALATION_ROLES if role != rule.escalate_to)
        yield f"escalate to {other}", replace(rule, escalate_to=other)
    for name, value in rule.obligations.items():
        for moved in (value - 1, value + 1):
            changed = {**rule.obligations, name: moved}
            yield f"obligations: {name} {moved}", replace(rule, obligations=changed)
    if rule.obligations:
        yield "obligations dropped", replace(rule, obligations={})


def _with_effect(rule: Rule, effect: Effect) -> Rule:
    need = ApprovalNeed("on-call", 1, 900) if effect is Effect.REQUIRE_APPROVAL else None
    role = "on-call" if effect is Effect.ESCALATE else ""
    return replace(rule, effect=effect, approval=need, escalate_to=role)


def _of_match(rule: Rule, policy: Policy) -> Iterator[tuple[str, Match]]:
    """Each field dropped (the tools widen to all that declare the rule's facts), each tool lost."""
    match = rule.match
    wanted = set(names(rule.when)) if rule.when is not None else set()
    if match.tiers is not None:
        wanted.add("tier")
        yield "match: tier dropped", replace(match, tiers=None)
    if match.agents is not None:
        yield "match: agent dropped", replace(match, agents=None)
    if match.environments is not None:
        yield "match: environment dropped", replace(match, environments=None)
    if match.services is not None:
        yield "match: service dropped", replace(match, services=None)
    widened = frozenset(name for name, tool in policy.tools.items() if wanted <= set(tool.facts))
    if widened != match.tools:
        yield "match: tools and class dropped", replace(match, tools=widened)
    if len(match.tools) > 1:
        for tool in sorted(match.tools):
            yield f"match: without {tool}", replace(match, tools=match.tools - {tool})


def _of_need(need: ApprovalNeed) -> Iterator[ApprovalNeed]:
    yield replace(need, role=next(role for role in ROLES if role != need.role))
    yield replace(need, need=need.need + 1)
    yield replace(need, ttl_s=need.ttl_s + 1)
    yield replace(need, ttl_s=need.ttl_s - 1)


def _of_tree(tree: Tree, facts: Mapping[str, FactSchema]) -> Iterator[Tree]:
    """Every tree that differs in one place and still has its types."""
    if isinstance(tree, Name) and facts[tree.name].type is FactType.BOOL:
        yield Unary("!", tree, tree.offset)
    if isinstance(tree, Constant):
        yield from _of_constant(tree)
    if isinstance(tree, Unary):
        yield tree.operand
        if not isinstance(tree.operand, Name):
            for operand in _of_tree(tree.operand, facts):
                yield replace(tree, operand=operand)
    if isinstance(tree, Binary):
        yield from _of_binary(tree, facts)


def _of_constant(tree: Constant) -> Iterator[Tree]:
    if isinstance(tree.value, bool):
        yield replace(tree, value=not tree.value)
    elif isinstance(tree.value, int):
        yield replace(tree, value=tree.value + 1)
        yield replace(tree, value=tree.value - 1)


def _of_binary(tree: Binary, facts: Mapping[str, FactSchema]) -> Iterator[Tree]:
    for operator in _FLIPS[tree.operator]:
        yield replace(tree, operator=operator)
    if tree.operator in ("&&", "||"):
        yield tree.left
        yield tree.right
    if tree.operator == "in":
        yield Unary("!", tree, tree.offset)
    for left in _of_tree(tree.left, facts):
        yield replace(tree, left=left)
    for right in _of_tree(tree.right, facts):
        yield replace(tree, right=right)
    yield from _of_words(tree, facts)


def _of_words(tree: Binary, facts: Mapping[str, FactSchema]) -> Iterator[Tree]:
    """An enum compared with each other word; a list with each word left out or put in."""
    if not isinstance(tree.left, Name):
        return
    words = facts[tree.left.name].values
    if isinstance(tree.right, Constant):
        for word in words:
            if word != tree.right.value:
                yield replace(tree, right=replace(tree.right, value=word))
    if isinstance(tree.right, ListOf):
        present = {value.value for value in tree.right.values}
        for word in (word for word in words if word not in present):
            longer = (*tree.right.values, Constant(word, tree.right.offset))
            yield replace(tree, right=replace(tree.right, values=longer))
        for value in tree.right.values if len(tree.right.values) > 1 else ():
            shorter = tuple(other for other in tree.right.values if other is not value)
            yield replace(tree, right=replace(tree.right, values=shorter))
