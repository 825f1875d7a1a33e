"""The rules' own unit tests, and that they notice when a rule is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loop4.domain import Effect
from loop4.errors import PolicyError
from loop4.policies.case_documents import policy_cases
from loop4.policies.cases import Case, run_cases
from loop4.policies.documents import parse_documents
from loop4.policies.load import load_policy, rules_folder
from loop4.policies.mutate import mutants, survivors
from loop4.policies.policy import Policy


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    return policy_cases(rules_folder(None), load_policy())


def case_document(case: str) -> str:
    head = "apiVersion: loop4/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n  cases:\n"
    return f"{head}  - {{name: n, {case}}}\n"


def read_case(case: str, policy: Policy) -> tuple[Case, ...]:
    return policy_cases(parse_documents(case_document(case), "t.yaml", ("PolicyTest",)), policy)


def test_every_shipped_case_passes(cases: tuple[Case, ...], shipped: Policy) -> None:
    assert len(cases) > 200
    assert run_cases(cases, shipped) == ()


def test_every_shipped_rule_is_named_by_a_case(cases: tuple[Case, ...], shipped: Policy) -> None:
    named = {r for case in cases for r in (*(case.expected.rules or ()), *case.expected.includes)}
    assert named == {rule.rule_id for rule in shipped.rules}


def test_no_mutant_of_the_shipped_rules_survives(cases: tuple[Case, ...], shipped: Policy) -> None:
    tried, survived = survivors(shipped, cases)
    assert tried > 500
    assert survived == ()


def test_mutants_touch_rules_of_every_effect_in_every_way(shipped: Policy) -> None:
    effects = {rule.rule_id: rule.effect for rule in shipped.rules}
    changes: dict[Effect, set[str]] = {effect: set() for effect in Effect}
    for mutant in mutants(shipped):
        changes[effects[mutant.rule_id]].add(mutant.change.split(":")[0].split(" ")[0])
        assert mutant.rule is None or mutant.rule != next(
            rule for rule in shipped.rules if rule.rule_id == mutant.rule_id
        )
    for effect, found in changes.items():
        assert {"rule", "condition", "when", "effect", "match"} <= found, effect


def test_a_mutant_survives_where_no_case_looks(cases: tuple[Case, ...], shipped: Policy) -> None:
    few = [case for case in cases if case.name != "a SEV1 pages though work is planned"]
    _, survived = survivors(shipped, few)
    assert {survivor.rule_id for survivor in survived} == {"page-in-maintenance"}
    assert any("SEV1" not in survivor.change for survivor in survived)


def test_a_wrong_expectation_is_told_with_what_was_found(shipped: Policy) -> None:
    case = "tool: workloads.restart, facts: {traffic_share_bp: 2501}, expect: allow, rules: []"
    (failure,) = run_cases(read_case(case, shipped), shipped)
    assert failure.expected == "effect allow; rules []"
    assert failure.found == (
        "effect require_approval; rules [wide-blast-radius, restart-within-budget]"
    )
    assert failure.reasons == ("touches 2501 bp of traffic; the limit is 2500",)


@pytest.mark.parametrize(
    "expectation",
    [
        "asks: {role: policy-author, need: 1, ttl_s: 900}",
        "asks: {role: on-call, need: 2, ttl_s: 900}",
        "asks: {role: on-call, need: 1, ttl_s: 901}",
        "escalates_to: on-call",
        "obligations: {}",
        "includes: [flapping]",
    ],
)
def test_each_expectation_can_fail(shipped: Policy, expectation: str) -> None:
    case = "tool: workloads.restart, facts: {traffic_share_bp: 2501}, expect: require_approval"
    assert run_cases(read_case(case, shipped), shipped) == ()
    assert len(run_cases(read_case(f"{case}, {expectation}", shipped), shipped)) == 1


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("tool: workloads.restrt, expect: allow", "unknown tool 'workloads.restrt'; did you mean"),
        ("tool: workloads.restart, facts: {teir: 1}, expect: allow", "did you mean 'tier'"),
        ("tool: metrics.query, facts: {tier: 1}, expect: allow", "unknown fact of 'metrics.query'"),
        ("tool: workloads.restart, expect: alow", "did you mean 'allow'"),
        ("tool: workloads.restart, expect: allow, rules: [x]", "unknown rule 'x'"),
        ("tool: workloads.restart", "expected the key 'expect'"),
        ("expect: allow", "expected either 'tool' or 'tools'"),
        ("tool: workloads.restart, expect: allow, wen: x", "unknown key 'wen'"),
        ("tool: workloads.restart, expect: allow, mode: acting", "did you mean 'act'"),
    ],
)
def test_a_slip_in_a_case_is_a_load_error(shipped: Policy, case: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        read_case(case, shipped)


def test_the_safe_context_is_one_to_which_no_rule_objects(shipped: Policy) -> None:
    objected = {"code.patch", "flags.choose_winner", "signals.set_disposition"}  # never allowed
    objected |= {"alerts.silence", "alerts.edit_rule"}  # never without a human
    objected |= {"fleet.widen_mode"}  # never for an agent, never by one human alone
    quiet = {"security.page", "orchestration.notify"}  # nothing to tell
    for tool in shipped.tools:
        (case,) = read_case(f"tool: {tool}, expect: allow", shipped)
        failed = run_cases([case], shipped)
        assert bool(failed) == (tool in objected | quiet), tool


def test_cases_are_read_beside_the_rules_of_another_folder(tmp_path: Path, shipped: Policy) -> None:
    (tmp_path / "x_test.yaml").write_text(
        case_document("tool: metrics.query, expect: deny"), encoding="utf-8"
    )
    (case,) = policy_cases(rules_folder(tmp_path), shipped)
    assert case.expected.effect is Effect.DENY
    assert replace(case, name="m") != case
