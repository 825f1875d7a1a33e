"""Approvals: one exact action, by the right people, in time; they lift one effect only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop4.domain import (
    Action,
    Approval,
    ApprovalState,
    Effect,
    Fact,
    Json,
    RequesterKind,
    Verdict,
    Vote,
)
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.gate import action_digest, judge
from loop4.policies.policy import Policy

ROLL_BACK = "deployments.roll_back"


def wide(policy: Policy, **values: bool | int | str) -> tuple[Action, dict[str, Fact]]:
    """A rollback of half of the traffic: needs one on-call."""
    facts = safe_facts(policy, ROLL_BACK)
    for name, value in {"traffic_share_bp": 5000, **values}.items():
        facts[name] = replace(facts[name], value=value)
    return safe_action(policy, ROLL_BACK, facts), facts


def approval_of(policy: Policy, action: Action) -> Approval:
    return Approval(
        approval_id="a1",
        action_id=action.action_id,
        action_digest=action_digest(action, policy.version),
        policy_version=policy.version,
        state=ApprovalState.APPROVED,
        requester=action.requester,
        role="on-call",
        need=1,
        requested_ms=NOW_MS - 60_000,
        expires_ms=NOW_MS + 840_000,
        votes=(Vote("maria", ("on-call",), True, NOW_MS - 30_000),),
    )


def judged(policy: Policy, *approvals: Approval, **values: bool | int | str) -> Verdict:
    action, facts = wide(policy, **values)
    return judge(action, facts, policy, approvals, NOW_MS)


def test_a_fitting_approval_lifts_the_need(acting: Policy) -> None:
    approval = approval_of(acting, wide(acting)[0])
    assert judged(acting).effect is Effect.REQUIRE_APPROVAL
    verdict = judged(acting, approval)
    assert (verdict.effect, verdict.decided) == (Effect.ALLOW, Effect.REQUIRE_APPROVAL)
    assert verdict.approval_id == "a1"
    assert verdict.reasons[-1] == "approved by maria"


def vote(person: str, *roles: str, approve: bool = True, at_ms: int = NOW_MS - 30_000) -> Vote:
    return Vote(person, roles or ("on-call",), approve, at_ms)


@pytest.mark.parametrize("state", [s for s in ApprovalState if s is not ApprovalState.APPROVED])
def test_only_an_approved_request_counts(acting: Policy, state: ApprovalState) -> None:
    approval = replace(approval_of(acting, wide(acting)[0]), state=state)
    verdict = judged(acting, approval)
    assert verdict.effect is Effect.REQUIRE_APPROVAL
    assert verdict.reasons[-1] == f"approval 'a1' does not fit: it is {state}"


@pytest.mark.parametrize(
    ("votes", "reason"),
    [
        ((), "0 of 1 people"),
        ((vote("maria", "developer"),), "0 of 1 people with role 'on-call'"),
        ((vote("", "on-call"),), "0 of 1 people"),
        ((vote("remediation"),), "'remediation' asked for the action"),
        ((vote("health"),), "'health' is an agent"),
        ((vote("bot", "on-call", "agent"),), "'bot' is an agent"),
        ((vote("maria"), vote("tom", approve=False)), "'tom' rejected it"),
        ((vote("maria"), vote("maria", approve=False)), "'maria' rejected it"),
        ((vote("maria", at_ms=NOW_MS + 840_000),), "voted after it had expired"),
    ],
)
def test_votes_that_do_not_count(acting: Policy, votes: tuple[Vote, ...], reason: str) -> None:
    approval = replace(approval_of(acting, wide(acting)[0]), votes=votes)
    verdict = judged(acting, approval)
    assert verdict.effect is Effect.REQUIRE_APPROVAL
    assert reason in verdict.reasons[-1]


def test_one_person_is_not_a_quorum_of_two(acting: Policy) -> None:
    approval = replace(approval_of(acting, wide(acting)[0]), need=2)
    twice = replace(approval, votes=(vote("maria"), vote("maria")))
    assert judged(acting, twice).effect is Effect.REQUIRE_APPROVAL
    both = replace(approval, votes=(vote("maria"), vote("tom")))
    assert judged(acting, both).effect is Effect.ALLOW


def test_an_approval_ends_with_its_time_or_with_what_the_rule_grants(acting: Policy) -> None:
    approval = approval_of(acting, wide(acting)[0])
    assert judged(acting, replace(approval, expires_ms=NOW_MS + 1)).effect is Effect.ALLOW
    assert judged(acting, replace(approval, expires_ms=NOW_MS)).effect is Effect.REQUIRE_APPROVAL
    old = replace(approval, requested_ms=NOW_MS - 900_001, expires_ms=NOW_MS + 10**9)
    assert judged(acting, old).effect is Effect.REQUIRE_APPROVAL


def test_the_person_who_asks_cannot_approve(acting: Policy) -> None:
    action, facts = wide(acting, requester_kind="person")
    approval = replace(approval_of(acting, action), votes=(vote("somebody"),))
    assert action.requester == "somebody"
    verdict = judge(action, facts, acting, [approval], NOW_MS)
    assert verdict.effect is Effect.REQUIRE_APPROVAL
    assert "asked for the action and voted on it" in verdict.reasons[-1]


def test_an_approval_of_another_policy_version_does_not_count(acting: Policy) -> None:
    action, _ = wide(acting)
    other = replace(
        approval_of(acting, action),
        policy_version="other",
        action_digest=action_digest(action, "other"),
    )
    assert judged(acting, other).effect is Effect.REQUIRE_APPROVAL


@pytest.mark.parametrize(
    "change",
    [
        {"target": "payments"},
        {"target_revision": "other"},
        {"incident_id": "other"},
        {"action_id": "other"},
        {"requester": "flag"},
        {"service": "payments"},
        {"arguments": {"service": "x", "to_revision": 2}},
        {"arguments": {"service": "x ", "to_revision": 1}},
    ],
)
def test_an_approval_is_for_one_exact_action(acting: Policy, change: dict[str, str]) -> None:
    action, facts = wide(acting)
    approval = approval_of(acting, action)
    assert judge(action, facts, acting, [approval], NOW_MS).effect is Effect.ALLOW
    changed = replace(action, **change)  # type: ignore[arg-type]  # one field at a time
    verdict = judge(changed, facts, acting, [approval], NOW_MS)
    assert verdict.effect is Effect.REQUIRE_APPROVAL
    assert action_digest(changed, "v") != action_digest(action, "v")


def test_the_digest_covers_environment_tool_and_requester_kind(acting: Policy) -> None:
    action, _ = wide(acting)
    changes = (
        replace(action, environment="production"),
        replace(action, tool="config.restore"),
        replace(action, requester_kind=RequesterKind.PERSON),
    )
    digests = {action_digest(each, "v") for each in (action, *changes)}
    assert len(digests) == 4
    assert action_digest(action, "w") not in digests


def test_arguments_that_are_no_json_never_match_an_approval(acting: Policy) -> None:
    action, facts = wide(acting)
    approval = approval_of(acting, action)
    nan: dict[str, Json] = {"service": "x", "to_revision": 2**70}
    verdict = judge(replace(action, arguments=nan), facts, acting, [approval], NOW_MS)
    assert verdict.effect is Effect.REQUIRE_APPROVAL


@given(
    st.fixed_dictionaries(
        {
            "fleet_paused": st.booleans(),
            "runbook_match": st.sampled_from(["none", "typed"]),
            "evidence_sources": st.integers(0, 6),
            "failed_remediations": st.integers(0, 5),
            "traffic_share_bp": st.integers(0, 10_000),
            "known_good": st.booleans(),
            "context_complete": st.booleans(),
        }
    )
)
@settings(max_examples=200, deadline=None)
def test_an_approval_lifts_require_approval_and_nothing_else(
    acting: Policy, values: dict[str, bool | int | str]
) -> None:
    approval = approval_of(acting, wide(acting)[0])
    before, after = judged(acting, **values), judged(acting, approval, **values)
    if before.effect is Effect.REQUIRE_APPROVAL:
        assert after.effect is Effect.ALLOW
    else:
        assert after == before
