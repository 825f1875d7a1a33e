"""`loop4 why ID`: what happened to an incident, an action or a request for approval, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.cli.story import lines
from loop4.errors import UsageError

if TYPE_CHECKING:
    from loop4.domain import Incident
    from loop4.ledger.approvals import Request
    from loop4.ledger.evidence import EvidenceRecord
    from loop4.ledger.intents import Intent
    from loop4.ledger.ledger import Tx

SHORTEST = 8  # digits of an action's id that name it


@dataclass(frozen=True, slots=True)
class Answer:
    """What the id stands for in one sentence, and the records that belong to it."""

    kind: str
    name: str
    summary: str
    records: Sequence[EvidenceRecord]


def command(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="An incident, an action, or a request.")
    ],
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what happened and why, from the evidence alone."""
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        answer = _find(tx, name)
    told = lines(answer.records)
    if as_json:
        body = {
            "kind": answer.kind,
            "id": answer.name,
            "summary": answer.summary,
            "lines": [line.to_json() for line in told],
        }
        typer.echo(json.dumps(body, indent=2))
        return
    typer.echo(plain(answer.summary))
    for line in told:
        for row in line.text():
            typer.echo(row)


def _find(tx: Tx, name: str) -> Answer:
    from loop4.ledger import approvals, evidence, incidents, intents

    incident = incidents.get(tx, name)
    if incident is not None:
        return Answer("incident", name, _incident(incident), evidence.list_records(tx, name))
    request = approvals.get(tx, name)
    if request is not None:
        records = evidence.list_records(tx, request.incident_id)
        mine = [r for r in records if _is_about(r, request.approval.action_id, name)]
        return Answer("request", name, _request(request), mine)
    acts = [a for a in intents.list_all(tx) if a.action_id.startswith(name)]
    if len(name) < SHORTEST or not acts:
        raise UsageError(
            f"the ledger knows no incident, action or request {plain(name)!r}; see `loop4 status`, "
            "`loop4 approvals list` and `loop4 evidence show`"
        )
    if len(acts) > 1:
        raise UsageError(f"{plain(name)!r} names {len(acts)} actions; use more digits")
    act = acts[0]
    records = evidence.list_records(tx, act.incident_id)
    mine = [r for r in records if _is_about(r, act.action_id, act.approval_id)]
    return Answer("action", act.action_id, _act(act), mine)


def _is_about(record: EvidenceRecord, action_id: str, approval_id: str) -> bool:
    """The action's own records, votes on its request, and what telemetry said afterwards."""
    if record.action_id == action_id or record.kind in ("finding", "verification", "triage"):
        return True
    return bool(approval_id) and record.body.get("approval_id") == approval_id


def _incident(incident: Incident) -> str:
    parts = [
        f"{incident.incident_id}: {incident.severity.value} of {incident.service} in "
        f"{incident.environment}, {incident.state}; detected {utc(incident.detected_ms)}"
    ]
    if incident.mitigated_ms:
        parts.append(f"mitigated {utc(incident.mitigated_ms)}")
    if incident.resolved_ms:
        parts.append(f"resolved {utc(incident.resolved_ms)}")
    parts.append(f"cause {incident.cause or 'not established'}")
    return ", ".join(parts)


def _request(request: Request) -> str:
    approval = request.approval
    cast = ", ".join(f"{v.person} {'yes' if v.approve else 'no'}" for v in approval.votes)
    return (
        f"{approval.approval_id} of {request.incident_id}: {approval.state.value}; asked by "
        f"{approval.requester} of {approval.role}, {approval.need} needed; "
        f"votes: {cast or 'none'}"
    )


def _act(act: Intent) -> str:
    verified = f"; telemetry afterwards: {act.verified.value}" if act.verified else ""
    by = f"; approved under {act.approval_id}" if act.approval_id else ""
    return (
        f"{act.tool} on {act.target} for {act.incident_id}: {act.state.value}, {act.detail}"
        f"{by}{verified}"
    )
