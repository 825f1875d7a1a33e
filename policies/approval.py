"""When a recorded approval fits an action: everything must hold, any doubt means it does not."""

from __future__ import annotations

from loop4.canonical import digest
from loop4.domain import Action, Approval, ApprovalNeed, ApprovalState
from loop4.policies.rules import AGENTS


def action_digest(action: Action, policy_version: str) -> str:
    """What an approval or a permit is bound to: the exact action as it will run, and the policy.

    Raises ValueError if an argument cannot be written as JSON (NaN, a set, a huge integer).
    """
    return digest(
        {
            "tool": action.tool,
            "arguments": action.arguments,
            "target": action.target,
            "target_revision": action.target_revision,
            "service": action.service,
            "environment": action.environment,
            "policy_version": policy_version,
            "requester": action.requester,
            "requester_kind": str(action.requester_kind),
            "action_id": action.action_id,
            "incident_id": action.incident_id,
        }
    )


def approval_fault(
    approval: Approval, action: Action, need: ApprovalNeed, policy_version: str, now_ms: int
) -> str:
    """Why this approval does not lift the need for this action now; empty if it does."""
    if approval.state is not ApprovalState.APPROVED:
        return f"it is {approval.state}"
    if approval.policy_version != policy_version:
        return "it was given under another policy version"
    if approval.action_id != action.action_id or approval.action_digest != _digest_or_none(
        action, policy_version
    ):
        return "it was given for another action"
    if not now_ms < approval.expires_ms:
        return "it has expired"
    if not now_ms <= approval.requested_ms + need.ttl_s * 1000:
        return f"it is older than the {need.ttl_s} s that the rule grants"
    return _fault_of_votes(approval, action, need)


def _fault_of_votes(approval: Approval, action: Action, need: ApprovalNeed) -> str:
    voters = set()
    for vote in approval.votes:
        if not vote.approve:
            return f"{vote.person!r} rejected it"
        if vote.person in (action.requester, approval.requester):
            return f"{vote.person!r} asked for the action and voted on it"
        if vote.person in AGENTS or vote.person == action.agent or "agent" in vote.roles:
            return f"{vote.person!r} is an agent and voted"
        if not vote.at_ms < approval.expires_ms:
            return f"{vote.person!r} voted after it had expired"
        if vote.person and need.role in vote.roles:
            voters.add(vote.person)
    wanted = max(need.need, approval.need)
    if len(voters) < wanted:
        return f"{len(voters)} of {wanted} people with role {need.role!r} approved"
    return ""


def _digest_or_none(action: Action, policy_version: str) -> str | None:
    try:
        return action_digest(action, policy_version)
    except ValueError:
        return None
