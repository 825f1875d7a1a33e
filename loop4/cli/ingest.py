"""`loop4 ingest alertmanager FILE|-`: take in alerts of other systems, on the same path as
`handle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption, plain
from loop4.cli.fleet_options import (
    OperationsOption,
    RulesOption,
    session_for,
    settings_with,
    show,
)
from loop4.cli.input_files import read_input, shown

if TYPE_CHECKING:
    from loop4.domain import Event, Json
    from loop4.graphs.runner import Handled
    from loop4.policies.catalogue import Catalogue
    from loop4.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Take in alerts of other systems.",
)


@dataclass(frozen=True, slots=True)
class Taken:
    """One alert and what it became. `became` is `started`, `inbox`, `recorded` or `duplicate`;
    `remark` says why no act can follow, if so.
    """

    event: Event
    handled: Handled
    became: str
    remark: str

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "event": self.event.event_id,
            "alert": self.event.labels.get("alertname", ""),
            "service": self.event.service,
            "environment": self.event.environment,
            "resolved": self.event.resolved,
            "became": self.became,
            "incident": self.handled.incident_id,
            "run": self.handled.run_id,
            "remark": self.remark,
        }

    def line(self) -> str:
        """For people."""
        event, incident = self.event, self.handled.incident_id
        words = {
            "started": f"{incident}: run {self.handled.run_id} went as far as it can now",
            "inbox": f"{incident}: the live run has it in its inbox",
            "recorded": "recorded; no incident is open for it",
            "duplicate": "accepted before; nothing changed",
        }
        state = "resolved" if event.resolved else "firing"
        name = f"{event.labels.get('alertname', '')} of {event.service or 'no service'}, {state}"
        return plain(f"{name}: {words[self.became]}" + (f"; {self.remark}" if self.remark else ""))


@app.callback()
def group() -> None:
    """Take in alerts of other systems."""


@app.command()
def alertmanager(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A webhook's body, or - for stdin.")],
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    environment: Annotated[
        str,
        typer.Option(metavar="NAME", help="For alerts without that label; default: catalogue."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Accept every alert of an Alertmanager webhook (version 4) once; print what each became."""
    from loop4.tools.alerts import LARGEST_BYTES, alert_events

    settings = settings_with(data, operations, rules, db)
    body = read_input(file, expected="an Alertmanager webhook", at_most=LARGEST_BYTES)
    events = alert_events(body, environment=_known(environment), name=shown(file))
    taken = asyncio.run(_ingest(settings, events))
    show(
        {"alerts": [one.to_json() for one in taken]},
        as_json=as_json,
        text="\n".join(one.line() for one in taken) or "the webhook holds no alert",
    )


def _known(environment: str) -> str:
    """The option as given. Raises UsageError for a word that no policy can know."""
    from loop4.errors import UsageError
    from loop4.policies.catalogue import ENVIRONMENTS
    from loop4.policies.documents import unknown

    if environment and environment not in ENVIRONMENTS:
        raise UsageError(f"--environment: {unknown('environment', environment, ENVIRONMENTS)}")
    return environment


async def _ingest(settings: Settings, events: Sequence[Event]) -> list[Taken]:
    from loop4.tools.alerts import placed

    taken = []
    async with session_for(settings) as session:
        catalogue = session.fleet.catalogue
        for event in events:
            given = placed(event, catalogue)
            handled = await session.runner.handle(given)
            taken.append(Taken(given, handled, _became(handled), _remark(given, catalogue)))
    return taken


def _became(handled: Handled) -> str:
    if handled.duplicate:
        return "duplicate"
    if handled.started:
        return "started"
    return "inbox" if handled.incident_id else "recorded"


def _remark(event: Event, catalogue: Catalogue) -> str:
    service = catalogue.service(event.service)
    if service is None:
        return f"service {event.service!r} is not in the catalogue, so no act follows"
    if event.environment != service.environment:
        return (
            f"environment {event.environment!r} is not the catalogue's {service.environment!r}, "
            "so no act follows"
        )
    return ""
