"""Loading: what is doubtful in a policy file fails the load, with file, line, column and advice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loop4.domain import Effect, Fact, Mode
from loop4.errors import PolicyError
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.gate import judge
from loop4.policies.load import SHIPPED, load_policy
from loop4.policies.policy import Policy

Load = Callable[[str], Policy]

GOOD = """
- id: some-rule
  match: {tools: [workloads.restart]}
  when: facts.fleet_paused
  effect: deny
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message"),
    [
        ("facts.fleet_paused", "facts.fleet_pausd", 8, 11, "did you mean 'fleet_paused'"),
        ("facts.fleet_paused", "facts.tier == true", 8, 25, "compares an int 'tier'"),
        ("facts.fleet_paused", '"{{FREEZE}}"', 8, 11, "unresolved variable '{{FREEZE}}'"),
        ("facts.fleet_paused", "{{FREEZE}}", 8, 12, "a `{{VAR}}` that nobody filled in"),
        ("facts.fleet_paused", "0.3", 8, 11, "0.3 is a float"),
        ("facts.fleet_paused", "true", 8, 11, "found true, expected a string"),
        ("facts.fleet_paused", "facts.known_good", 8, 11, "'workloads.restart' does not declare"),
        ("workloads.restart", "workload.restart", 7, 21, "did you mean 'workloads.restart'"),
        ("workloads.restart", "pods.*", 7, 21, "nothing matches"),
        ("tools: [workloads.restart]", "class: writes", 7, 20, "did you mean 'write'"),
        ("tools: [workloads.restart]", "class: read, tools: [code.patch]", 7, 12, "no declared"),
        ("tools: [workloads.restart]", "tool: workloads.restart", 7, 13, "did you mean 'tools'"),
        ("[workloads.restart]", "[workloads.restart], agent: helth", 7, 48, "'health'"),
        ("[workloads.restart]", "[workloads.restart], environment: prod", 7, 54, "prod"),
        ("[workloads.restart]", "[workloads.restart], tier: 4", 7, 47, "expected 1 to 3"),
        ("[workloads.restart]", "[]", 7, 20, "empty list"),
        ("effect: deny", "effect: denied", 9, 13, "did you mean 'deny'"),
        ("effect: deny", "effect: require_approval", 9, 13, "needs the key 'approval'"),
        ("effect: deny", "effect: escalate", 9, 13, "needs the key 'escalate'"),
        ("effect: deny", "effect: deny\n  escalate: {to: on-call}", 10, 15, "belongs to effect"),
        ("effect: deny", "efect: deny", 9, 5, "did you mean 'effect'"),
        ("effect: deny", "effect: deny\n  effect: allow", 10, 5, "key 'effect' stands twice"),
        ("effect: deny", "effect: deny\n  reason: 'is {facts.teir}'", 10, 13, "'tier'"),
        ("effect: deny", "effect: deny\n  reason: 'is {tier}'", 10, 13, "braces in a reason"),
        (
            "effect: deny",
            "effect: deny\n  obligations: {verify: 3}",
            10,
            19,
            "unknown key 'verify'",
        ),
        ("id: some-rule", "id: Some Rule", 6, 9, "lower-case-with-dashes"),
        ("id: some-rule", "id: &x some-rule\n  reason: *x", 6, 9, "anchors and aliases"),
        ("id: some-rule", "idd: some-rule", 6, 5, "did you mean 'id'"),
    ],
)
def test_a_slip_in_a_rule_is_a_load_error_with_its_place(
    old: str, new: str, line: int, column: int, message: str, load_rules: Load, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError) as caught:
        load_rules(GOOD.replace(old, new))
    assert message in caught.value.message
    assert caught.value.path == str(tmp_path / "rules" / "rules.yaml")
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("approval", "message"),
    [
        ("{role: oncall, need: 1, ttl_s: 900}", "unknown role 'oncall'; did you mean 'on-call'"),
        ("{role: on-call, need: 0, ttl_s: 900}", "found 0, expected 1 to 10"),
        ("{role: on-call, need: true, ttl_s: 900}", "expected an integer"),
        ("{role: on-call, need: 1}", "key 'ttl_s' is missing"),
    ],
)
def test_an_approval_that_nobody_could_give_is_refused(
    approval: str, message: str, load_rules: Load
) -> None:
    with pytest.raises(PolicyError, match=message):
        load_rules(f"""
            - id: ask
              match: {{class: write}}
              effect: require_approval
              approval: {approval}
            """)


def test_a_fault_in_a_folded_condition_is_found_on_its_own_line(load_rules: Load) -> None:
    with pytest.raises(PolicyError) as caught:
        load_rules("""
            - id: some-rule
              match: {class: write}
              when: >-
                facts.fleet_paused &&
                facts.deploy_frosen
              effect: deny
            """)
    assert (caught.value.line, caught.value.column) == (10, 7)


def test_a_deny_rule_with_a_typo_does_not_vanish_it_fails_the_load(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "rules", tmp_path / "rules")
    never = tmp_path / "rules" / "never.yaml"
    text = never.read_text(encoding="utf-8").replace(
        "!facts.staging_passed", "!facts.staging_pased"
    )
    never.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=r"never\.yaml:\d+:\d+: unknown fact 'staging_pased'"):
        load_policy(tmp_path / "rules")


