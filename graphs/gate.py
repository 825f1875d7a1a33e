"""The gate's node: facts, verdict, record. It decides nothing itself; `policies.gate.judge`
does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from loop4.domain import (
    Approval,
    ApprovalState,
    Effect,
    Fact,
    Json,
    Verdict,
)
from loop4.graphs.approve import hitl_request
from loop4.graphs.fleet import Fleet
from loop4.graphs.promises import promise_reminders
from loop4.graphs.state import RunState
from loop4.graphs.steps import WRITE, Item, Step, candidate_for, read_steps
from loop4.ledger import approvals, evidence, runs
from loop4.ledger.ledger import Tx
from loop4.policies.gate import action_digest, judge
from loop4.telemetry import current_trace_id, gate_span
from loop4.tools.facts.providers import facts_for
from loop4.tools.facts.sources import Candidate

OVER = frozenset({ApprovalState.REJECTED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class Judged:
    """One action with the facts and the verdict of this moment."""

    item: Item
    candidate: Candidate
    facts: dict[str, Fact]
    verdict: Verdict
    digest: str


async def judge_item(
    fleet: Fleet, state: RunState, item: Item, *, consumed_by_us: str | None = None
) -> Judged:
    """Compute the declared facts and judge, with whatever approvals the ledger holds for this
    action.

    `consumed_by_us`: after a crash, the approval that this very action's own intent consumed, ""
    for none; it is good for finishing that act (expiry, votes and digest are judged again) and for
    nothing else, and no other is: nobody would consume it.
    """
    incident = fleet.incident(state["incident_id"])
    candidate = await candidate_for(fleet, incident, item)
    sources = fleet.sources(incident, context_complete=state.get("context") == "complete")
    facts = await facts_for(sources, candidate)
    with fleet.ledger.read() as tx:
        policy = fleet.in_force(tx)
        held = tuple(
            replace(a, state=ApprovalState.APPROVED)
            if a.state is ApprovalState.CONSUMED and a.approval_id == consumed_by_us
            else a
            for a in approvals.of_action(tx, candidate.action.action_id)
            if consumed_by_us is None or a.approval_id == consumed_by_us
        )
    with gate_span(item.tool, incident_id=state["incident_id"]) as span:
        verdict = judge(candidate.action, facts, policy, held, sources.now_ms)
        span.verdict(verdict)
    return Judged(
        item, candidate, facts, verdict, action_digest(candidate.action, fleet.policy.version)
    )


def decision_body(judged: Judged) -> dict[str, Json]:
    """The decision as evidence: facts with source and age, rules, verdict, policy version."""
    action, verdict = judged.candidate.action, judged.verdict
    arguments = {k: v for k, v in action.arguments.items() if k != "text"}
    inverse = judged.item.inverse
    return {
        **({"inverse": inverse} if inverse is not None else {}),
        "tool": action.tool,
        "target": action.target,
        "service": action.service,
        "environment": action.environment,
        "requester_kind": action.requester_kind.value,
        "arguments": arguments,
        "action_digest": judged.digest,
        "target_revision": action.target_revision,
        "agent": action.agent,
        "requester": action.requester,
        "reason": judged.item.reason,
        "facts": {
            name: {"value": f.value, "at_ms": f.at_ms, "source": f.source}
            for name, f in sorted(judged.facts.items())
        },
        "effect": verdict.effect.value,
        "decided": verdict.decided.value,
        "rules": list(verdict.rules),
        "reasons": list(verdict.reasons),
        "mode": verdict.mode.value,
        "policy_version": verdict.policy_version,
        "approval_id": verdict.approval_id,
    }


def record_decision(tx: Tx, state: RunState, judged: Judged, now_ms: int) -> None:
    """Append the decision to the chain."""
    evidence.append(
        tx,
        "decision",
        state["incident_id"],
        state["run_id"],
        decision_body(judged),
        at_ms=now_ms,
        action_id=judged.candidate.action.action_id,
        trace_id=current_trace_id(),
    )


async def decide(fleet: Fleet, state: RunState) -> RunState:
    """Judge the step in hand and say where it goes: act, approve, or on to the next step.

    An allowed write and a batch of notices go to `act`, which judges again and records there.
    """
    steps = read_steps(fleet, state["plan"])
    if state["step"] >= len(steps):  # a crash lost the draft: plan again
        return {"plan": "", "next": "plan"}
    step = steps[state["step"]]
    if step.kind == WRITE:
        fleet.drafts.flush()
        return await _decide_write(fleet, state, step.items[0])
    return await _decide_notices(fleet, state, step)


async def _decide_notices(fleet: Fleet, state: RunState, step: Step) -> RunState:
    judged = [await judge_item(fleet, state, item) for item in step.items]
    if any(j.verdict.effect is Effect.ALLOW for j in judged):
        return {"next": "act"}
    now_ms = fleet.clock.now_ms()
    with fleet.drafts.transaction() as tx:
        for one in judged:
            record_decision(tx, state, one, now_ms)
    return {"next": "plan"}


async def _decide_write(fleet: Fleet, state: RunState, item: Item) -> RunState:
    now_ms = fleet.clock.now_ms()
    if state.get("approval"):
        closed = _closed(fleet, state["approval"])
        if closed is not None:
            return _after_closed(closed)
    judged = await judge_item(fleet, state, item)
    effect = judged.verdict.effect
    if effect is Effect.ALLOW:
        return {"next": "act"}
    with fleet.drafts.transaction() as tx:
        record_decision(tx, state, judged, now_ms)
        if effect is Effect.REQUIRE_APPROVAL:
            return _ask(fleet, state, tx, judged, now_ms)
    return {"next": "escalate" if effect is Effect.ESCALATE else "plan", "approval": ""}


def _closed(fleet: Fleet, approval_id: str) -> ApprovalState | None:
    """The state of a request that will not come to an approval any more; None while it may."""
    with fleet.ledger.read() as tx:
        request = approvals.get(tx, approval_id)
    if request is None or request.approval.state in OVER:
        return ApprovalState.EXPIRED if request is None else request.approval.state
    return None


def _after_closed(state: ApprovalState) -> RunState:
    """Rejected: no act, go on without. Withdrawn: the breach is gone, look. Expired: a person must
    own it.
    """
    goto = {
        ApprovalState.REJECTED: "plan",
        ApprovalState.WITHDRAWN: "verify",
        ApprovalState.EXPIRED: "escalate",
    }
    return {"next": goto.get(state, "escalate"), "approval": ""}


def _ask(fleet: Fleet, state: RunState, tx: Tx, judged: Judged, now_ms: int) -> RunState:
    """Write the request for approval; the run waits for a vote on exactly this action."""
    need = judged.verdict.approval
    action = judged.candidate.action
    if need is None:
        return {"next": "plan", "approval": ""}
    asked = _asked_before(tx, judged, now_ms)
    if asked:
        return {"next": "approve", "approval": asked}
    approval_id = f"apr-{judged.digest[:12]}-{now_ms}"
    approval = Approval(
        approval_id=approval_id,
        action_id=action.action_id,
        action_digest=judged.digest,
        policy_version=fleet.policy.version,
        state=ApprovalState.PENDING,
        requester=action.requester,
        role=need.role,
        need=need.need,
        requested_ms=now_ms,
        expires_ms=now_ms + need.ttl_s * 1000,
    )
    payload = hitl_request(
        action.tool,
        action.arguments,
        judged.item.reason,
        {
            "approval_id": approval_id,
            "target": action.target,
            "service": action.service,
            "environment": action.environment,
            "action_digest": judged.digest,
            "role": need.role,
            "expires_ms": approval.expires_ms,
            "reasons": list(judged.verdict.reasons),
            "rules": list(judged.verdict.rules),
        },
    )
    approvals.request(
        tx,
        approval,
        incident_id=state["incident_id"],
        run_id=state["run_id"],
        payload=payload,
    )
    promise_reminders(tx, approval, run_id=state["run_id"], incident_id=state["incident_id"])
    runs.set_state(
        tx,
        state["run_id"],
        runs.RunState.WAITING_APPROVAL,
        now_ms=now_ms,
        approval_id=approval_id,
    )
    return {"next": "approve", "approval": approval_id}


def _asked_before(tx: Tx, judged: Judged, now_ms: int) -> str:
    """The pending request for exactly this action, if a crash came between asking and the
    checkpoint. Requests for what the action was before are closed: nobody is asked two things.
    """
    for known in approvals.of_action(tx, judged.candidate.action.action_id):
        if known.state is ApprovalState.PENDING and known.action_digest == judged.digest:
            return known.approval_id
        approvals.supersede(
            tx, known.approval_id, "the action is asked for anew as it stands now", now_ms=now_ms
        )
    return ""
