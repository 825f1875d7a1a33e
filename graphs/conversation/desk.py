"""The way from a conversation to the fleet: a person's request, and a note to a live run.

Both are events in the ledger. A request is judged by the gate when its run comes to it, like any
other; nothing here decides, asks or acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from loop4.domain import Event, EventKind, Incident
from loop4.errors import RunnerBusy
from loop4.graphs.session import Session
from loop4.ledger import events, evidence, incidents, runs
from loop4.ledger.ledger import Ledger
from loop4.policies.people import Person

POLL_S = 0.2
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a request: its incident ("" while no runner has taken it up), and who runs
    it.
    """

    incident_id: str
    by_live_runner: bool


@dataclass(slots=True)
class Desk:
    """Hands events over to the ledger at a place. `open_runner` makes a runner on it; it raises
    RunnerBusy when one lives there, which then takes up what lies in the ledger at its next beat.
    """

    ledger: Path | str
    person: Person | None
    open_runner: Callable[[], AbstractAsyncContextManager[Session]]
    patience_s: float = PATIENCE_S

    async def submit(self, event: Event, now_ms: int) -> Submitted:
        """Hand a request over and see how far it goes."""
        try:
            async with self.open_runner() as session:
                handled = await session.runner.handle(event)
                return Submitted(handled.incident_id, by_live_runner=False)
        except RunnerBusy:
            return await self._leave(event, now_ms)

    async def _leave(self, event: Event, now_ms: int) -> Submitted:
        """Put it into the ledger for the runner that lives, and wait a little for it."""
        with Ledger.open(self.ledger, create=False) as ledger:
            with ledger.transaction() as tx:
                events.accept(tx, event, now_ms=now_ms)
            waited = 0.0
            while True:
                found = _incident_of(ledger, event)
                if found is not None or waited >= self.patience_s:
                    return Submitted(found.incident_id if found else "", by_live_runner=True)
                await asyncio.sleep(POLL_S)
                waited += POLL_S

    def note(self, incident_id: str, service: str, person: Person, now_ms: int) -> str:
        """Put a person's wish to look at a service into a live run's inbox and into the chain.

        Returns the run's id, or "" when no run of that incident lives.
        """
        with (
            Ledger.open(self.ledger, create=False) as ledger,
            ledger.transaction() as tx,
        ):
            run, incident = runs.live(tx, incident_id), incidents.get(tx, incident_id)
            if run is None or incident is None:
                return ""
            event = Event(
                event_id=f"note:{person.name}:{service}:{now_ms}",
                kind=EventKind.TICK,
                source="chat",
                service=service,
                environment=incident.environment,
                at_ms=now_ms,
                correlation=incident.correlation,
                labels={"note": "look_at"},
                requester=person.name,
            )
            if events.accept(tx, event, now_ms=now_ms):
                events.assign(tx, event.event_id, incident_id)
                evidence.append(
                    tx,
                    "note",
                    incident_id,
                    run.run_id,
                    {"person": person.name, "look_at": service, "event": event.event_id},
                    at_ms=now_ms,
                )
            return run.run_id


def _incident_of(ledger: Ledger, event: Event) -> Incident | None:
    with ledger.read() as tx:
        return next((i for i in incidents.list_all(tx) if i.correlation == event.correlation), None)
