"""The gate: deny by default, deny on doubt, the lattice, modes and executors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop4.domain import Action, ApprovalNeed, Effect, Fact, Mode, Severity, Verdict
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.facts import FactType
from loop4.policies.gate import judge
from loop4.policies.load import load_policy, with_rules
from loop4.policies.policy import Policy
from loop4.policies.rules import LATTICE, Binding, Rule

Load = Callable[[str], Policy]
RESTART = "workloads.restart"


def situation(policy: Policy, tool: str, **values: object) -> tuple[Action, dict[str, Fact]]:
    facts = safe_facts(policy, tool)
    for name, value in values.items():
        facts[name] = replace(facts[name], value=value)  # type: ignore[arg-type]  # bad on purpose
    return safe_action(policy, tool, facts), facts


def verdict_on(policy: Policy, tool: str, **values: object) -> Verdict:
    action, facts = situation(policy, tool, **values)
    return judge(action, facts, policy, (), NOW_MS)


def test_a_tool_the_policy_does_not_name_is_denied(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    verdict = judge(replace(action, tool="workloads.restrat"), facts, acting, (), NOW_MS)
    assert verdict.effect is verdict.decided is Effect.DENY
    assert verdict.reasons == (
        "unknown tool 'workloads.restrat'; did you mean 'workloads.restart'?",
    )


def test_an_action_that_no_rule_matches_is_denied(load_rules: Load) -> None:
    policy = load_rules("""
        - id: never-true
          match: {tools: [workloads.restart]}
          when: facts.fleet_paused
          effect: allow
        """)
    verdict = verdict_on(policy, RESTART)
    assert verdict.effect is Effect.DENY
    assert verdict.rules == ()
    assert "nothing matched means deny" in verdict.reasons[0]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        2.0,
        0.5,
        True,
        False,
        "2",
        None,
        -1,
        7,
        10**30,
        pytest.param(10**5000, id="enormous"),
        [2],
        {"a": 2},
        b"2",
        2 + 0j,
    ],
)
def test_a_number_that_is_no_integer_in_range_denies(acting: Policy, value: object) -> None:
    verdict = verdict_on(acting, RESTART, evidence_sources=value)
    assert verdict.effect is verdict.decided is Effect.DENY
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("fact 'evidence_sources' is ")


@pytest.mark.parametrize("value", [1, 0, 1.0, "true", "", None, math.nan, [True], "yes"])
def test_a_switch_that_is_no_boolean_denies(acting: Policy, value: object) -> None:
    verdict = verdict_on(acting, RESTART, service_known=value)
    assert verdict.effect is Effect.DENY
    assert "fact 'service_known' is " in verdict.reasons[0]


@pytest.mark.parametrize("value", ["prod", "LAB", "", None, 1, True, ["lab"], math.nan])
def test_a_word_that_was_not_declared_denies(acting: Policy, value: object) -> None:
    verdict = verdict_on(acting, RESTART, runbook_match=value)
    assert verdict.effect is Effect.DENY
    assert "expected one of none, typed" in verdict.reasons[0]


def test_a_word_may_come_as_a_member_of_an_enumeration(acting: Policy) -> None:
    assert verdict_on(acting, "oncall.page", severity=Severity.SEV1).effect is Effect.ALLOW


@pytest.mark.parametrize(
    ("age_ms", "effect"),
    [(60_000, Effect.ALLOW), (60_001, Effect.DENY), (-5_000, Effect.ALLOW), (-5_001, Effect.DENY)],
)
def test_a_fact_is_used_only_while_it_is_fresh(acting: Policy, age_ms: int, effect: Effect) -> None:
    action, facts = situation(acting, RESTART)
    facts["traffic_share_bp"] = Fact(0, NOW_MS - age_ms, "router")
    verdict = judge(action, facts, acting, (), NOW_MS)
    assert verdict.effect is effect
    if effect is Effect.DENY:
        assert "fact 'traffic_share_bp' is " in verdict.reasons[0]


@pytest.mark.parametrize("at_ms", [math.nan, None, "now", math.inf, -math.inf])
def test_a_fact_without_a_proper_time_denies(acting: Policy, at_ms: object) -> None:
    action, facts = situation(acting, RESTART)
    facts["traffic_share_bp"] = Fact(0, at_ms, "router")  # type: ignore[arg-type]  # on purpose
    verdict = judge(action, facts, acting, (), NOW_MS)
    assert verdict.effect is Effect.DENY
    assert "fact 'traffic_share_bp' has no time" in verdict.reasons[0]


def test_a_stale_fact_is_found_beside_fresh_ones_of_the_same_source(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    for name in acting.facts_of(RESTART):
        schema = acting.facts[name]
        stale = {**facts, name: replace(facts[name], at_ms=NOW_MS - schema.max_age_s * 1000 - 1)}
        verdict = judge(action, stale, acting, (), NOW_MS)
        assert verdict.effect is Effect.DENY
        assert f"fact {name!r} is stale" in verdict.reasons[0]


def test_facts_that_share_a_time_are_each_held_to_their_own_age(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    shared = NOW_MS - 100_000  # fresh for the catalogue, stale for the router
    old = {name: replace(fact, at_ms=shared) for name, fact in facts.items()}
    verdict = judge(action, old, acting, (), NOW_MS)
    late = {name for name in facts if acting.facts[name].max_age_s < 100}
    assert late
    assert late < set(facts)
    assert {reason.split("'")[1] for reason in verdict.reasons} == late


def test_a_bare_value_in_place_of_a_fact_denies(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    bare: dict[str, object] = {**facts, "fleet_paused": False}
    verdict = judge(action, bare, acting, (), NOW_MS)  # type: ignore[arg-type]  # on purpose
    assert verdict.effect is Effect.DENY
    assert verdict.reasons == ("fact 'fleet_paused' is a bare bool, without time and source",)


def test_every_fault_is_named(acting: Policy) -> None:
    action, facts = situation(acting, RESTART, tier=9)
    del facts["fleet_paused"]
    verdict = judge(action, facts, acting, (), NOW_MS)
    assert sorted(verdict.reasons) == [
        "fact 'fleet_paused' is missing",
        "fact 'tier' is 9 (int), expected an integer from 1 to 3",
    ]


def test_a_fact_that_the_tool_does_not_declare_is_not_looked_at(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    facts["cost_ratio_bp"] = Fact(-5, 0, "nowhere")
    assert judge(action, facts, acting, (), NOW_MS).effect is Effect.ALLOW


def test_the_action_cannot_claim_another_environment_or_requester(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    claimed = replace(action, environment="staging")
    assert judge(claimed, facts, acting, (), NOW_MS).reasons == (
        "the action says environment 'staging', the fact is 'lab'",
    )
    facts["requester_kind"] = Fact("person", NOW_MS, "session")
    assert judge(action, facts, acting, (), NOW_MS).reasons == (
        "the action says requester_kind 'agent', the fact is 'person'",
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"instance": "x"}, "argument 'restarted_at_ms' is missing"),
        ({"instance": "x", "restarted_at_ms": True}, "argument 'restarted_at_ms' is True"),
        ({"instance": "x", "restarted_at_ms": 1.0}, "argument 'restarted_at_ms' is 1.0"),
        ({"instance": 5, "restarted_at_ms": 1}, "argument 'instance' is 5 (int), expected string"),
        ({"instance": "x", "restarted_at_ms": 1, "force": True}, "argument 'force' is not"),
    ],
)
def test_arguments_are_exactly_those_that_were_declared(
    acting: Policy, arguments: dict[str, object], reason: str
) -> None:
    action, facts = situation(acting, RESTART)
    changed = replace(action, arguments=arguments)  # type: ignore[arg-type]  # on purpose
    verdict = judge(changed, facts, acting, (), NOW_MS)
    assert verdict.effect is Effect.DENY
    assert verdict.reasons[0].startswith(reason)


def test_a_reason_tells_the_numbers(acting: Policy) -> None:
    first = verdict_on(acting, RESTART, traffic_share_bp=2600)
    second = verdict_on(acting, RESTART, traffic_share_bp=5000)
    assert first.reasons == ("touches 2600 bp of traffic; the limit is 2500",)
    assert second.reasons == ("touches 5000 bp of traffic; the limit is 2500",)


def test_observe_decides_and_does_nothing(shipped: Policy) -> None:
    observing = with_rules(shipped, shipped.rules, [Binding("watch", Mode.OBSERVE)])
    verdict = verdict_on(observing, RESTART)
    assert (verdict.effect, verdict.decided) == (Effect.DENY, Effect.ALLOW)
    assert verdict.reasons[0] == "observe: decided and recorded only"
    assert verdict_on(observing, "metrics.query").effect is Effect.ALLOW


def test_suggest_asks_before_every_write_and_only_writes(shipped: Policy) -> None:
    suggesting = with_rules(shipped, shipped.rules, [Binding("ask", Mode.SUGGEST)])
    verdict = verdict_on(suggesting, RESTART)
    assert (verdict.effect, verdict.decided) == (Effect.REQUIRE_APPROVAL, Effect.ALLOW)
    assert verdict.approval == ApprovalNeed("on-call", 1, 900)
    assert verdict_on(suggesting, "oncall.page").effect is Effect.ALLOW
    assert verdict_on(suggesting, RESTART, runbook_match="none").effect is Effect.ESCALATE


def test_without_a_binding_the_fleet_only_observes(shipped: Policy) -> None:
    unbound = with_rules(shipped, shipped.rules, [])
    assert verdict_on(unbound, RESTART).mode is Mode.OBSERVE
    assert verdict_on(unbound, RESTART).effect is Effect.DENY


def test_a_declared_tool_without_an_executor_is_denied() -> None:
    loaded = load_policy(executors=frozenset([RESTART]))
    policy = with_rules(loaded, loaded.rules, [Binding("act", Mode.ACT)])
    assert verdict_on(policy, RESTART).effect is Effect.ALLOW
    verdict = verdict_on(policy, "workloads.scale")
    assert (verdict.effect, verdict.decided) == (Effect.DENY, Effect.ALLOW)
    assert verdict.reasons[0] == "no executor: 'workloads.scale' is declared only"


def test_a_changed_copy_of_a_policy_does_not_keep_the_old_verdicts(acting: Policy) -> None:
    assert verdict_on(acting, RESTART).effect is Effect.ALLOW
    crippled = replace(acting, executors=frozenset())
    assert verdict_on(crippled, RESTART).effect is Effect.DENY


def test_a_shared_verdict_cannot_be_changed(acting: Policy) -> None:
    verdict = verdict_on(acting, RESTART)
    with pytest.raises(TypeError, match="cannot be changed"):
        verdict.obligations["verify_health_within_s"] = 1  # type: ignore[index]  # on purpose
    with pytest.raises(TypeError, match="cannot be changed"):
        verdict.obligations.update({})  # type: ignore[attr-defined]  # on purpose
    assert verdict_on(acting, RESTART).obligations == {"verify_health_within_s": 300}


def test_names_from_outside_do_not_fill_the_memory(acting: Policy) -> None:
    action, facts = situation(acting, RESTART)
    for number in range(5000):
        judge(replace(action, service=f"service-{number}"), facts, acting, (), NOW_MS)
    assert len(acting.plans) <= 4096
    assert judge(action, facts, acting, (), NOW_MS).effect is Effect.ALLOW


RULE = """
- id: rule-{name}
  match: {{class: write}}
  effect: {effect}
  {more}
