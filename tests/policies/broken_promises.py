"""Rule mutants against invariants: each that breaks a promise is shown on the real gate."""

from __future__ import annotations

from collections.abc import Iterator

from loop4.policies.invariants import Invariant
from loop4.policies.load import with_rules
from loop4.policies.mutate import Mutant, mutants
from loop4.policies.policy import Policy
from loop4.policies.proof import Counterexample, Proof, Status, breaks
from loop4.policies.prove import Prover
from loop4.policies.rules import Rule
from loop4.policies.situation import answer


def changed(policy: Policy, rule_id: str, rule: Rule | None) -> Policy:
    rules = [r for r in policy.rules if r.rule_id != rule_id]
    return with_rules(policy, [*rules, rule] if rule else rules, policy.bindings)


def rule_of(policy: Policy, rule_id: str) -> Rule:
    return next(rule for rule in policy.rules if rule.rule_id == rule_id)


def confirmed(invariant: Invariant, example: Counterexample, policy: Policy) -> bool:
    """The real gate, asked again from the situation alone, breaks the promise."""
    said = answer(example.situation, policy)
    other = answer(example.other, policy) if example.other is not None else None
    return said == example.answer and breaks(invariant, said, other)


def broken_by(
    policy: Policy, mutant: Mutant, invariants: tuple[Invariant, ...]
) -> Iterator[tuple[Invariant, Proof, Policy]]:
    """Every invariant that the mutant may concern, proved over the mutated rules."""
    original = rule_of(policy, mutant.rule_id)
    tools = original.match.tools | (mutant.rule.match.tools if mutant.rule else frozenset())
    mutated = changed(policy, mutant.rule_id, mutant.rule)
    prover = Prover(mutated)
    for invariant in invariants:
        if invariant.match.tools & tools and invariant.broken is None:
            yield invariant, prover.prove(invariant), mutated


def check_mutants(policy: Policy, invariants: tuple[Invariant, ...], step: int) -> tuple[int, int]:
    """How many mutants were tried and how many break a promise; each break is confirmed."""
    tried = caught = 0
    for mutant in list(mutants(policy))[::step]:
        tried += 1
        broken = False
        for invariant, proof, mutated in broken_by(policy, mutant, invariants):
            assert proof.status is not Status.UNKNOWN, (mutant, proof)
            if proof.status is Status.VIOLATED:
                broken = True
                assert proof.counterexample is not None
                assert confirmed(invariant, proof.counterexample, mutated), (mutant, proof)
        caught += broken
    return tried, caught
