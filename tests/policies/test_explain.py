"""Why the gate says what it says; everything told is asked of the gate again here."""

from __future__ import annotations

import random
from dataclasses import replace

from loop4.domain import Effect, Fact, FactScalar, Mode, RequesterKind
from loop4.policies.cases import NOW_MS, safe_action, safe_facts, under
from loop4.policies.explain import explain
from loop4.policies.gate import judge
from loop4.policies.policy import Policy
from loop4.policies.situation import Situation
from tests.policies.situations import random_situation


def situation(policy: Policy, tool: str, **values: FactScalar) -> Situation:
    facts = safe_facts(policy, tool)
    for name, value in values.items():
        facts[name] = replace(facts[name], value=value)
    return Situation(safe_action(policy, tool, facts), facts)


def test_each_matched_rule_is_told_with_the_values_that_decided(shipped: Policy) -> None:
    found = explain(situation(shipped, "workloads.restart", traffic_share_bp=5000), shipped)
    assert [note.rule_id for note in found.matched] == [
        "wide-blast-radius", "restart-within-budget",
    ]  # fmt: skip
    assert found.matched[0].because == (
        "facts.traffic_share_bp > 2500 (traffic_share_bp is 5000 bp (50.00 %))",
    )
    assert found.asks is not None
    assert found.asks.role == "on-call"


def test_a_rule_that_fails_by_one_part_nearly_matched(shipped: Policy) -> None:
    found = explain(situation(shipped, "workloads.restart", restarts_1h=3), shipped)
    nearly = {note.rule_id: note.because for note in found.nearly}
    assert nearly["restart-within-budget"] == (
        "facts.restarts_1h < facts.restart_budget_1h (restart_budget_1h is 3, restarts_1h is 3)",
    )
    assert "restart-over-budget" not in nearly  # it matched
    assert "read-in-scope" not in nearly  # it is about other tools


def test_the_smallest_changes_that_would_lift_it_are_told(shipped: Policy) -> None:
    found = explain(situation(shipped, "workloads.restart", restarts_1h=3), shipped)
    assert found.verdict.effect is Effect.ESCALATE
    told = {(lift.effect, tuple(lift.facts.items())) for lift in found.lifts}
    assert (Effect.ALLOW, (("restarts_1h", 2),)) in told
    assert (Effect.ALLOW, (("restart_budget_1h", 4),)) in told
    assert (Effect.REQUIRE_APPROVAL, (("requester_kind", "person"),)) in told


def test_nothing_lifts_what_the_fleet_never_does(shipped: Policy) -> None:
    found = explain(situation(shipped, "code.patch"), shipped)
    assert found.verdict.effect is Effect.DENY
    assert found.lifts == ()
    assert found.asks is None


def test_a_missing_fact_is_told_and_would_lift_the_denial(shipped: Policy) -> None:
    given = situation(shipped, "workloads.restart")
    facts = {name: fact for name, fact in given.facts.items() if name != "tier"}
    found = explain(replace(given, facts=facts), shipped)
    assert found.verdict.reasons == ("fact 'tier' is missing",)
    assert {tuple(lift.facts) for lift in found.lifts} == {("tier",)}


def test_every_lift_is_what_the_gate_then_says(shipped: Policy) -> None:
    draw, looked = random.Random(31), 0  # noqa: S311  (reproducible situations)
    for tool in [*shipped.tools] * 2:
        given = random_situation(shipped, tool, draw)
        found = explain(given, shipped)
        viewed = under(shipped, given.mode, given.has_executor)
        assert found.verdict == judge(given.action, given.facts, viewed, (), NOW_MS)
        for lift in found.lifts:
            looked += 1
            facts, action = dict(given.facts), given.action
            for name, value in lift.facts.items():
                facts[name] = Fact(value, NOW_MS, "test")
                if name == "requester_kind":
                    action = replace(action, requester_kind=RequesterKind(str(value)))
            assert judge(action, facts, viewed, (), NOW_MS).effect is lift.effect, (given, lift)
    assert looked > 5


def test_the_bindings_are_part_of_the_answer(shipped: Policy) -> None:
    given = situation(shipped, "workloads.restart", environment="production")
    assert explain(replace(given, mode=None), shipped).verdict.mode is Mode.SUGGEST
    assert explain(replace(given, mode=Mode.ACT), shipped).verdict.effect is Effect.ALLOW
