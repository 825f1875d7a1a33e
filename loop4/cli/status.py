"""`loop4 status`: whether the fleet is on duty, what is open, and what waits for whom."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.cli.voter import OperationsOption, operations_folder

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.ledger.ledger import Tx


def command(
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how the fleet is now."""
    from loop4.heartbeat import last_beat
    from loop4.ledger.runner import runner_of
    from loop4.settings import load_settings

    folder: Path = data or load_settings().data
    now_ms = time.time_ns() // 1_000_000
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        body = _look(tx, now_ms)
        body |= _modes(tx, operations)
    beat_ms = last_beat(folder)
    body["runner"] = runner_of(folder)
    body["heartbeat_age_s"] = round((now_ms - beat_ms) / 1000, 1) if beat_ms else None
    if as_json:
        typer.echo(json.dumps(body, indent=2, sort_keys=True))
        return
    for line in _lines(body):
        typer.echo(plain(line))


def _look(tx: Tx, now_ms: int) -> dict[str, Json]:
    from loop4.domain import IntentState
    from loop4.ledger import approvals, events, incidents, intents, leases, runs

    opened = incidents.list_open(tx)
    return {
        "at_ms": now_ms,
        "incidents_open": [
            {
                "incident": i.incident_id,
                "severity": i.severity.value,
                "service": i.service,
                "state": i.state,
                "detected_ms": i.detected_ms,
            }
            for i in opened
        ],
        "runs": [
            {
                "run": r.run_id,
                "incident": r.incident_id,
                "state": r.state.value,
                "wake_at_ms": r.wake_at_ms,
            }
            for r in runs.list_open(tx)
        ],
        "approvals_waiting": [
            {
                "approval": r.approval.approval_id,
                "incident": r.incident_id,
                "role": r.approval.role,
                "expires_ms": r.approval.expires_ms,
            }
            for r in approvals.pending(tx)
            if r.approval.expires_ms > now_ms
        ],
        "intents_unknown": intents.count(tx, IntentState.UNKNOWN),
        "intents_in_flight": intents.count(tx, IntentState.INTENDED),
        "events_unplaced": len(events.unassigned(tx)),
        "drivers": [
            {"of": lease.run_id, "by": lease.holder, "takeovers": lease.takeovers}
            for lease in leases.list_held(tx)
            if lease.is_held(now_ms)
        ],
    }


def _modes(tx: Tx, operations: Path | None) -> dict[str, Json]:
    """How far the fleet may go now. Without an operations folder only what people set is known; a
    policy that cannot be loaded is told, and hides nothing else.
    """
    from loop4.cli.fleet_mode import modes_now, row_json
    from loop4.errors import PolicyError
    from loop4.ledger import modes

    rows = modes.rows(tx)
    said: list[Json] = [row_json(row) for row in rows]
    if operations_folder(operations, required=False) is None:
        return {"modes": [], "modes_set": said}
    try:
        lines = modes_now(operations, None, rows)
    except PolicyError as error:
        return {"modes": [], "modes_set": said, "policy_fault": str(error)}
    return {"modes": [line.to_json() for line in lines], "modes_set": said}


def _lines(body: dict[str, Json]) -> list[str]:
    runner, age = body["runner"], body["heartbeat_age_s"]
    said = [f"on duty: process {runner}" if runner else "nobody is on duty in this data folder"]
    if age is not None:
        said.append(f"last heartbeat {age} s ago")
    told: list[str] = ["; ".join(said)]
    for m in _rows(body, "modes"):
        if m["class"] == "write":
            place = f"{m['environment']}/{m['service']}" if m["service"] else m["environment"]
            files = f" (the files say {m['files']})" if m["files"] != m["mode"] else ""
            told.append(f"mode of {place}: {m['mode']}{files}")
    for s in _rows(body, "modes_set"):
        if s["problem"]:
            told.append(f"{s['name']}: {s['problem']}")
    if "policy_fault" in body:
        told.append(f"modes unknown, the policy cannot be loaded: {body['policy_fault']}")
    for i in _rows(body, "incidents_open"):
        told.append(
            f"{i['incident']}  {i['severity']}  {i['service']}  {i['state']}  "
            f"since {utc(_whole(i['detected_ms']))}"
        )
    if not _rows(body, "incidents_open"):
        told.append("no incident is open")
    for r in _rows(body, "runs"):
        wake = _whole(r["wake_at_ms"])
        told.append(f"{r['run']}  {r['state']}" + (f" until {utc(wake)}" if wake else ""))
    for a in _rows(body, "approvals_waiting"):
        told.append(
            f"{a['approval']} waits for {a['role']} until {utc(_whole(a['expires_ms']))}: "
            f"loop4 approvals approve|reject {a['approval']}"
        )
    if body["intents_unknown"]:
        told.append(
            f"{body['intents_unknown']} acts nobody can tell done or not: a person must look"
        )
    return told


def _rows(body: dict[str, Json], name: str) -> list[dict[str, Json]]:
    found = body[name]
    return [dict(r) for r in found if isinstance(r, dict)] if isinstance(found, list) else []


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0
