"""A person changes what is asked for: the request is rejected, and the changed action is a request
of their own, judged from the start. Both in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from loop4.canonical import digest
from loop4.domain import Event, EventKind, Json, JsonObject
from loop4.ledger import approvals, events, evidence
from loop4.ledger.approvals import Request
from loop4.ledger.ledger import Tx


@dataclass(frozen=True, slots=True)
class Edited:
    """Whether the edit counted, why not, and the event that asks for the changed action."""

    accepted: bool
    reason: str
    event_id: str = ""


def edit(
    tx: Tx,
    approval_id: str,
    person: str,
    roles: Sequence[str],
    changes: Mapping[str, str | int | bool],
    now_ms: int,
) -> Edited:
    """Reject the request as `person` and ask for the changed action in their name.

    Only arguments that the action has can change, to a value of the same type, and none that names
    its target: another target is another question. Nobody can vote on their own request, so
    somebody else has to approve the changed one if the gate wants an approval.
    """
    known = approvals.get(tx, approval_id)
    if known is None:
        return Edited(False, f"approval {approval_id!r} is unknown")
    problem = _problem(known, changes)
    if problem:
        return Edited(False, problem)
    voted = approvals.vote(tx, approval_id, person, roles, False, now_ms)
    if not voted.accepted:
        return Edited(False, voted.reason)
    event = _event(known, person, changes, now_ms)
    events.accept(tx, event, now_ms=now_ms)
    body: JsonObject = {
        "approval_id": approval_id,
        "person": person,
        "changes": dict(changes),
        "event_id": event.event_id,
    }
    evidence.append(
        tx,
        "approval_edited",
        known.incident_id,
        known.run_id,
        body,
        at_ms=now_ms,
        action_id=known.approval.action_id,
    )
    return Edited(True, "", event.event_id)


def _problem(known: Request, changes: Mapping[str, str | int | bool]) -> str:
    _, arguments = _action(known)
    target = _more(known).get("target")
    if not _more(known).get("service"):
        return "the request does not say which service it is for; reject it and ask anew"
    if not changes:
        return "nothing is changed; name an argument and its new value"
    for name, value in changes.items():
        if name not in arguments:
            there = ", ".join(sorted(arguments)) or "none"
            return f"the action has no argument {name!r}; it has: {there}"
        old = arguments[name]
        if type(old) is not type(value):
            return f"{name} is {old!r}; expected another {type(old).__name__}, not {value!r}"
        if old == target:
            return f"{name} names the target; ask for another action instead"
    if all(arguments[name] == value for name, value in changes.items()):
        return "nothing is changed: the arguments are as they were"
    return ""


def _action(known: Request) -> tuple[str, JsonObject]:
    asked = cast("Sequence[Mapping[str, Json]]", known.payload["action_requests"])[0]
    return str(asked["name"]), cast("JsonObject", asked["args"])


def _more(known: Request) -> Mapping[str, Json]:
    return cast("Mapping[str, Json]", known.payload.get("loop4", {}))


def _event(
    known: Request, person: str, changes: Mapping[str, str | int | bool], now_ms: int
) -> Event:
    tool, arguments = _action(known)
    more = _more(known)
    wanted: JsonObject = {
        "tool": tool,
        "target": more.get("target", ""),
        "arguments": {**arguments, **changes},
    }
    service, environment = str(more.get("service", "")), str(more.get("environment", ""))
    event_id = f"request:{person}:{digest(wanted)[:12]}:{now_ms}"
    return Event(
        event_id=event_id,
        kind=EventKind.REQUEST,
        source="approvals",
        service=service,
        environment=environment,
        at_ms=now_ms,
        correlation=f"request/{environment}/{service}/{event_id}",
        request=wanted,
        requester=person,
    )
