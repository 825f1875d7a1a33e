"""The z3 model of the gate against the gate itself, and both against a plain interpreter."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from loop4.domain import Effect, Fact, FactScalar, Mode
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.evaluate import holds
from loop4.policies.gate import judge
from loop4.policies.load import with_rules
from loop4.policies.policy import Policy
from loop4.policies.rules import LATTICE, Binding, Match, Rule
from loop4.policies.situation import Situation, answer
from loop4.policies.tree import Tree
from tests.policies.conditions import conditions
from tests.policies.situations import Asked, random_situation

# The values at which a core rule turns, per fact; a fact that is not here stays at its safe value.
CLASSES: dict[str, tuple[FactScalar, ...]] = {
    "traffic_share_bp": (2500, 2501),
    "requester_kind": ("agent", "person"),
    "runbook_match": ("none", "typed"),
    "evidence_sources": (1, 2),
    "failed_remediations": (2, 3),
    "service_known": (True, False),
    "context_complete": (True, False),
    "fleet_paused": (True, False),
    "deploy_frozen": (True, False),
    "forward_change": (True, False),
}
OWN: dict[str, dict[str, tuple[FactScalar, ...]]] = {
    "workloads.restart": {"restarts_1h": (2, 3)},
    "workloads.scale": {"replicas_after": (1, 2, 6, 7)},
    "deployments.roll_back": {"known_good": (True, False)},
    "flags.set_variant": {},
    "chaos.run": {
        "environment": ("production", "staging"),
        "staging_passed": (True, False),
        "incident_open": (True, False),
    },
}


def test_the_model_says_what_the_gate_says_on_random_situations(shipped: Policy) -> None:
    asked, draw = Asked(shipped), random.Random(17)  # noqa: S311  (reproducible situations)
    effects = set()
    for tool in itertools.islice(itertools.cycle(sorted(shipped.tools)), 300):
        situation = random_situation(shipped, tool, draw)
        said = answer(situation, shipped)
        found = asked.effects(situation)
        assert found == (said.decided, said.before_approvals, said.effect), (situation, said)
        effects.add(found)
    assert {decided for decided, _, _ in effects} == set(Effect)


def classes(policy: Policy, tool: str) -> Iterator[Situation]:
    """One situation for each combination of the boundary values."""
    values = {**CLASSES, **OWN[tool]}
    safe = safe_facts(policy, tool)
    for chosen in itertools.product(*values.values()):
        facts = dict(safe)
        for name, value in zip(values, chosen, strict=True):
            facts[name] = Fact(value, NOW_MS, safe[name].source)
        yield Situation(safe_action(policy, tool, facts), facts)


def interpreted(policy: Policy, situation: Situation) -> tuple[Effect, tuple[str, ...]]:
    """The verdict by the plain reading of every rule: nothing compiled, nothing shared."""
    action = situation.action
    values = {name: fact.value for name, fact in situation.facts.items()}
    matched = [
        rule
        for rule in policy.rules
        if rule.match.covers(action.tool, action.agent, action.environment, action.service)
        and holds(rule.when, values)
    ]
    matched.sort(key=lambda rule: (LATTICE.index(rule.effect), rule.rule_id))
    effect = matched[0].effect if matched else Effect.DENY
    return effect, tuple(rule.rule_id for rule in matched)


@pytest.mark.parametrize("tool", sorted(OWN))
def test_gate_and_interpreter_agree_on_every_class(acting: Policy, tool: str) -> None:
    count = 0
    for situation in classes(acting, tool):
        verdict = judge(situation.action, situation.facts, acting, (), NOW_MS)
        assert (verdict.decided, verdict.rules) == interpreted(acting, situation), situation
        count += 1
    assert count == 1024 * math.prod(map(len, OWN[tool].values()))


@pytest.mark.parametrize("tool", sorted(OWN))
def test_model_and_interpreter_agree_on_classes(acting: Policy, tool: str) -> None:
    asked = Asked(acting)
    for situation in itertools.islice(classes(acting, tool), 0, None, 29):
        decided, _, _ = asked.effects(situation)
        assert decided is interpreted(acting, situation)[0], situation


@given(st.lists(conditions, min_size=1, max_size=20), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_any_condition_means_the_same_to_the_solver_the_interpreter_and_the_gate(
    acting: Policy, trees: list[Tree], seed: int
) -> None:
    match = Match(frozenset(("code.patch",)))
    rules = [
        Rule(f"r-{index:02}", match, tree, Effect.ALLOW, "r") for index, tree in enumerate(trees)
    ]
    policy = with_rules(acting, rules, acting.bindings)
    asked, draw = Asked(policy), random.Random(seed)  # noqa: S311
    for _ in range(3):
        found = random_situation(policy, "code.patch", draw)
        verdict = judge(found.action, found.facts, policy, (), NOW_MS)
        if verdict.rules:  # else a fact cannot be used, or nothing matches
            assert verdict.rules == interpreted(policy, found)[1] == asked.matched(found)
        elif verdict.reasons[0].startswith("no rule allows"):
            assert interpreted(policy, found)[1] == asked.matched(found) == ()


def test_the_model_reads_bindings_as_the_gate_does(shipped: Policy) -> None:
    bindings = [
        Binding("a", Mode.ACT, environments=frozenset(("lab", "production"))),
        Binding("b", Mode.SUGGEST, services=frozenset(("orders",))),
        Binding("c", Mode.OBSERVE, frozenset(("production",)), frozenset(("payments",))),
    ]
    policy = with_rules(shipped, shipped.rules, bindings)
    asked = Asked(policy)
    mode = asked.model.mode_of_bindings(frozenset(policy.tools))
    for tool, environment, service in itertools.product(
        ("workloads.restart", "oncall.page"),
        ("lab", "production", "staging"),
        ("orders", "payments"),
    ):
        symbols = asked.symbols
        found = z3.simplify(
            z3.substitute(
                mode,
                (symbols.tool, z3.IntVal(symbols.tool_index[tool])),
                (symbols.claims["environment"], z3.IntVal(symbols.words[environment])),
                (symbols.service, z3.IntVal(symbols.words[service])),
            )
        )
        expected = policy.mode_of(tool, environment, service)
        assert list(Mode)[found.as_long()] is expected, (tool, environment, service)


def test_the_model_notices_a_gate_with_another_rule(acting: Policy) -> None:
    fewer = with_rules(
        acting, [r for r in acting.rules if r.rule_id != "two-sources"], acting.bindings
    )
    asked = Asked(fewer)
    differing = sum(
        asked.effects(situation)[0] is not interpreted(acting, situation)[0]
        for situation in itertools.islice(classes(acting, "deployments.roll_back"), 0, None, 29)
    )
    assert differing > 0
