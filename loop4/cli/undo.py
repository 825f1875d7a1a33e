"""`loop4 undo ID`: ask for the declared inverse of a done act, as the person with LOOP4_TOKEN.

The gate judges it like any request of a person; nothing is undone past it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain
from loop4.cli.fleet_options import (
    OperationsOption,
    RulesOption,
    session_for,
    settings_with,
    show,
)
from loop4.cli.voter import voter
from loop4.errors import UsageError

if TYPE_CHECKING:
    from loop4.domain import Event, JsonObject
    from loop4.ledger.ledger import Ledger, Tx
    from loop4.policies.people import Person
    from loop4.settings import Settings

SHORTEST = 8


def command(
    name: Annotated[str, typer.Argument(metavar="ID", help="The action to undo.")],
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Request the inverse of a done act; the gate decides, and the evidence says who asked."""
    from loop4.ledger.runner import runner_of

    settings = settings_with(data, operations, rules, db)
    person = voter(settings.operations)
    with open_ledger(data, db, read_only=False) as ledger:
        with ledger.read() as tx:
            event = _event(tx, name, person)
        on_duty = bool(settings.db) or bool(runner_of(settings.data))
        fresh = on_duty and _accept(ledger, event)
    incident = "" if on_duty else asyncio.run(_handle(settings, event))
    if not fresh and not incident:
        raise UsageError(f"{plain(event.event_id)} was asked for before; see `loop4 status`")
    request = event.request or {}
    told = (
        f"{incident}: the request was judged; see `loop4 why {incident}`"
        if incident
        else "the fleet on duty takes it from here; see `loop4 status`"
    )
    show(
        {
            "event": event.event_id,
            "requester": person.name,
            "tool": str(request["tool"]),
            "target": str(request["target"]),
            "arguments": request["arguments"],
            "incident": incident,
        },
        as_json=as_json,
        text=f"{person.name} asks: {request['tool']} on {request['target']}\n{told}",
    )


def _event(tx: Tx, name: str, person: Person) -> Event:
    """The request for the inverse. Raises UsageError where there is nothing to undo."""
    from loop4.domain import Event, EventKind, IntentState
    from loop4.ledger import evidence, intents

    acts = [a for a in intents.list_all(tx) if a.action_id.startswith(name)]
    if len(name) < SHORTEST or len(acts) != 1:
        raise UsageError(
            f"{plain(name)!r} names {len(acts)} actions; expected one, by {SHORTEST}+ digits; "
            "`loop4 handoff --json` lists them"
        )
    act = acts[0]
    if act.state is not IntentState.DONE:
        raise UsageError(
            f"{act.tool} on {act.target} is {act.state.value}; only a done act is undone"
        )
    inverse: JsonObject | None = None
    for record in evidence.list_records(tx, act.incident_id, kinds=("decision",)):
        found = record.body.get("inverse") if record.action_id == act.action_id else None
        inverse = found if isinstance(found, dict) else inverse
    if inverse is None:
        raise UsageError(f"{act.tool} on {act.target} declared no inverse; nothing can be undone")
    now_ms = time.time_ns() // 1_000_000
    event_id = f"undo:{act.action_id[:32]}"
    return Event(
        event_id=event_id,
        kind=EventKind.REQUEST,
        source="undo",
        service=act.service,
        environment=act.environment,
        at_ms=now_ms,
        correlation=f"request/{act.environment}/{act.service}/{event_id}",
        request={
            "tool": inverse["tool"],
            "target": act.target,
            "arguments": inverse["arguments"],
        },
        requester=person.name,
    )


def _accept(ledger: Ledger, event: Event) -> bool:
    from loop4.ledger import events

    with ledger.transaction() as tx:
        return events.accept(tx, event, now_ms=event.at_ms)


async def _handle(settings: Settings, event: Event) -> str:
    """The request's incident, after its run went as far as it can; empty for a second request."""
    async with session_for(settings) as session:
        handled = await session.runner.handle(event)
    return "" if handled.duplicate else handled.incident_id
