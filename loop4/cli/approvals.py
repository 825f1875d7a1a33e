"""`loop4 approvals list | show | approve | reject | edit`: open questions, one person's answer.

The voter is whoever holds the token in LOOP4_TOKEN, looked up in people.yaml; nothing on the
command line names a person.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.cli.voter import OperationsOption, voter

if TYPE_CHECKING:
    from loop4.domain import JsonObject
    from loop4.graphs.mode_change import Carried
    from loop4.ledger.approvals import Request
    from loop4.ledger.ledger import Ledger
    from loop4.policies.policy import Policy

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="List requests for approval and vote on them.",
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the request.")]


@app.command("list")
def list_requests(
    every: Annotated[bool, typer.Option("--all", help="Closed requests too.")] = False,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the requests that wait for a vote, oldest first."""
    from loop4.ledger import approvals

    now_ms = _now_ms()
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        found = approvals.list_all(tx)
    shown = [request for request in found if every or _state(request, now_ms) == "pending"]
    if as_json:
        typer.echo(json.dumps([_as_json(request, now_ms) for request in shown], indent=2))
        return
    for request in shown:
        _print(request, now_ms)
    if not shown:
        typer.echo("no requests" if every else "nothing waits for approval")


@app.command()
def show(
    approval_id: IdArgument,
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one request: the exact action, why it is asked, and what became of it."""
    from loop4.errors import Loop4Error
    from loop4.ledger import approvals, evidence

    with open_ledger(data, db) as ledger, ledger.read() as tx:
        request = approvals.get(tx, approval_id)
        if request is None:
            raise Loop4Error(plain(f"approval {approval_id!r} is unknown; see `approvals list`"))
        records = [
            r
            for r in evidence.list_records(tx, request.incident_id)
            if r.action_id == request.approval.action_id
        ]
    history = [
        {"seq": r.seq, "at_ms": r.at_ms, "kind": r.kind, "body": dict(r.body)} for r in records
    ]
    if as_json:
        body = {**_as_json(request, _now_ms()), "history": history}
        typer.echo(json.dumps(body, indent=2))
        return
    _print(request, _now_ms())
    for record in records:
        typer.echo(plain(f"    {utc(record.at_ms)}  {_history_line(record.kind, record.body)}"))


@app.command()
def approve(
    approval_id: IdArgument,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote yes, as the person whose token is in LOOP4_TOKEN."""
    _vote(approval_id, True, data, db, operations, as_json=as_json)


@app.command()
def reject(
    approval_id: IdArgument,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote no, as the person whose token is in LOOP4_TOKEN. One no closes the request."""
    _vote(approval_id, False, data, db, operations, as_json=as_json)


@app.command()
def edit(
    approval_id: IdArgument,
    changes: Annotated[
        list[str],
        typer.Option("--set", metavar="NAME=VALUE", help="An argument's new value; repeatable."),
    ],
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject the request and ask for the changed action instead; somebody else must approve it."""
    from loop4.errors import Loop4Error
    from loop4.ledger.approval_edits import edit as submit

    wanted = dict(_change(text) for text in changes)
    person = voter(operations)
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        edited = submit(tx, approval_id, person.name, person.roles, wanted, _now_ms())
    if as_json:
        body = {
            "approval_id": approval_id,
            "person": person.name,
            "accepted": edited.accepted,
            "reason": edited.reason,
            "event_id": edited.event_id,
        }
        typer.echo(json.dumps(body, indent=2))
    if not edited.accepted:
        raise typer.Exit(1) if as_json else Loop4Error(plain(f"edit refused: {edited.reason}"))
    if not as_json:
        typer.echo(
            f"{person.name} rejected {plain(approval_id)} and asks for the changed action; "
            "`loop4 resume` has it judged"
        )


def _change(text: str) -> tuple[str, str | int | bool]:
    """NAME=VALUE with the value as JSON where it is a number or a truth value, else as text."""
    from loop4.errors import UsageError

    name, mark, value = text.partition("=")
    if not mark or not name:
        raise UsageError(f"--set {text!r}: expected NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    digits = value.removeprefix("-")
    return name, int(value) if digits.isascii() and digits.isdecimal() else value


def _vote(
    approval_id: str,
    yes: bool,
    data: Path | None,
    db: str | None,
    operations: Path | None,
    *,
    as_json: bool,
) -> None:
    from loop4.errors import Loop4Error
    from loop4.graphs.mode_change import cast_vote
    from loop4.ledger import approvals

    person = voter(operations)
    carried: Carried | None = None
    with open_ledger(data, db, read_only=False) as ledger:
        policy = _policy_of_widening(ledger, approval_id, operations)
        with ledger.transaction() as tx:
            if policy is None:
                result = approvals.vote(tx, approval_id, person.name, person.roles, yes, _now_ms())
            else:
                result, carried = cast_vote(tx, policy, approval_id, person, yes, _now_ms())
    approval = result.approval
    cast = sum(vote.approve for vote in approval.votes) if approval else 0
    if as_json:
        answer = {
            "approval_id": approval_id,
            "person": person.name,
            "accepted": result.accepted,
            "reason": result.reason,
            "state": approval.state.value if approval else "unknown",
            "approvals": cast,
            "need": approval.need if approval else 0,
            **({} if carried is None else {"carried_out": carried.to_json()}),
        }
        typer.echo(json.dumps(answer, indent=2))
    if not result.accepted:
        raise typer.Exit(1) if as_json else Loop4Error(plain(f"vote refused: {result.reason}"))
    if carried is not None and not carried.is_done:
        why = f"approved, but not carried out: {'; '.join(carried.reasons)}"
        raise typer.Exit(1) if as_json else Loop4Error(plain(why))
    if not as_json and approval is not None:
        said = "approved" if yes else "rejected"
        then = "; `loop4 resume` continues the run" if policy is None else ""
        if carried is not None:
            then = f"; {carried.scope} is {carried.mode} from the next decision on"
        typer.echo(
            f"{person.name} {said} {plain(approval_id)}: {approval.state.value} "
            f"({cast} of {approval.need}){plain(then)}"
        )


def _policy_of_widening(ledger: Ledger, approval_id: str, operations: Path | None) -> Policy | None:
    """The policy to judge a widening by; None for any other request."""
    from loop4.cli.fleet_mode import policy_of
    from loop4.graphs.mode_change import is_widening
    from loop4.ledger import approvals

    with ledger.read() as tx:
        known = approvals.get(tx, approval_id)
    return policy_of(operations) if known is not None and is_widening(known) else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _state(request: Request, now_ms: int) -> str:
    """The state as a voter would find it; the row itself changes at the next vote or resume."""
    approval = request.approval
    late = approval.state in ("pending", "approved") and now_ms >= approval.expires_ms
    return "expired" if late else approval.state.value


def _action(payload: JsonObject) -> tuple[str, JsonObject, str]:
    """Tool, arguments and description from a HITLRequest; empty where it is of another shape."""
    match payload.get("action_requests"):
        case [{"name": str(name), "args": dict(arguments), **rest}, *_]:
            return name, arguments, str(rest.get("description", ""))
    return "", {}, ""


def _print(request: Request, now_ms: int) -> None:
    approval = request.approval
    tool, arguments, description = _action(request.payload)
    votes = ", ".join(f"{vote.person} {'yes' if vote.approve else 'no'}" for vote in approval.votes)
    yes = sum(vote.approve for vote in approval.votes)
    lines = [
        f"{approval.approval_id}  {_state(request, now_ms)}  until {utc(approval.expires_ms)}",
        f"    {tool or 'action'} {json.dumps(arguments, ensure_ascii=False, sort_keys=True)}",
        f"    {request.incident_id or 'the fleet itself'}, asked by {approval.requester}; "
        f"role {approval.role}, {yes} of {approval.need} votes" + (f": {votes}" if votes else ""),
    ]
    lines += [f"    {line}" for line in description.splitlines() if line.strip()]
    lines += [f"    {request.reason}"] if request.reason else []
    for line in lines:
        typer.echo(plain(line))


def _history_line(kind: str, body: JsonObject) -> str:
    """One record of an action's way in a few words."""
    match kind:
        case "decision":
            rules, reasons = body.get("rules"), body.get("reasons")
            why = [str(r) for r in (*_list(rules), *_list(reasons))]
            return f"gate: {body.get('effect')} by {'; '.join(why) or 'no rule'}"
        case "vote":
            word = "yes" if body.get("approve") else "no"
            refused = f", refused: {body['reason']}" if not body.get("accepted") else ""
            return f"vote: {body.get('person')} {word}{refused}"
        case "outcome":
            return f"outcome: {body.get('state')} {body.get('detail')}"
        case _:
            return f"{kind}: {body.get('reason') or body.get('state') or ''}".rstrip(": ")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _as_json(request: Request, now_ms: int) -> dict[str, object]:
    approval = request.approval
    return {
        "approval_id": approval.approval_id,
        "state": _state(request, now_ms),
        "incident_id": request.incident_id,
        "run_id": request.run_id,
        "action_id": approval.action_id,
        "action_digest": approval.action_digest,
        "policy_version": approval.policy_version,
        "requester": approval.requester,
        "role": approval.role,
        "need": approval.need,
        "requested_ms": approval.requested_ms,
        "expires_ms": approval.expires_ms,
        "votes": [
            {"person": vote.person, "approve": vote.approve, "at_ms": vote.at_ms}
            for vote in approval.votes
        ],
        "reason": request.reason,
        "payload": request.payload,
    }
