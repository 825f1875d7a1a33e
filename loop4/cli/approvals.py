"""`loop4 approvals list | approve | reject`: the open questions, and one person's answer.

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

if TYPE_CHECKING:
    from loop4.domain import JsonObject
    from loop4.ledger.approvals import Request
    from loop4.policies.people import Person

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="List requests for approval and vote on them.",
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the request.")]
OperationsOption = Annotated[
    Path | None,
    typer.Option("--operations", metavar="DIR", help="Operations folder; default: settings."),
]


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
    from loop4.ledger import approvals

    person = _voter(operations)
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        result = approvals.vote(tx, approval_id, person.name, person.roles, yes, _now_ms())
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
        }
        typer.echo(json.dumps(answer, indent=2))
    if not result.accepted:
        raise typer.Exit(1) if as_json else Loop4Error(plain(f"vote refused: {result.reason}"))
    if not as_json and approval is not None:
        said = "approved" if yes else "rejected"
        typer.echo(
            f"{person.name} {said} {plain(approval_id)}: {approval.state.value} "
            f"({cast} of {approval.need}); `loop4 resume` continues the run"
        )


def _voter(operations: Path | None) -> Person:
    """The person who holds LOOP4_TOKEN. Raises for no token, no people.yaml, an unknown token."""
    from loop4.errors import Loop4Error, UsageError
    from loop4.policies.people import People
    from loop4.settings import load_settings

    settings = load_settings()
    token = settings.token.reveal()
    if not token:
        raise UsageError("LOOP4_TOKEN is not set; set it to your token to vote")
    folder = operations or settings.operations
    if folder is None:
        raise UsageError("no operations folder; pass --operations DIR or set LOOP4_OPERATIONS")
    path = folder / "policies" / "people.yaml"
    person = People.load(path).find_voter(token, now_ms=_now_ms())
    if person is None:
        raise Loop4Error(f"the token in LOOP4_TOKEN belongs to nobody in {str(path)!r}")
    return person


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
        f"    {request.incident_id}, asked by {approval.requester}; role {approval.role}, "
        f"{yes} of {approval.need} votes" + (f": {votes}" if votes else ""),
    ]
    lines += [f"    {line}" for line in description.splitlines() if line.strip()]
    lines += [f"    {request.reason}"] if request.reason else []
    for line in lines:
        typer.echo(plain(line))


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