"""
MORE = {
    Effect.REQUIRE_APPROVAL: "approval: {role: on-call, need: 1, ttl_s: 900}",
    Effect.ESCALATE: "escalate: {to: on-call}",
}


def test_rules_combine_by_the_lattice_in_any_order(load_rules: Load) -> None:
    for effects in permutations(Effect, 3):
        for names in permutations("abc"):
            rules = "".join(
                RULE.format(name=name, effect=effect, more=MORE.get(effect, "reason: because"))
                for name, effect in zip(names, effects, strict=True)
            )
            verdict = verdict_on(load_rules(rules), RESTART)
            assert verdict.effect is min(effects, key=LATTICE.index)
            order = dict(zip((f"rule-{n}" for n in names), effects, strict=True))
            assert [order[rule] for rule in verdict.rules] == sorted(effects, key=LATTICE.index)


def test_two_needs_become_one_that_satisfies_both(load_rules: Load) -> None:
    policy = load_rules("""
        - id: one
          match: {class: write}
          effect: require_approval
          approval: {role: policy-author, need: 1, ttl_s: 3600}
        - id: two
          match: {class: write}
          effect: require_approval
          approval: {role: on-call, need: 2, ttl_s: 60}
          obligations: {verify_health_within_s: 60}
        - id: three
          match: {class: write}
          effect: allow
          obligations: {verify_health_within_s: 300, expires_within_s: 9}
        """)
    verdict = verdict_on(policy, RESTART)
    assert verdict.approval == ApprovalNeed("policy-author", 2, 60)
    assert verdict.obligations == {"verify_health_within_s": 60, "expires_within_s": 9}


def values_of(policy: Policy, tool: str) -> st.SearchStrategy[Mapping[str, object]]:
    """Any admissible value of each fact of the tool."""
    strategies: dict[str, st.SearchStrategy[object]] = {}
    for name in policy.facts_of(tool):
        schema = policy.facts[name]
        if schema.type is FactType.BOOL:
            strategies[name] = st.booleans()
        elif schema.type is FactType.ENUM:
            strategies[name] = st.sampled_from(schema.values)
        else:
            near = st.integers(schema.low, min(schema.high, schema.low + 5))
            strategies[name] = st.one_of(near, st.integers(schema.low, schema.high))
    return st.fixed_dictionaries(strategies)


POLICY = load_policy()
WRITES = [name for name, tool in POLICY.tools.items() if tool.tool_class == "write"]
VALUES = {tool: values_of(POLICY, tool) for tool in POLICY.tools}
situations = st.sampled_from(WRITES).flatmap(lambda tool: st.tuples(st.just(tool), VALUES[tool]))


@given(situations, st.permutations(POLICY.rules))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rules_does_not_matter(
    acting: Policy, drawn: tuple[str, Mapping[str, object]], rules: Sequence[Rule]
) -> None:
    tool, values = drawn
    shuffled = replace(acting, rules=tuple(rules))
    assert verdict_on(shuffled, tool, **values) == verdict_on(acting, tool, **values)


@given(situations, st.data())
@settings(max_examples=150, deadline=None)
def test_no_missing_fact_allows(
    acting: Policy, drawn: tuple[str, Mapping[str, object]], data: st.DataObject
) -> None:
    tool, values = drawn
    action, facts = situation(acting, tool, **values)
    gone = data.draw(st.sampled_from(sorted(facts)))
    del facts[gone]
    verdict = judge(action, facts, acting, (), NOW_MS)
    assert verdict.effect is Effect.DENY
    assert verdict.reasons == (f"fact {gone!r} is missing",)


@given(situations, st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_wider_reach_is_never_judged_milder(
    acting: Policy, drawn: tuple[str, Mapping[str, object]], one: int, other: int
) -> None:
    tool, values = drawn
    narrow, wide = sorted((one, other))
    mild = verdict_on(acting, tool, **{**values, "traffic_share_bp": narrow})
    strict = verdict_on(acting, tool, **{**values, "traffic_share_bp": wide})
    assert LATTICE.index(strict.effect) <= LATTICE.index(mild.effect)


BOUNDARY = """
- id: inside
  match: {{class: write}}
  effect: allow