def test_two_rules_with_one_id_are_refused(load_rules: Load) -> None:
    with pytest.raises(PolicyError, match="rule 'some-rule' stands twice"):
        load_rules(GOOD + GOOD.lstrip("\n"))


def test_two_documents_with_one_name_are_refused(load_rules: Load, tmp_path: Path) -> None:
    load_rules(GOOD)
    shutil.copy(tmp_path / "rules" / "rules.yaml", tmp_path / "rules" / "again.yaml")
    with pytest.raises(PolicyError, match="ActionPolicy 'under-test' stands twice"):
        load_policy(tmp_path / "rules")


def test_a_folder_without_rules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not a folder"):
        load_policy(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyError, match="holds no rule"):
        load_policy(tmp_path / "empty")


def test_an_executor_that_no_declaration_names_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"unknown tool 'workloads\.restrt'; did you mean"):
        load_policy(executors=frozenset(["workloads.restrt"]))


def test_the_version_changes_with_any_document_and_not_with_file_order(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "rules", tmp_path / "rules")
    assert load_policy(tmp_path / "rules").version == load_policy().version
    (tmp_path / "rules" / "never.yaml").rename(tmp_path / "rules" / "aaa.yaml")
    assert load_policy(tmp_path / "rules").version == load_policy().version
    boundaries = tmp_path / "rules" / "boundaries.yaml"
    text = boundaries.read_text(encoding="utf-8").replace("> 2500", "> 2501")
    boundaries.write_text(text, encoding="utf-8")
    assert load_policy(tmp_path / "rules").version != load_policy().version
    bindings = tmp_path / "bindings.yaml"
    bindings.write_text(BINDING.replace("MODE", "act"), encoding="utf-8")
    assert load_policy(bindings_files=[bindings]).version != load_policy().version


BINDING = """
apiVersion: loop4/v1
kind: PolicyBinding
metadata: {name: lab}
spec: {match: {environment: lab}, mode: MODE}
"""


def test_bindings_of_the_organisation_replace_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "bindings.yaml"
    path.write_text(BINDING.replace("MODE", "act"), encoding="utf-8")
    policy = load_policy(bindings_files=[path])
    assert policy.mode_of("workloads.restart", "lab", "orders") is Mode.ACT
    assert policy.mode_of("workloads.restart", "production", "orders") is Mode.OBSERVE


def test_of_several_bindings_the_strictest_holds(tmp_path: Path) -> None:
    one = BINDING.replace("MODE", "act")
    two = one.replace("name: lab", "name: pay").replace("environment: lab", "service: payments")
    path = tmp_path / "bindings.yaml"
    path.write_text(f"{one}---{two.replace('mode: act', 'mode: observe')}", encoding="utf-8")
    policy = load_policy(bindings_files=[path])
    assert policy.mode_of("workloads.restart", "lab", "payments") is Mode.OBSERVE
    assert policy.mode_of("workloads.restart", "lab", "orders") is Mode.ACT


def test_no_shipped_binding_lets_the_fleet_act(shipped: Policy) -> None:
    assert {binding.mode for binding in shipped.bindings} == {Mode.SUGGEST}
    for environment in shipped.facts["environment"].values:
        for tool in shipped.tools:
            assert shipped.mode_of(tool, environment, "orders") is not Mode.ACT


def test_a_binding_that_says_nowhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bindings.yaml"
    path.write_text(BINDING.replace("environment: lab", ""), encoding="utf-8")
    with pytest.raises(PolicyError, match="expected environment, service or class"):
        load_policy(bindings_files=[path])


def test_all_fields_of_a_match_must_hold(load_rules: Load) -> None:
    policy = load_rules("""
        - id: narrow
          match:
            tools: [workloads.*]
            class: write
            agent: remediation
            environment: [lab, staging]
            service: orders
            tier: [2, 3]
          effect: allow
        """)
    facts = safe_facts(policy, "workloads.restart")
    action = safe_action(policy, "workloads.restart", facts)
    assert judge(action, facts, policy, (), NOW_MS).effect is Effect.ALLOW
    tier = {**facts, "tier": Fact(1, NOW_MS, "catalogue")}
    assert judge(action, tier, policy, (), NOW_MS).rules == ()
    production = {**facts, "environment": Fact("production", NOW_MS, "catalogue")}
    elsewhere = safe_action(policy, "workloads.restart", production)
    assert judge(elsewhere, production, policy, (), NOW_MS).rules == ()
    for changed in (replace(action, agent="health"), replace(action, service="payments")):
        assert judge(changed, facts, policy, (), NOW_MS).rules == ()
    deploy = safe_facts(policy, "config.restore")
    assert (
        judge(safe_action(policy, "config.restore", deploy), deploy, policy, (), NOW_MS).rules == ()
    )


def test_the_gate_loads_no_heavy_package() -> None:
    code = (
        "import sys, loop4.policies.gate, loop4.policies.load, loop4.policies.permit\n"
        "heavy = {'langgraph', 'langchain_core', 'pydantic', 'sqlalchemy', 'httpx', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
