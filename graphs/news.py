"""What a sweep found that nobody was told of yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loop4.domain import Event
from loop4.graphs.fleet import Fleet
from loop4.ledger import events, incidents, runs
from loop4.ledger.ledger import Tx

TELL_AGAIN_MS = 15 * 60_000  # what a person was handed is told again after this long


@dataclass(slots=True)
class News:
    """What one shard told, until that clears; after a start the ledger is asked."""

    told: set[str] = field(default_factory=set)

    def fresh(self, fleet: Fleet, present: Sequence[Event]) -> tuple[Event, ...]:
        """The events that are news. Told means told: a second call gives none of them."""
        names = {name_of(event) for event in present}
        self.told &= names
        unknown = [event for event in present if name_of(event) not in self.told]
        if not unknown:
            return ()
        with fleet.ledger.read() as tx:
            found = tuple(e for e in unknown if not _is_known(tx, e, fleet.clock.now_ms()))
        self.told |= names
        return found


def name_of(event: Event) -> str:
    """What is wrong, without the time."""
    return event.event_id.rsplit(":", 1)[0]


def _is_known(tx: Tx, event: Event, now_ms: int) -> bool:
    """Whether an open incident has this on its list, and is being worked on or was just handed
    over.
    """
    for incident in incidents.list_open(tx):
        if incident.environment != event.environment:
            continue
        same = [
            e for e in events.of_incident(tx, incident.incident_id) if name_of(e) == name_of(event)
        ]
        if not same:
            continue
        if runs.live(tx, incident.incident_id) is not None:
            return True
        if now_ms - max(e.at_ms for e in same) < TELL_AGAIN_MS:
            return True
    return False
