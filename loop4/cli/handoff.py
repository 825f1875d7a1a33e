"""`loop4 handoff`: what happened in the last hours, for who comes on call."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.errors import UsageError

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.ledger.ledger import Tx

_SPAN = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def command(
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="How far back: minutes, hours or days, as 8h.")
    ] = "8h",
    data: DataOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what the fleet saw, did and was refused, and what waits for a person now."""
    now_ms = time.time_ns() // 1_000_000
    since_ms = now_ms - span_ms(since)
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        body = _look(tx, since_ms, now_ms)
    if as_json:
        typer.echo(json.dumps(body, indent=2, sort_keys=True))
        return
    for line in _lines(body):
        typer.echo(plain(line))


def span_ms(text: str) -> int:
    """A span such as `8h` in milliseconds. Raises UsageError for anything else."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"--since {plain(text)!r}: expected a number with m, h or d, such as 8h")
    return int(found[1]) * _UNITS_MS[found[2]]


def _look(tx: Tx, since_ms: int, now_ms: int) -> dict[str, Json]:
    from loop4.ledger import approvals, evidence, incidents, intents

    seen = [
        i
        for i in incidents.list_all(tx)
        if i.detected_ms >= since_ms or i.resolved_ms >= since_ms or i.state != "resolved"
    ]
    acts = [a for a in intents.list_all(tx, since_ms=since_ms) if "path" not in a.arguments]
    found = evidence.list_records(tx, kinds=("decision", "parameter"))
    records = [r for r in found if r.kind == "decision" and r.at_ms >= since_ms]
    changes = [r for r in found if r.kind == "parameter" and r.at_ms >= since_ms]
    denied = Counter(
        f"{r.body['tool']} on {r.body['target']}" for r in records if r.body["effect"] == "deny"
    )
    return {
        "since_ms": since_ms,
        "until_ms": now_ms,
        "incidents": [
            {
                "incident": i.incident_id,
                "severity": i.severity.value,
                "service": i.service,
                "state": i.state,
                "cause": i.cause,
                "detected_ms": i.detected_ms,
                "resolved_ms": i.resolved_ms,
            }
            for i in seen
        ],
        "acts": [
            {
                "action": a.action_id,
                "incident": a.incident_id,
                "tool": a.tool,
                "target": a.target,
                "state": a.state.value,
                "detail": a.detail,
                "approval": a.approval_id,
                "verified": a.verified.value if a.verified else "",
                "at_ms": a.intended_ms,
            }
            for a in acts
        ],
        "denied": dict(denied),
        "changes": [{**r.body, "at_ms": r.at_ms} for r in changes],
        "waiting": [
            {
                "approval": r.approval.approval_id,
                "incident": r.incident_id,
                "role": r.approval.role,
                "expires_ms": r.approval.expires_ms,
            }
            for r in approvals.pending(tx)
            if r.approval.expires_ms > now_ms
        ],
    }


def _lines(body: dict[str, Json]) -> list[str]:
    told = [f"from {utc(_whole(body['since_ms']))} to {utc(_whole(body['until_ms']))}"]
    seen, acts, waiting = (_rows(body, name) for name in ("incidents", "acts", "waiting"))
    told.append(f"{len(seen)} incidents, {len(acts)} acts, {len(waiting)} requests wait")
    for i in seen:
        lasted = ""
        if _whole(i["resolved_ms"]):
            seconds = (_whole(i["resolved_ms"]) - _whole(i["detected_ms"])) / 1000
            lasted = f" after {seconds:.0f} s"
        told.append(
            f"  {i['incident']}  {i['severity']}  {i['service']}: {i['state']}{lasted}; "
            f"cause {i['cause'] or 'not established'}"
        )
        for a in acts:
            if a["incident"] == i["incident"]:
                by = f", approved under {a['approval']}" if a["approval"] else ""
                proof = f", telemetry: {a['verified']}" if a["verified"] else ""
                told.append(
                    f"      {utc(_whole(a['at_ms']))}  {a['tool']} on {a['target']}: "
                    f"{a['state']}{by}{proof}"
                )
    for c in _rows(body, "changes"):
        value = "unset" if c["value"] is None else c["value"]
        told.append(
            f"{utc(_whole(c['at_ms']))}  {c['person']} set {c['parameter']}: {value}, {c['reason']}"
        )
    denied = body["denied"]
    if isinstance(denied, dict) and denied:
        told.append("denied: " + "; ".join(f"{name} ({n} times)" for name, n in denied.items()))
    unknown = [a for a in acts if a["state"] == "unknown"]
    for a in unknown:
        told.append(f"look yourself: nobody can tell whether {a['tool']} on {a['target']} was done")
    for w in waiting:
        told.append(f"waits for {w['role']}: {w['approval']} until {utc(_whole(w['expires_ms']))}")
    for i in seen:
        if i["state"] == "escalated":
            told.append(f"yours now: {i['incident']} was handed to a person")
    return told


def _rows(body: dict[str, Json], name: str) -> list[dict[str, Json]]:
    found = body[name]
    return [dict(r) for r in found if isinstance(r, dict)] if isinstance(found, list) else []


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0
