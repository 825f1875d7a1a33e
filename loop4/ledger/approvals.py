"""Approvals: a request bound to one exact action, votes of people, and one consumption.

A vote is judged by who the caller authenticated, never by what a request claims. Each vote,
accepted or refused, becomes evidence; the one that decides also wakes the run, all in the caller's
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from loop4.domain import Approval, ApprovalState, JsonObject, RequesterKind, Vote
from loop4.errors import LedgerError
from loop4.ledger import evidence, outbox
from loop4.ledger.jsontext import decode, decode_object, encode
from loop4.ledger.ledger import Tx
from loop4.ledger.schema import approvals, votes

_OPEN = (ApprovalState.PENDING, ApprovalState.APPROVED)

_ALL = select(approvals).order_by(approvals.c.requested_ms, approvals.c.approval_id)
_BY_ID = _ALL.where(approvals.c.approval_id == bindparam("id"))
_OF_ACTION = _ALL.where(approvals.c.action_id == bindparam("of"))
_PENDING = _ALL.where(approvals.c.state == ApprovalState.PENDING.value)
_LATE = _ALL.where(approvals.c.state.in_(_OPEN), approvals.c.expires_ms <= bindparam("now"))
_VOTES = (
    select(votes)
    .where(votes.c.approval_id == bindparam("of"))
    .order_by(votes.c.at_ms, votes.c.person)
)


@dataclass(frozen=True, slots=True)
class Request:
    """An approval with what belongs to it: its run, what the person is shown, how it closed."""

    approval: Approval
    incident_id: str
    run_id: str
    payload: JsonObject
    closed_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class VoteResult:
    """Whether a vote counted, why not, and the approval as it stands now (None: unknown id)."""

    accepted: bool
    reason: str
    approval: Approval | None


def request(
    tx: Tx, approval: Approval, *, incident_id: str, run_id: str, payload: JsonObject
) -> bool:
    """Store a pending request. False: it is stored already, unchanged (a node runs again).

    `payload` is what the person is shown; secrets in its words become hashes. Raises LedgerError if
    the id stands for another action, or if the request could be met by nobody or by no vote.
    """
    if approval.state is not ApprovalState.PENDING or approval.votes:
        raise LedgerError(f"approval {approval.approval_id!r} must be requested pending, unvoted")
    if approval.need < 1 or not approval.role or approval.expires_ms <= approval.requested_ms:
        raise LedgerError(
            f"approval {approval.approval_id!r} needs a role, at least one vote and a time to vote"
        )
    known = get(tx, approval.approval_id)
    if known is not None:
        if known.approval.action_digest != approval.action_digest:
            raise LedgerError(
                f"approval {approval.approval_id!r} is bound to another action; use a new id"
            )
        return False
    tx.change(
        insert(approvals).values(
            approval_id=approval.approval_id,
            incident_id=incident_id,
            run_id=run_id,
            action_id=approval.action_id,
            action_digest=approval.action_digest,
            policy_version=approval.policy_version,
            state=approval.state.value,
            requester=approval.requester,
            role=approval.role,
            need=approval.need,
            requested_ms=approval.requested_ms,
            expires_ms=approval.expires_ms,
            payload=encode(_without_secrets(tx, payload), f"approval {approval.approval_id!r}"),
        )
    )
    return True


def vote(
    tx: Tx,
    approval_id: str,
    person: str,
    roles: Sequence[str],
    approve: bool,
    now_ms: int,
    *,
    kind: RequesterKind = RequesterKind.PERSON,
    trace_id: str = "",
) -> VoteResult:
    """Count one authenticated person's vote, or refuse it and say why.

    One rejection closes the request; `need` approvals of different people open it. A vote at or
    after the deadline expires the request. Who decided and who was refused becomes evidence.
    """
    known = get(tx, approval_id)
    reason = _refusal(known, approval_id, person, roles, now_ms, kind)
    if known is not None and not reason:
        tx.change(
            insert(votes).values(
                approval_id=approval_id,
                person=person,
                roles=encode(list(roles), f"roles of {person!r}"),
                approve=int(approve),
                at_ms=now_ms,
            )
        )
        _count(tx, approval_id, known.approval.need, now_ms)
    elif known is not None and _is_late(known.approval, now_ms):
        _close(tx, known, ApprovalState.EXPIRED, "nobody answered in time", now_ms)
        _wake(tx, known, ApprovalState.EXPIRED, now_ms)
    after = get(tx, approval_id)
    evidence.append(
        tx,
        "vote",
        known.incident_id if known else "",
        known.run_id if known else "",
        {
            "approval_id": approval_id,
            "person": person,
            "roles": list(roles),
            "voter_kind": kind.value,
            "approve": approve,
            "accepted": not reason,
            "reason": reason,
            "state": after.approval.state.value if after else "unknown",
            "action_digest": after.approval.action_digest if after else "",
            "policy_version": after.approval.policy_version if after else "",
        },
        at_ms=now_ms,
        action_id=known.approval.action_id if known else "",
        trace_id=trace_id,
    )
    return VoteResult(not reason, reason, after.approval if after else None)


def consume(tx: Tx, approval_id: str, action_digest: str, policy_version: str, now_ms: int) -> bool:
    """Use an approval up. True once, and only for the action and policy that it was given for."""
    changed = tx.change(
        update(approvals)
        .where(
            approvals.c.approval_id == approval_id,
            approvals.c.state == ApprovalState.APPROVED.value,
            approvals.c.action_digest == action_digest,
            approvals.c.policy_version == policy_version,
            approvals.c.expires_ms > now_ms,
        )
        .values(state=ApprovalState.CONSUMED.value, closed_ms=now_ms)
    )
    return changed == 1


def expire(tx: Tx, now_ms: int) -> tuple[str, ...]:
    """Close what was not decided or not used in time, wake its runs, and return the ids."""
    late = _requests(tx, _LATE, now=now_ms)
    for known in late:
        _close(tx, known, ApprovalState.EXPIRED, "not decided or not used in time", now_ms)
        _wake(tx, known, ApprovalState.EXPIRED, now_ms)
    return tuple(known.approval.approval_id for known in late)


def withdraw(tx: Tx, approval_id: str, reason: str, *, now_ms: int) -> bool:
    """Close a request that is no longer needed. False: it is unknown or closed already."""
    return _close_open(tx, approval_id, ApprovalState.WITHDRAWN, reason, now_ms)


def supersede(tx: Tx, approval_id: str, reason: str, *, now_ms: int) -> bool:
    """Close a request that a newer one replaces. False: it is unknown or closed already."""
    return _close_open(tx, approval_id, ApprovalState.SUPERSEDED, reason, now_ms)


def get(tx: Tx, approval_id: str) -> Request | None:
    """Return a request, or None."""
    found = _requests(tx, _BY_ID, id=approval_id)
    return found[0] if found else None


def pending(tx: Tx) -> tuple[Request, ...]:
    """Return the requests that wait for votes, oldest first; late ones too until `expire`."""
    return _requests(tx, _PENDING)


def list_all(tx: Tx) -> tuple[Request, ...]:
    """Return all requests, oldest first."""
    return _requests(tx, _ALL)


def of_action(tx: Tx, action_id: str) -> tuple[Approval, ...]:
    """Return the approvals of one action in any state, oldest first: input of the gate."""
    return tuple(known.approval for known in _requests(tx, _OF_ACTION, of=action_id))


def _without_secrets(tx: Tx, payload: JsonObject) -> JsonObject:
    """What is shown, with secrets in its words as hashes. The arguments stay as they will run: who
    approves must see exactly those. An agent's were masked when they were drafted.
    """
    masked = dict(evidence.redacted(tx, payload))
    asked, shown = payload.get("action_requests"), masked.get("action_requests")
    if isinstance(asked, list) and isinstance(shown, list):
        masked["action_requests"] = [
            {**new, "args": old["args"]}
            if isinstance(old, dict) and isinstance(new, dict) and "args" in old
            else new
            for old, new in zip(asked, shown, strict=True)
        ]
    return masked


def _refusal(
    known: Request | None,
    approval_id: str,
    person: str,
    roles: Sequence[str],
    now_ms: int,
    kind: RequesterKind,
) -> str:
    if known is None:
        return f"approval {approval_id!r} is unknown"
    approval = known.approval
    if kind is not RequesterKind.PERSON or not person.strip():
        return "only a person may vote"
    if _is_late(approval, now_ms):
        return f"approval {approval_id!r} expired"
    if approval.state is not ApprovalState.PENDING:
        return f"approval {approval_id!r} is {approval.state.value}, not pending"
    if _same(person, approval.requester):
        return f"{person!r} requested this action and cannot vote on it"
    if approval.role not in roles:
        held = ", ".join(roles) or "none"
        return f"{person!r} needs the role {approval.role!r} to vote (roles held: {held})"
    if any(_same(person, vote.person) for vote in approval.votes):
        return f"{person!r} voted already"
    return ""


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _is_late(approval: Approval, now_ms: int) -> bool:
    return approval.state in _OPEN and now_ms >= approval.expires_ms


def _count(tx: Tx, approval_id: str, need: int, now_ms: int) -> None:
    known = get(tx, approval_id)
    if known is None:
        return
    cast = known.approval.votes
    if not all(vote.approve for vote in cast):
        state, who = ApprovalState.REJECTED, [vote.person for vote in cast if not vote.approve]
    elif len(cast) >= need:
        state, who = ApprovalState.APPROVED, [vote.person for vote in cast]
    else:
        return
    tx.change(
        update(approvals)
        .where(approvals.c.approval_id == approval_id)
        .values(
            state=state.value,
            reason=f"{state.value} by {', '.join(who)}",
            closed_ms=0 if state is ApprovalState.APPROVED else now_ms,
        )
    )
    _wake(tx, known, state, now_ms)


def _close_open(tx: Tx, approval_id: str, state: ApprovalState, reason: str, now_ms: int) -> bool:
    known = get(tx, approval_id)
    if known is None or known.approval.state not in _OPEN:
        return False
    _close(tx, known, state, reason, now_ms)
    return True


def _close(tx: Tx, known: Request, state: ApprovalState, reason: str, now_ms: int) -> None:
    approval, reason = known.approval, evidence.redacted_text(tx, reason)
    tx.change(
        update(approvals)
        .where(approvals.c.approval_id == approval.approval_id)
        .values(state=state.value, closed_ms=now_ms, reason=reason)
    )
    evidence.append(
        tx,
        "approval_closed",
        known.incident_id,
        known.run_id,
        {"approval_id": approval.approval_id, "state": state.value, "reason": reason},
        at_ms=now_ms,
        action_id=approval.action_id,
    )


def _wake(tx: Tx, known: Request, state: ApprovalState, now_ms: int) -> None:
    """Promise that the run goes on; a change of the fleet itself has none."""
    if not known.run_id:
        return
    approval_id = known.approval.approval_id
    outbox.put(
        tx,
        f"resume:{known.run_id}:{approval_id}:{state.value}",
        "resume",
        {"run_id": known.run_id, "approval_id": approval_id},
        now_ms=now_ms,
    )


def _requests(
    tx: Tx, statement: Select[tuple[object, ...]], **values: str | int
) -> tuple[Request, ...]:
    found = tx.rows(statement, values)
    return tuple(_request(row, _votes(tx, row["approval_id"])) for row in found)


def _votes(tx: Tx, approval_id: str) -> tuple[Vote, ...]:
    found = tx.rows(_VOTES, {"of": approval_id})
    return tuple(
        Vote(row["person"], _roles(row["roles"]), bool(row["approve"]), row["at_ms"])
        for row in found
    )


def _roles(text: str) -> tuple[str, ...]:
    value = decode(text, "roles of a vote")
    return tuple(str(role) for role in value) if isinstance(value, list) else ()


def _request(row: RowMapping, cast: tuple[Vote, ...]) -> Request:
    approval = Approval(
        approval_id=row["approval_id"],
        action_id=row["action_id"],
        action_digest=row["action_digest"],
        policy_version=row["policy_version"],
        state=ApprovalState(row["state"]),
        requester=row["requester"],
        role=row["role"],
        need=row["need"],
        requested_ms=row["requested_ms"],
        expires_ms=row["expires_ms"],
    )
    return Request(
        approval=replace(approval, votes=cast),
        incident_id=row["incident_id"],
        run_id=row["run_id"],
        payload=decode_object(row["payload"], f"approval {row['approval_id']!r}"),
        closed_ms=row["closed_ms"],
        reason=row["reason"],
    )
