"""The gate: may this exact action run now? Pure; the same input gives the same verdict.

unknown tool                         -> deny
a fact or argument not as declared   -> deny, naming it
no rule matched                      -> deny
rules matched                        -> the worst of deny > escalate > require_approval > allow
binding `observe` (or none)          -> deny, `decided` kept (reads and the fleet itself by rules)
binding `suggest`, an allowed write  -> require_approval
an allowed change of the fleet itself -> require_approval, whatever the binding
declared, but no executor            -> deny
require_approval, a fitting approval -> allow; an approval lifts nothing else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from loop4.domain import Action, Approval, Effect, Fact, Mode, Verdict
from loop4.policies.approval import action_digest, approval_fault
from loop4.policies.documents import unknown
from loop4.policies.policy import Policy

__all__ = ["action_digest", "judge"]


def judge(
    action: Action,
    facts: Mapping[str, Fact],
    policy: Policy,
    approvals: Sequence[Approval],
    now_ms: int,
) -> Verdict:
    """The verdict on one action under these facts, approvals and time. Never raises for bad facts.

    Only the facts that the tool declares are looked at. Verdicts may be shared between calls.
    """
    try:
        plan = policy.plans[action.tool, action.environment, action.service, action.agent]
    except KeyError:
        found = policy.plan_for(action)
        if found is None:
            return _unknown_tool(action, policy)
        plan = found
    matched = plan.decide(facts, now_ms, action)
    verdict = plan.verdicts.get(matched) or plan.answer(matched, action, facts, now_ms)
    if approvals and verdict.effect is Effect.REQUIRE_APPROVAL:
        return _lifted(verdict, action, approvals, now_ms)
    return verdict


def _lifted(
    verdict: Verdict, action: Action, approvals: Sequence[Approval], now_ms: int
) -> Verdict:
    """Allow if one approval fits; else the same verdict with what is wrong with each."""
    need = verdict.approval
    if need is None:
        return verdict
    faults = []
    for approval in approvals:
        fault = approval_fault(approval, action, need, verdict.policy_version, now_ms)
        if not fault:
            people = ", ".join(sorted({vote.person for vote in approval.votes}))
            reasons = (*verdict.reasons, f"approved by {people}")
            return replace(
                verdict, effect=Effect.ALLOW, reasons=reasons, approval_id=approval.approval_id
            )
        faults.append(f"approval {approval.approval_id!r} does not fit: {fault}")
    return replace(verdict, reasons=(*verdict.reasons, *faults))


def _unknown_tool(action: Action, policy: Policy) -> Verdict:
    return Verdict(
        effect=Effect.DENY,
        decided=Effect.DENY,
        rules=(),
        reasons=(unknown("tool", str(action.tool), policy.tools),),
        mode=Mode.OBSERVE,
        policy_version=policy.version,
    )