- id: boundary
  match: {{class: write}}
  when: facts.traffic_share_bp > {limit}
  effect: deny
"""


@pytest.mark.parametrize(("narrow", "wide"), [(0, 1), (2400, 2500), (0, 10_000)])
def test_a_narrower_boundary_never_allows_more(load_rules: Load, narrow: int, wide: int) -> None:
    strict, mild = (load_rules(BOUNDARY.format(limit=limit)) for limit in (narrow, wide))
    for share in {0, narrow - 1, narrow, narrow + 1, wide - 1, wide, wide + 1, 10_000}:
        if 0 <= share <= 10_000 and (
            verdict_on(strict, RESTART, traffic_share_bp=share).effect is Effect.ALLOW
        ):
            assert verdict_on(mild, RESTART, traffic_share_bp=share).effect is Effect.ALLOW


NEVER: dict[str, dict[str, bool | str]] = {
    "code.patch": {},
    "flags.choose_winner": {},
    "signals.set_disposition": {},
    "deployments.deploy": {"known_good": False},
    "deployments.roll_back": {"known_good": False},
    "config.restore": {"known_good": False},
    "flags.advance": {"within_rollout_plan": False},
    "chaos.run": {"environment": "production", "staging_passed": False},
}


@given(st.sampled_from(sorted(NEVER)), st.data())
@settings(max_examples=200, deadline=None)
def test_what_the_fleet_never_does_is_denied_whatever_else_holds(
    acting: Policy, tool: str, data: st.DataObject
) -> None:
    values = {**data.draw(VALUES[tool]), **NEVER[tool]}
    assert verdict_on(acting, tool, **values).effect is Effect.DENY


@given(st.sampled_from(["alerts.silence", "alerts.edit_rule"]), st.data())
@settings(max_examples=100, deadline=None)
def test_an_alert_is_never_muted_without_a_human(
    acting: Policy, tool: str, data: st.DataObject
) -> None:
    verdict = verdict_on(acting, tool, **data.draw(VALUES[tool]))
    assert verdict.effect is not Effect.ALLOW
