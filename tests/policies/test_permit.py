"""Permits: one exact action, once, in time, from this process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loop4.domain import Action, Effect, Verdict
from loop4.errors import PermitError
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.gate import judge
from loop4.policies.permit import PermitOffice
from loop4.policies.policy import Policy


@pytest.fixture
def allowed(acting: Policy) -> tuple[Action, Verdict]:
    facts = safe_facts(acting, "workloads.restart")
    action = safe_action(acting, "workloads.restart", facts)
    return action, judge(action, facts, acting, (), NOW_MS)


def test_a_permit_passes_once_for_its_action(allowed: tuple[Action, Verdict]) -> None:
    action, verdict = allowed
    office = PermitOffice()
    permit = office.issue(action, verdict, NOW_MS, 5_000)
    office.check(permit, action, verdict.policy_version, NOW_MS + 4_999)
    with pytest.raises(PermitError, match="was used before"):
        office.check(permit, action, verdict.policy_version, NOW_MS + 4_999)


@pytest.mark.parametrize("effect", [e for e in Effect if e is not Effect.ALLOW])
def test_only_an_allowed_action_gets_a_permit(
    allowed: tuple[Action, Verdict], effect: Effect
) -> None:
    action, verdict = allowed
    with pytest.raises(PermitError, match=f"the verdict is {effect}"):
        PermitOffice().issue(action, replace(verdict, effect=effect), NOW_MS, 5_000)


def test_a_permit_without_a_life_is_refused(allowed: tuple[Action, Verdict]) -> None:
    with pytest.raises(PermitError, match="cannot live"):
        PermitOffice().issue(*allowed, NOW_MS, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"instance": "y", "restarted_at_ms": 1}},
        {"target": "payments"},
        {"target_revision": "other"},
        {"action_id": "other"},
        {"tool": "workloads.scale"},
    ],
)
def test_a_permit_does_not_fit_another_action(
    allowed: tuple[Action, Verdict], change: dict[str, str]
) -> None:
    action, verdict = allowed
    office = PermitOffice()
    permit = office.issue(action, verdict, NOW_MS, 5_000)
    changed = replace(action, **change)  # type: ignore[arg-type]  # one field at a time
    with pytest.raises(PermitError, match="is for another action"):
        office.check(permit, changed, verdict.policy_version, NOW_MS)
    office.check(permit, action, verdict.policy_version, NOW_MS)  # it was not used up


def test_a_permit_ends_with_its_time(allowed: tuple[Action, Verdict]) -> None:
    action, verdict = allowed
    office = PermitOffice()
    permit = office.issue(action, verdict, NOW_MS, 5_000)
    with pytest.raises(PermitError, match="has expired"):
        office.check(permit, action, verdict.policy_version, NOW_MS + 5_000)


def test_a_permit_of_another_policy_version_is_refused(allowed: tuple[Action, Verdict]) -> None:
    action, verdict = allowed
    office = PermitOffice()
    permit = office.issue(action, verdict, NOW_MS, 5_000)
    with pytest.raises(PermitError, match="the policy changed"):
        office.check(permit, action, "other", NOW_MS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expires_ms", NOW_MS + 10**9),
        ("nonce", "0" * 32),
        ("action_id", "other"),
        ("action_digest", "0" * 64),
        ("policy_version", "other"),
        ("mac", "0" * 64),
        ("mac", ""),
        ("mac", "ü"),
        ("mac", None),
    ],
)
def test_a_forged_permit_is_refused(
    allowed: tuple[Action, Verdict], name: str, value: object
) -> None:
    action, verdict = allowed
    office = PermitOffice()
    permit = replace(
        office.issue(action, verdict, NOW_MS, 5_000),
        **{name: value},  # type: ignore[arg-type]  # one field at a time
    )
    with pytest.raises(PermitError, match="was not issued by this process"):
        office.check(permit, action, verdict.policy_version, NOW_MS)


def test_a_permit_of_another_process_is_refused(allowed: tuple[Action, Verdict]) -> None:
    action, verdict = allowed
    permit = PermitOffice().issue(action, verdict, NOW_MS, 5_000)
    with pytest.raises(PermitError, match="was not issued by this process"):
        PermitOffice().check(permit, action, verdict.policy_version, NOW_MS)
