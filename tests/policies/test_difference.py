"""What a change of rules means, with an example that the gate judges so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from loop4.domain import Effect, Mode
from loop4.policies.cel import parse
from loop4.policies.difference import Difference, compare
from loop4.policies.load import with_rules
from loop4.policies.mutate import mutants
from loop4.policies.policy import Policy
from loop4.policies.rules import Binding
from loop4.policies.situation import answer
from tests.policies.broken_promises import changed, rule_of


def edited(policy: Policy, rule_id: str, when: str) -> Policy:
    return changed(policy, rule_id, replace(rule_of(policy, rule_id), when=parse(when)))


def kinds(found: Difference) -> set[tuple[str, str]]:
    return {(change.tool, change.heading) for change in found.changes}


def test_the_same_rules_mean_the_same(shipped: Policy) -> None:
    found = compare(shipped, with_rules(shipped, shipped.rules, shipped.bindings))
    assert found == Difference((), (), (), ())


def test_another_way_to_write_a_rule_is_no_change_of_meaning(shipped: Policy) -> None:
    rewritten = edited(shipped, "wide-blast-radius", "!(facts.traffic_share_bp <= 2500)")
    found = compare(shipped, rewritten)
    assert found.changes == ()
    assert found.edited == ("wide-blast-radius",)


def test_a_wider_limit_newly_allows_exactly_what_lies_between(shipped: Policy) -> None:
    found = compare(shipped, edited(shipped, "wide-blast-radius", "facts.traffic_share_bp > 3000"))
    assert ("workloads.restart", "newly allowed") in kinds(found)
    assert {heading for _, heading in kinds(found)} <= {"newly allowed"}
    for change in found.changes:
        share = change.situation.facts["traffic_share_bp"].value
        assert share == 2501  # the nearest that shows it
        assert answer(change.situation, shipped).effect is change.was
        assert "2501 bp (25.01 %)" in change.sentence


def test_a_rule_that_is_gone_newly_blocks(shipped: Policy) -> None:
    found = compare(shipped, changed(shipped, "kill-switch", None))
    assert found.removed == ("kill-switch",)
    (change,) = (c for c in found.changes if c.was is Effect.ALLOW)
    assert (change.tool, change.heading) == ("flags.set_variant", "newly blocked")
    assert change.before.rules == ("kill-switch",)
    assert change.after.rules == ()


def test_an_approval_in_place_of_a_denial_is_told_as_such(
    shipped: Policy, load_rules: Callable[[str], Policy]
) -> None:
    rule = "- id: a\n  match: {tools: [code.patch]}\n  effect: {effect}\n"
    asks = "approval: {role: on-call, need: 1, ttl_s: 900}"
    old = load_rules(rule.replace("{effect}", "deny"))
    new = load_rules(rule.replace("{effect}", "require_approval") + f"  {asks}\n")
    assert kinds(compare(old, new)) == {("code.patch", "newly needs approval")}


def test_bindings_are_looked_at_when_asked_for(shipped: Policy) -> None:
    new = edited(shipped, "wide-blast-radius", "facts.traffic_share_bp > 3000")
    bound = with_rules(shipped, shipped.rules, [Binding("all", Mode.SUGGEST)])
    bound_new = with_rules(new, new.rules, [Binding("all", Mode.SUGGEST)])
    # under `suggest` every write is asked for, whatever the limit
    assert compare(bound, bound_new, by_bindings=True).changes == ()
    assert compare(bound, bound_new).changes != ()


def test_every_change_of_every_mutant_is_confirmed_by_the_gate(shipped: Policy) -> None:
    # compare raises if the gate does not give the two effects that the model found
    found = 0
    for mutant in list(mutants(shipped))[::41]:
        found += bool(compare(shipped, changed(shipped, mutant.rule_id, mutant.rule)).changes)
    assert found > 8
