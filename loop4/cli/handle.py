"""`loop4 handle EVENT.json`: start a run for an event, or feed the live one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption
from loop4.cli.fleet_options import (
    OperationsOption,
    RulesOption,
    session_for,
    settings_with,
    show,
)
from loop4.cli.input_files import read_input, shown
from loop4.cli.voter import voter
from loop4.errors import InputError

if TYPE_CHECKING:
    from loop4.domain import Event, Json
    from loop4.graphs.runner import Handled
    from loop4.settings import Settings


def command(
    event: Annotated[str, typer.Argument(metavar="EVENT.json", help="A file, or - for stdin.")],
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept one event: it opens an incident and runs it, or goes to the live run's inbox."""
    settings = settings_with(data, operations, rules, db)
    given = _authenticated(read_event_file(event), settings)
    handled = asyncio.run(_handle(settings, given))
    body: dict[str, Json] = {
        "incident": handled.incident_id,
        "run": handled.run_id,
        "started": handled.started,
        "duplicate": handled.duplicate,
    }
    if handled.duplicate:
        text = f"{given.event_id} was accepted before; nothing changed"
    elif handled.started:
        text = f"{handled.incident_id}: run {handled.run_id} went as far as it can now"
    else:
        text = f"{handled.incident_id}: the live run has it in its inbox"
    show(body, as_json=as_json, text=text)


def read_event_file(name: str) -> Event:
    """The event in a file, or on standard input for `-`."""
    from loop4.tools.events import MAX_BYTES, read_event

    body = read_input(name, expected="an event as JSON", at_most=MAX_BYTES)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(name)} is not UTF-8 text at byte {error.start + 1}; expected an event as JSON"
        ) from error
    return read_event(text, path=shown(name))


def _authenticated(event: Event, settings: Settings) -> Event:
    """A request's requester is the person whose token is set; without one it is nobody's."""
    if event.request is None or not settings.token:
        return event
    return replace(event, requester=voter(settings.operations).name)


async def _handle(settings: Settings, event: Event) -> Handled:
    async with session_for(settings) as session:
        return await session.runner.handle(event)
