"""Rules that do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loop4.policies.difference import compare
from loop4.policies.lint import Fault, lint
from loop4.policies.load import with_rules
from loop4.policies.mutate import mutants
from loop4.policies.policy import Policy
from tests.policies.broken_promises import changed

ALLOW = "- id: allow\n  match: {tools: [flags.set_variant]}\n  effect: allow\n"
SAME = "- id: {id}\n  match: {tools: [flags.set_variant]}\n  when: {when}\n  effect: {effect}\n"
ASKS = "  approval: {role: {role}, need: 1, ttl_s: 900}\n"


def rule(name: str, when: str, effect: str, role: str = "") -> str:
    text = SAME.replace("{id}", name).replace("{when}", f"'{when}'").replace("{effect}", effect)
    return text + (ASKS.replace("{role}", role) if role else "")


def test_every_shipped_rule_decides_something(shipped: Policy) -> None:
    assert lint(shipped) == ()


@pytest.mark.parametrize(
    ("text", "rule_id", "fault", "because"),
    [
        (rule("dead", "facts.tier > 3", "allow"), "dead", Fault.NEVER_MATCHES, ()),
        (
            rule("dead", "facts.tier < 2 && facts.tier > 1", "deny") + ALLOW,
            "dead", Fault.NEVER_MATCHES, (),
        ),
        (
            rule("wide", "facts.tier > 1", "deny") + rule("narrow", "facts.tier > 2", "allow"),
            "narrow", Fault.SHADOWED, ("wide",),
        ),
        (
            ALLOW
            + rule("wide", "facts.tier > 1", "deny")
            + rule("narrow", "facts.tier > 2", "deny"),
            "narrow", Fault.REDUNDANT, ("wide",),
        ),
        (
            ALLOW + rule("a", "facts.tier > 1", "allow"), "a", Fault.REDUNDANT, ("allow",),
        ),
        (rule("lone", "facts.tier > 1", "deny"), "lone", Fault.REDUNDANT, ()),
    ],
)  # fmt: skip
def test_a_rule_that_does_nothing_is_named_with_what_decides(
    load_rules: Callable[[str], Policy],
    text: str,
    rule_id: str,
    fault: Fault,
    because: tuple[str, ...],
) -> None:
    found = {remark.rule_id: remark for remark in lint(load_rules(text))}
    assert found[rule_id].fault is fault
    assert found[rule_id].because == because
    assert rule_id in found[rule_id].sentence


def test_a_rule_that_asks_somebody_stronger_is_not_redundant(
    load_rules: Callable[[str], Policy],
) -> None:
    weak = rule("weak", "facts.tier > 1", "require_approval", "on-call")
    strong = rule("strong", "facts.tier > 2", "require_approval", "policy-author")
    assert lint(load_rules(ALLOW + weak + strong)) == ()
    also_weak = rule("strong", "facts.tier > 2", "require_approval", "on-call")
    (remark,) = lint(load_rules(ALLOW + weak + also_weak))
    assert (remark.rule_id, remark.fault) == ("strong", Fault.REDUNDANT)


def test_a_remark_means_that_nothing_changes_without_the_rule(shipped: Policy) -> None:
    looked = 0
    for mutant in list(mutants(shipped))[::37]:
        policy = changed(shipped, mutant.rule_id, mutant.rule)
        for remark in lint(policy):
            looked += 1
            rules = [r for r in policy.rules if r.rule_id != remark.rule_id]
            assert compare(policy, with_rules(policy, rules, policy.bindings)).changes == ()
    assert looked > 0
