"""`loop4 investigate --alert FILE --metrics URL`: explain an alert from a Prometheus, read-only."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import JsonOption
from loop4.cli.fleet_options import RulesOption, settings_with, show, traced
from loop4.cli.input_files import read_input, shown
from loop4.cli.look import Look, look_at, look_text
from loop4.errors import UsageError
from loop4.tools.alerts import placed

if TYPE_CHECKING:
    from loop4.domain import Event
    from loop4.graphs.observe import Asked, Documents

ENVIRONMENT = "production"
REACH_S = 4.0  # how long a Prometheus may take to answer at all


def command(
    alert: Annotated[
        str, typer.Option(metavar="FILE", help="An Alertmanager webhook's body, or - for stdin.")
    ],
    metrics: Annotated[
        str, typer.Option(metavar="URL", help="A Prometheus; default: settings.")
    ] = "",
    operations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Operations folder to judge by; it is only read."),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(metavar="DIR", help="OpenSLO targets, without such a folder.")
    ] = None,
    services: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Service catalogue, without such a folder.")
    ] = None,
    rules: RulesOption = None,
    environment: Annotated[
        str, typer.Option(metavar="NAME", help="Of alerts that name none.")
    ] = ENVIRONMENT,
    as_json: JsonOption = False,
) -> None:
    """Look, and change nothing: severity, findings with their evidence, what the gate would have
    decided, and what could not be seen.
    """
    from loop4.tools.alerts import LARGEST_BYTES, alert_events, alert_expressions

    settings = settings_with(None, None, rules)
    url = metrics or settings.metrics_url
    if not url:
        raise UsageError("no metrics to look at; use --metrics URL or set LOOP4_METRICS_URL")
    documents = _documents(operations, targets, services, settings.rules)
    body = read_input(alert, expected="an Alertmanager webhook", at_most=LARGEST_BYTES)
    events = alert_events(body, name=shown(alert))
    queries = alert_expressions(body, name=shown(alert))
    given = [_in_environment(placed(e, documents.catalogue), environment) for e in events]
    looks = asyncio.run(_investigate(url, documents, given, queries))
    resolved = [e.event_id for e in events if e.resolved]
    show(
        {"incidents": [look.to_json() for look in looks], "resolved": list(resolved)},
        as_json=as_json,
        text="\n\n".join(look_text(look) for look in looks)
        or "no alert of this webhook is firing, so there is nothing to look for",
    )


def _documents(
    operations: Path | None, targets: Path | None, services: Path | None, rules: Path | None
) -> Documents:
    from loop4.graphs.observe import loose_documents, read_documents

    if operations is not None:
        if targets is not None or services is not None:
            raise UsageError(
                "--operations holds targets and services already; give it, or --targets and "
                "--services"
            )
        return read_documents(operations, rules=rules)
    return loose_documents(targets=targets, services=services, rules=rules)


def _in_environment(event: Event, fallback: str) -> Event:
    """The event in an environment that the rules know; its own word stays among its labels."""
    from loop4.policies.catalogue import ENVIRONMENTS
    from loop4.policies.documents import unknown

    if fallback not in ENVIRONMENTS:
        raise UsageError(f"--environment: {unknown('environment', fallback, ENVIRONMENTS)}")
    if event.environment in ENVIRONMENTS:
        return event
    return replace(event, environment=fallback, correlation=f"{fallback}/{event.service}")


async def _investigate(
    url: str, documents: Documents, events: Sequence[Event], queries: Mapping[str, str]
) -> list[Look]:
    """One look for each incident that the firing alerts make."""
    from loop4.graphs.observe import ask, open_observer
    from loop4.graphs.session import SystemClock
    from loop4.tools.backends.ports import World
    from loop4.tools.backends.prometheus import PrometheusMetrics

    async with PrometheusMetrics(url, deadline_s=REACH_S) as probe:
        await probe.query("vector(1)", SystemClock().now_ms())
    firing = [e for e in events if not e.resolved]
    with tempfile.TemporaryDirectory(prefix="loop4-investigate-") as folder, traced():
        async with (
            PrometheusMetrics(url) as metrics,
            open_observer(documents, data=Path(folder), world=World(metrics=metrics)) as session,
        ):
            by_incident: dict[str, list[Event]] = {}
            asked: dict[str, Asked] = {}
            for event in firing:
                handled = await session.runner.handle(event)
                by_incident.setdefault(handled.incident_id, []).append(event)
                if event.event_id in queries:
                    asked[event.event_id] = await ask(session.fleet, event, queries[event.event_id])
            session.fleet.drafts.flush()
            return [
                look_at(session, incident_id, alerts, asked)
                for incident_id, alerts in by_incident.items()
            ]
