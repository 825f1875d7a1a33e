"""The imported numbers in the gate: a stricter one changes the verdict, a looser one never does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop4.cli.policy_organisation import explain_agent, import_organisation
from loop4.domain import Effect, FactScalar, Mode, Verdict
from loop4.errors import PolicyError, UsageError
from loop4.graphs.observe import read_documents
from loop4.lab.folder import make_operations
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.gate import judge
from loop4.policies.limits import stricter
from loop4.policies.load import load_policy
from loop4.policies.policy import Policy
from loop4.policies.severity import Duration

SHOP = Path(__file__).parent / "shop"
ACTING = (
    "apiVersion: loop4/v1\nkind: PolicyBinding\nmetadata: {name: lab}\n"
    "spec: {match: {environment: lab}, mode: act}\n"
)


@pytest.fixture
def acting(tmp_path: Path) -> Path:
    path = tmp_path / "bindings.yaml"
    path.write_text(ACTING, encoding="utf-8")
    return path


def organisation(folder: Path, *requirements: str) -> Path:
    """A repository with these requirements."""
    policies = folder / "org/4-quality/policies"
    policies.mkdir(parents=True)
    text = "# Delivery\n\n" + "".join(f"- [ ] {line}\n" for line in requirements)
    (policies / "delivery.md").write_text(text, encoding="utf-8")
    return folder


def imported(root: Path, bindings: Path) -> Policy:
    """The policy with the limits of a repository."""
    out = root.parent / f"{root.name}-out"
    out.mkdir()
    import_organisation(root, out=out)
    return load_policy(bindings_files=(bindings, out / "organisation.yaml"))


def verdict(policy: Policy, tool: str, now_ms: int = NOW_MS, **facts: FactScalar) -> Verdict:
    """The verdict on a safe action with these facts changed."""
    known = safe_facts(policy, tool, now_ms)
    known |= {name: replace(known[name], value=value) for name, value in facts.items()}
    return judge(safe_action(policy, tool, known), known, policy, (), now_ms)


RESTART = "workloads.restart"


def test_a_stricter_share_of_traffic_changes_the_verdict(tmp_path: Path, acting: Path) -> None:
    shipped = load_policy(bindings_files=(acting,))
    assert verdict(shipped, RESTART, traffic_share_bp=2000).effect is Effect.ALLOW
    policy = imported(
        organisation(tmp_path / "org", "An act on more than 10 % of traffic needs the on-call."),
        acting,
    )
    found = verdict(policy, RESTART, traffic_share_bp=2000)
    assert found.effect is Effect.REQUIRE_APPROVAL
    assert found.reasons == (
        "touches 2000 bp of traffic; the organisation's limit is 1000 "
        "(org/4-quality/policies/delivery.md:3)",
    )
    assert verdict(policy, RESTART, traffic_share_bp=1000).effect is Effect.ALLOW
    assert policy.version != shipped.version


def test_a_looser_share_of_traffic_loosens_nothing_and_is_reported(
    tmp_path: Path, acting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = organisation(
        tmp_path / "org",
        "An act on more than 50 % of traffic needs the on-call.",
        "An approval expires after 10 minutes.",
    )
    policy = imported(root, acting)
    assert "looser than Loop4's own 2500 bp, which holds" in capsys.readouterr().out
    found = verdict(policy, RESTART, traffic_share_bp=2501)
    assert found.effect is Effect.REQUIRE_APPROVAL
    assert found.rules[0] == "wide-blast-radius"
    assert found.approval is not None
    assert found.approval.ttl_s == 600


@settings(max_examples=20)
@given(
    limit=st.integers(0, 100),
    share=st.integers(0, 10_000),
)
def test_no_imported_share_ever_allows_more(
    tmp_path_factory: pytest.TempPathFactory, limit: int, share: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    bindings = folder / "bindings.yaml"
    bindings.write_text(ACTING, encoding="utf-8")
    root = organisation(
        folder / "org",
        f"An act on more than {limit} % of traffic needs the on-call.",
        "An approval expires after 10 minutes.",
    )
    policy = imported(root, bindings)
    allowed = verdict(policy, RESTART, traffic_share_bp=share).effect is Effect.ALLOW
    assert allowed == (share <= min(limit * 100, 2500))


def test_an_unresolved_variable_denies_what_depends_on_it_and_says_why(
    tmp_path: Path, acting: Path
) -> None:
    policy = imported(
        organisation(tmp_path / "org", "An act on more than {{SHARE}} of traffic is asked for."),
        acting,
    )
    found = verdict(policy, RESTART, traffic_share_bp=1)
    assert found.effect is Effect.DENY
    assert "delivery.md:3 leaves SHARE unresolved" in found.reasons[0]
    assert verdict(policy, RESTART, traffic_share_bp=0).effect is Effect.ALLOW


def test_the_shop_is_held_by_the_gate(tmp_path: Path, acting: Path) -> None:
    policy = imported(Path(shutil.copytree(SHOP, tmp_path / "shop")), acting)
    assert verdict(policy, RESTART, evidence_sources=2).effect is Effect.DENY
    assert verdict(policy, RESTART, evidence_sources=3).effect is Effect.ALLOW
    assert verdict(policy, RESTART, evidence_sources=3, restarts_1h=2).effect is Effect.ESCALATE
    forward = verdict(policy, "deployments.deploy", evidence_sources=3)
    assert forward.effect is Effect.DENY
    assert any("MAX_ERROR_RATE_INCREASE" in reason for reason in forward.reasons)
    rollback = verdict(policy, "deployments.roll_back", evidence_sources=3)
    assert rollback.effect is Effect.ALLOW
    assert rollback.obligations == {"verify_health_within_s": 240}


def test_the_mode_suggest_asks_with_the_imported_lifetime(tmp_path: Path) -> None:
    bindings = tmp_path / "bindings.yaml"
    bindings.write_text(ACTING.replace("mode: act", "mode: suggest"), encoding="utf-8")
    root = organisation(
        tmp_path / "org", "An approval expires after 5 minutes.", "2 people must approve a change."
    )
    found = verdict(imported(root, bindings), RESTART)
    assert found.mode is Mode.SUGGEST
    assert found.approval is not None
    assert (found.approval.need, found.approval.ttl_s) == (2, 300)


def test_after_an_exception_ran_out_everything_is_denied_until_the_next_import(
    tmp_path: Path, acting: Path
) -> None:
    root = organisation(tmp_path / "org", "An act on more than 10 % of traffic needs the on-call.")
    decisions = root / "work" / "decisions"
    decisions.mkdir(parents=True)
    (decisions / "EXC-2026-007.md").write_text(
        "> **Status:** approved | **Approvers:** ade\n> **Expires:** 2999-01-01\n"
        "> **Limit:** traffic_share_bp | **Value:** 20 %\n",
        encoding="utf-8",
    )
    policy = imported(root, acting)
    until_ms = policy.limits.until_ms
    assert verdict(policy, RESTART, until_ms - 1, traffic_share_bp=1999).effect is Effect.ALLOW
    late = verdict(policy, RESTART, until_ms, traffic_share_bp=0)
    assert late.effect is Effect.DENY
    assert "import them again" in late.reasons[0]


def test_a_run_loads_the_imported_limits_clocks_and_floors(tmp_path: Path) -> None:
    operations = tmp_path / "operations"
    make_operations(operations)
    import_organisation(SHOP, out=operations / "policies")
    found = read_documents(operations)
    assert "organisation-traffic-share" in {rule.rule_id for rule in found.policy.rules}
    clocks = {sev.value: rule.ack.seconds for sev, rule in found.severity.rules.items()}
    assert clocks == {"SEV1": 300, "SEV2": 3600, "SEV3": 14_400, "SEV4": 86_400}
    target = operations / "policies" / "targets" / "orders.yaml"
    text = target.read_text(encoding="utf-8").replace("target: 0.995", "target: 0.99")
    target.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match="floor for availability is 9950 bp"):
        read_documents(operations)


def test_a_rule_beside_the_bindings_may_not_allow(tmp_path: Path, acting: Path) -> None:
    path = tmp_path / "organisation.yaml"
    path.write_text(
        "apiVersion: loop4/v1\nkind: ActionPolicy\nmetadata: {name: mine}\nspec:\n  rules:\n"
        "  - {id: wide-open, match: {class: write}, effect: allow}\n",
        encoding="utf-8",
    )
    with pytest.raises(PolicyError, match="may only tighten, found 'allow'") as caught:
        load_policy(bindings_files=(acting, path))
    assert caught.value.line == 6


def test_limits_without_bindings_leave_the_shipped_bindings(tmp_path: Path) -> None:
    import_organisation(SHOP, out=tmp_path)
    policy = load_policy(bindings_files=(tmp_path / "organisation.yaml",))
    assert [binding.name for binding in policy.bindings] == ["production", "staging"]


def test_nothing_is_written_over_a_file_of_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "organisation.yaml").write_text("mine: true\n", encoding="utf-8")
    with pytest.raises(UsageError, match="was not made by an import"):
        import_organisation(SHOP, out=tmp_path)
    assert (tmp_path / "organisation.yaml").read_text(encoding="utf-8") == "mine: true\n"
    assert [path.name for path in tmp_path.iterdir()] == ["organisation.yaml"]


def test_nothing_is_written_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        import_organisation(SHOP, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_second_import_replaces_the_first_and_gives_the_same_bytes(tmp_path: Path) -> None:
    import_organisation(SHOP, out=tmp_path)
    first = (tmp_path / "organisation.yaml").read_bytes()
    import_organisation(SHOP, out=tmp_path)
    assert (tmp_path / "organisation.yaml").read_bytes() == first


durations = st.one_of(
    st.builds(Duration, st.integers(1, 2_000_000)),
    st.builds(lambda days: Duration(business_days=days), st.integers(1, 20)),
)


@given(durations, durations, st.integers(0, 14))
def test_the_stricter_duration_never_ends_later_than_either(
    one: Duration, other: Duration, day: int
) -> None:
    start_ms = NOW_MS + day * 43_200_000
    both = stricter(one, other).after(start_ms)
    assert both <= min(one.after(start_ms), other.after(start_ms))


def test_explain_says_what_an_agent_may_run_when_and_who_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operations = tmp_path / "operations"
    make_operations(operations)
    import_organisation(SHOP, out=operations / "policies")
    capsys.readouterr()
    explain_agent("remediation", operations)
    out = capsys.readouterr().out
    assert "workloads.restart (write): start one replica clean" in out
    assert "mode: production suggest, staging suggest, development observe, lab act" in out
    assert (
        "a person is asked: 1 person of role on-call within 10 min "
        "if traffic share is above 1000 bp (10 %) [organisation-traffic-share]"
    ) in out
    assert "restart-over-budget-by-a-person" not in out
    assert "code.patch" in out.splitlines()[-1]
    explain_agent("remediation", operations, as_json=True)
    body = json.loads(capsys.readouterr().out)
    assert {tool["tool"] for tool in body["tools"]} == {
        "deployments.roll_back",
        "workloads.restart",
    }


def test_explain_names_the_nearest_agent() -> None:
    with pytest.raises(UsageError, match="did you mean 'remediation'"):
        explain_agent("remediaton")
