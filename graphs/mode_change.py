"""A person changes how far the fleet may go: narrower at once, wider only as the gate says.

A widening is one exact action of its own: judged when it is asked for, voted on by others, judged
again in the transaction of the deciding vote, and in force with it. It needs no executor and no
intent: its only effect is a row of the ledger, written with the evidence or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from loop4.canonical import digest
from loop4.domain import (
    Action,
    Approval,
    ApprovalState,
    Effect,
    Fact,
    Json,
    JsonObject,
    Mode,
    ModeSetting,
    RequesterKind,
    ToolClass,
    Verdict,
)
from loop4.ledger import approvals, evidence, modes, parameters
from loop4.ledger.approvals import Request, VoteResult
from loop4.ledger.ledger import Tx
from loop4.policies.approval import action_digest
from loop4.policies.gate import judge
from loop4.policies.mode_change import FILES, ModeChange, ModeEffect, effect_of
from loop4.policies.people import Person, change_fault
from loop4.policies.policy import Policy
from loop4.policies.rules import AGENTS

WIDEN = "fleet.widen_mode"


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of it: `done`, `asked` (with the request), `unchanged` or `refused` (with why)."""

    outcome: str
    before: Mode
    after: Mode
    reasons: tuple[str, ...] = ()
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What came of a widening that people approved; `reasons` say why it was not done."""

    is_done: bool
    mode: Mode
    scope: str
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """For the voter."""
        return {
            "done": self.is_done,
            "scope": self.scope,
            "mode": self.mode.value,
            "reasons": list(self.reasons),
        }


def change_mode(
    tx: Tx, policy: Policy, change: ModeChange, person: Person, reason: str, now_ms: int
) -> Changed:
    """Narrow at once, or ask the others for a widening. Every answer but `unchanged` is evidence.

    `policy` is that of the files as they stand; what the ledger sets is read here.
    """
    effect = effect_of(policy, modes.read(tx), change)
    refusal = change_fault(person) or _silence_fault(change)
    if refusal:
        _record_refusal(tx, change, person, reason, refusal, now_ms)
        return Changed("refused", effect.before, effect.before, (refusal,))
    if effect.is_wider:
        return _ask(tx, policy, change, effect, person, reason, now_ms)
    if not _put(tx, change, person.name, reason, now_ms):
        return Changed("unchanged", effect.before, effect.before)
    _supersede(tx, change, now_ms)
    return Changed("done", effect.before, effect.after)


def is_widening(request: Request) -> bool:
    """Whether the request asks for a wider mode."""
    return _asked(request)[0] == WIDEN


def cast_vote(
    tx: Tx, policy: Policy, approval_id: str, person: Person, approve: bool, now_ms: int
) -> tuple[VoteResult, Carried | None]:
    """Count a vote on a widening; the one that decides brings it into force, if the gate says so
    once more. None: nothing was to be done yet.
    """
    result = approvals.vote(tx, approval_id, person.name, person.roles, approve, now_ms)
    known = approvals.get(tx, approval_id)
    if not result.accepted or known is None or known.approval.state is not ApprovalState.APPROVED:
        return result, None
    carried = _carry_out(tx, policy, known, now_ms)
    after = approvals.get(tx, approval_id)
    return replace(result, approval=after.approval if after else None), carried


def _silence_fault(change: ModeChange) -> str:
    """Nobody suppresses pages alone: the files may bind `notify` to observe, a row may not."""
    if change.tool_class is ToolClass.NOTIFY and change.mode is Mode.OBSERVE:
        return "a mode does not silence the fleet; plan a maintenance window in calendar.yaml"
    return ""


def _put(
    tx: Tx, change: ModeChange, by: str, reason: str, now_ms: int, approval_id: str = ""
) -> bool:
    """Write the row. False: it stood there so. A narrower one keeps the approval of a wider one."""
    key = change.environment, change.service, change.tool_class
    if change.mode is None:
        return modes.clear(tx, *key, by=by, reason=reason, now_ms=now_ms)
    known = modes.find(tx, *key)
    if (
        known is not None
        and known.setting.mode is change.mode
        and not (approval_id or known.problem)
    ):
        return False
    if not approval_id and known is not None and known.setting.is_approved:
        approval_id = known.approval_id
    modes.put(
        tx, ModeSetting(*key, change.mode), by=by, reason=reason, now_ms=now_ms,
        approval_id=approval_id,
    )  # fmt: skip
    return True


def _ask(
    tx: Tx,
    policy: Policy,
    change: ModeChange,
    effect: ModeEffect,
    person: Person,
    reason: str,
    now_ms: int,
) -> Changed:
    """Judge the widening, and write the request if the gate wants one."""
    known = _pending(tx, change, now_ms)
    if known is not None:
        return Changed("asked", effect.before, effect.after, (), known)
    wanted = f"mode-{digest([change.arguments(effect.before), person.name, now_ms])[:24]}"
    action = _action(tx, policy, change, effect, person.name, wanted)
    verdict = judge(action, _facts(tx, action, effect, now_ms), _executable(policy), (), now_ms)
    _record(tx, action, _facts(tx, action, effect, now_ms), verdict, reason, now_ms)
    need = verdict.approval
    if verdict.effect is not Effect.REQUIRE_APPROVAL or need is None:
        return Changed("refused", effect.before, effect.before, verdict.reasons)
    approval = Approval(
        approval_id=f"apr-{action_digest(action, policy.version)[:12]}-{now_ms}",
        action_id=action.action_id,
        action_digest=action_digest(action, policy.version),
        policy_version=policy.version,
        state=ApprovalState.PENDING,
        requester=person.name,
        role=need.role,
        need=need.need,
        requested_ms=now_ms,
        expires_ms=now_ms + need.ttl_s * 1000,
    )
    payload: JsonObject = {
        "action_requests": [{"name": WIDEN, "args": action.arguments, "description": reason}],
        "review_configs": [{"action_name": WIDEN, "allowed_decisions": ["approve", "reject"]}],
        "loop4": {
            "vote_with": "loop4 approvals approve|reject",
            "approval_id": approval.approval_id,
            "target": action.target,
            "environment": change.environment,
            "services": list(change.services),
            "action_digest": approval.action_digest,
            "role": need.role,
            "expires_ms": approval.expires_ms,
            "reasons": list(verdict.reasons),
            "rules": list(verdict.rules),
        },
    }
    approvals.request(tx, approval, incident_id="", run_id="", payload=payload)
    asked = approvals.get(tx, approval.approval_id)
    return Changed("asked", effect.before, effect.after, verdict.reasons, asked)


def _carry_out(tx: Tx, policy: Policy, request: Request, now_ms: int) -> Carried:
    """Judge the approved widening once more; set the mode, or close the request and say why."""
    approval = request.approval
    change, reason = _change(request)
    effect = effect_of(policy, modes.read(tx), change)
    action = _action(tx, policy, change, effect, approval.requester, approval.action_id)
    facts = _facts(tx, action, effect, now_ms)
    verdict = judge(action, facts, _executable(policy), (approval,), now_ms)
    _record(tx, action, facts, verdict, reason, now_ms)
    allowed = verdict.effect is Effect.ALLOW and approvals.consume(
        tx, approval.approval_id, action_digest(action, policy.version), policy.version, now_ms
    )
    if not allowed:
        why = "; ".join(verdict.reasons) or "it can no longer be consumed"
        approvals.withdraw(tx, approval.approval_id, f"not carried out: {why}", now_ms=now_ms)
        return Carried(False, effect.before, change.scope, verdict.reasons)
    _put(tx, change, approval.requester, reason, now_ms, approval.approval_id)
    _supersede(tx, change, now_ms)
    present = policy.under(modes.read(tx))
    mode = present.mode_for(change.tool_class, change.environment, change.service)
    return Carried(True, mode, change.scope)


def _supersede(tx: Tx, change: ModeChange, now_ms: int) -> None:
    """What others were asked about the mode as it was before is no question any more."""
    for request in approvals.pending(tx):
        if is_widening(request) and _change(request)[0].scope == change.scope:
            approvals.supersede(
                tx, request.approval.approval_id, "the mode was changed meanwhile", now_ms=now_ms
            )


def _pending(tx: Tx, change: ModeChange, now_ms: int) -> Request | None:
    """The open request for this very change, whoever asked."""
    for request in approvals.pending(tx):
        if request.approval.expires_ms > now_ms and is_widening(request):
            asked = _change(request)[0]
            if asked.scope == change.scope and asked.mode is change.mode:
                return request
    return None


def _action(
    tx: Tx, policy: Policy, change: ModeChange, effect: ModeEffect, requester: str, action_id: str
) -> Action:
    """The exact act. What is set for the scope now, and for all of its environment, is the
    target's revision: an approval of the change of another state fits no more.
    """
    scopes = {(change.environment, change.service), (change.environment, "")}
    revision: Json = [
        [row.name, str(row.setting.mode), row.set_ms, row.approval_id]
        for row in modes.rows(tx)
        if (row.setting.environment, row.setting.service) in scopes
        and row.setting.tool_class is change.tool_class
    ]
    return Action(
        action_id=action_id,
        incident_id="",
        tool=WIDEN,
        target=modes.name_of(change.environment, change.service, change.tool_class),
        service=change.service,
        environment=change.environment,
        arguments=change.arguments(effect.before),
        target_revision=digest(revision),
        agent="person",
        requester=requester,
        requester_kind=RequesterKind.AGENT if requester in AGENTS else RequesterKind.PERSON,
    )


def _facts(tx: Tx, action: Action, effect: ModeEffect, now_ms: int) -> Mapping[str, Fact]:
    """All from the ledger and the files; nothing that the request says fills one."""
    paused = parameters.get(tx, parameters.PAUSED, now_ms) is not None
    return {
        "environment": Fact(action.environment, now_ms, "facts"),
        "requester_kind": Fact(action.requester_kind.value, now_ms, "people"),
        "fleet_paused": Fact(paused, now_ms, "ledger"),
        "mode_before": Fact(effect.before.value, now_ms, "ledger"),
        "mode_after": Fact(effect.after.value, now_ms, "ledger"),
        "within_ceiling": Fact(effect.is_within_ceiling, now_ms, "bindings"),
    }


def _executable(policy: Policy) -> Policy:
    """The act is carried out here, whatever executors a graph has."""
    return policy if policy.executors is None else replace(policy, executors=frozenset((WIDEN,)))


def _record(
    tx: Tx,
    action: Action,
    facts: Mapping[str, Fact],
    verdict: Verdict,
    reason: str,
    now_ms: int,
) -> None:
    body: JsonObject = {
        "tool": action.tool,
        "target": action.target,
        "service": action.service,
        "environment": action.environment,
        "requester_kind": action.requester_kind.value,
        "arguments": action.arguments,
        "action_digest": action_digest(action, verdict.policy_version),
        "target_revision": action.target_revision,
        "agent": action.agent,
        "requester": action.requester,
        "reason": reason,
        "facts": {
            name: {"value": f.value, "at_ms": f.at_ms, "source": f.source}
            for name, f in sorted(facts.items())
        },
        "effect": verdict.effect.value,
        "decided": verdict.decided.value,
        "rules": list(verdict.rules),
        "reasons": list(verdict.reasons),
        "mode": verdict.mode.value,
        "policy_version": verdict.policy_version,
        "approval_id": verdict.approval_id,
    }
    evidence.append(tx, "decision", "", "", body, at_ms=now_ms, action_id=action.action_id)


def _record_refusal(
    tx: Tx, change: ModeChange, person: Person, reason: str, refusal: str, now_ms: int
) -> None:
    body: JsonObject = {
        "scope": change.scope,
        "mode": str(change.mode or FILES),
        "person": person.name,
        "roles": list(person.roles),
        "reason": reason,
        "refused": refusal,
    }
    evidence.append(tx, "mode_refused", "", "", body, at_ms=now_ms)


def _asked(request: Request) -> tuple[str, Mapping[str, Json], str]:
    """Tool, arguments and description of what is asked; empty where it is of another shape."""
    match request.payload.get("action_requests"):
        case [{"name": str(name), "args": dict(arguments), **rest}, *_]:
            return name, arguments, str(rest.get("description", ""))
    return "", {}, ""


def _change(request: Request) -> tuple[ModeChange, str]:
    """The change that a request asks for, and its reason."""
    _, arguments, reason = _asked(request)
    more = request.payload.get("loop4")
    services = more.get("services") if isinstance(more, dict) else None
    said = str(arguments.get("mode"))
    change = ModeChange(
        environment=str(arguments.get("environment")),
        service=str(arguments.get("service")),
        tool_class=ToolClass(str(arguments.get("class"))),
        mode=None if said == FILES else Mode(said),
        services=tuple(str(s) for s in services) if isinstance(services, list) else (),
    )
    return change, reason
