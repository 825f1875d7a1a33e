"""`loop4 fleet status | pause | unpause | mode | limits`: whether the fleet may act, how far, how
much at a time, and who said so.

Who pauses is whoever holds the token in LOOP4_TOKEN. A pause holds from the next decision on and
survives restarts; verification, pages and running rollbacks go on.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, open_ledger, plain, utc
from loop4.cli.fleet_limits import app as limits_app
from loop4.cli.fleet_mode import app as mode_app
from loop4.cli.voter import OperationsOption, operations_folder, voter

if TYPE_CHECKING:
    from loop4.ledger.parameters import Parameter
    from loop4.policies.calendar import Calendar, Window

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Show and pause the fleet; set its modes and limits.",
)
app.add_typer(mode_app, name="mode")
app.add_typer(limits_app, name="limits")

ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for the evidence and the others.")
]


@app.command()
def status(
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what is set for the whole fleet, and the windows of the calendar that hold or come."""
    from loop4.ledger import parameters
    from loop4.policies.calendar import load_calendar

    now_ms = _now_ms()
    with open_ledger(data, db) as ledger, ledger.read() as tx:
        found = parameters.list_all(tx, now_ms)
    folder = operations_folder(operations, required=False)
    calendar = load_calendar(folder / "policies" / "calendar.yaml") if folder else None
    if as_json:
        typer.echo(json.dumps(_as_json(found, calendar, now_ms), indent=2))
        return
    paused = next((p for p in found if p.name == parameters.PAUSED), None)
    typer.echo(plain(_paused_line(paused)))
    for parameter in found:
        if parameter is not paused:
            typer.echo(plain(f"{parameter.name}: {parameter.value}, by {parameter.set_by}"))
    for kind, window in _windows(calendar):
        if window.end_ms > now_ms:
            typer.echo(plain(_window_line(kind, window, now_ms)))


@app.command()
def pause(
    reason: ReasonOption,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="End by itself, as 2026-12-24T18:00:00Z."),
    ] = None,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop all new writes from the next decision on."""
    from loop4.ledger import parameters

    until_ms = _until(until) if until else 0
    person = voter(operations)
    now_ms = _now_ms()
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        parameters.put(
            tx,
            parameters.PAUSED,
            "yes",
            by=person.name,
            reason=reason,
            now_ms=now_ms,
            until_ms=until_ms,
        )
        found = parameters.get(tx, parameters.PAUSED, now_ms)
    _say(found, as_json=as_json)


@app.command()
def unpause(
    reason: ReasonOption,
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the fleet write again, inside its policy."""
    from loop4.ledger import parameters

    person = voter(operations)
    with open_ledger(data, db, read_only=False) as ledger, ledger.transaction() as tx:
        parameters.clear(tx, parameters.PAUSED, by=person.name, reason=reason, now_ms=_now_ms())
    _say(None, as_json=as_json)


def _say(paused: Parameter | None, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"paused": paused is not None, **_parameter(paused)}, indent=2))
    else:
        typer.echo(plain(_paused_line(paused)))


def _paused_line(paused: Parameter | None) -> str:
    if paused is None:
        return "not paused: the fleet acts as its policy says"
    end = f" until {utc(paused.until_ms)}" if paused.until_ms else ""
    return f"paused by {paused.set_by} since {utc(paused.set_ms)}{end}: no new writes"


def _window_line(kind: str, window: Window, now_ms: int) -> str:
    where = ", ".join(sorted(window.environments | window.services)) or "everywhere"
    when = "now" if window.start_ms <= now_ms else "from " + utc(window.start_ms)
    why = f": {window.reason}" if window.reason else ""
    return f"{kind} {window.name}, {where}, {when} until {utc(window.end_ms)}{why}"


def _windows(calendar: Calendar | None) -> list[tuple[str, Window]]:
    if calendar is None:
        return []
    return [
        *(("freeze", w) for w in calendar.freezes),
        *(("maintenance", w) for w in calendar.maintenance),
    ]


def _as_json(
    found: tuple[Parameter, ...], calendar: Calendar | None, now_ms: int
) -> dict[str, object]:
    from loop4.ledger import parameters

    return {
        "paused": any(p.name == parameters.PAUSED for p in found),
        "parameters": {p.name: _parameter(p) for p in found},
        "pages_per_day": calendar.pages_per_day if calendar else None,
        "windows": [
            {
                "kind": kind,
                "name": w.name,
                "start_ms": w.start_ms,
                "end_ms": w.end_ms,
                "environments": sorted(w.environments),
                "services": sorted(w.services),
                "holds": w.start_ms <= now_ms < w.end_ms,
            }
            for kind, w in _windows(calendar)
        ],
    }


def _parameter(parameter: Parameter | None) -> dict[str, object]:
    if parameter is None:
        return {}
    return {
        "value": parameter.value,
        "set_by": parameter.set_by,
        "set_ms": parameter.set_ms,
        "until_ms": parameter.until_ms,
    }


def _until(text: str) -> int:
    from loop4.errors import UsageError
    from loop4.policies.moments import moment_ms

    try:
        return moment_ms(text)
    except ValueError:
        raise UsageError(
            f"--until {text!r}: expected a moment with its zone, such as 2026-12-24T18:00:00Z"
        ) from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
