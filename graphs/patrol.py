"""One beat of the fleet: sweep, hand on what is news, let waiting requests be reconsidered,
continue what is due.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from loop4.agents.health import Burn
from loop4.domain import Event
from loop4.errors import LedgerError
from loop4.graphs.fleet import Fleet
from loop4.graphs.runner import Handled, Runner
from loop4.graphs.sweep import events_of, instance_events, read_targets
from loop4.tools.emergency import page_emergency


@dataclass(slots=True)
class Patrol:
    """Beats over one fleet. Remembers which breaches it has told the runner of, until they
    clear.
    """

    fleet: Fleet
    runner: Runner
    told: set[str] = field(default_factory=set)
    burns: tuple[Burn, ...] = ()
    began_ms: int = 0  # when the last beat began

    async def beat(self) -> tuple[Handled, ...]:
        """Sweep once and drive everything that can move. Returns what the new events led to.

        When the ledger fails, nothing acts: the fixed emergency page goes out and the error on.
        """
        self.began_ms = self.fleet.clock.now_ms()
        try:
            return await self._beat()
        except LedgerError:
            if self.fleet.operations is not None:
                page_emergency(self.fleet.operations, self.began_ms)
            raise

    async def _beat(self) -> tuple[Handled, ...]:
        self.burns = await read_targets(self.fleet)
        present = events_of(self.fleet, self.burns) + await instance_events(self.fleet)
        names = {_name(e) for e in present}
        self.told &= names
        handled = []
        for event in present:
            if _name(event) not in self.told:
                self.told.add(_name(event))
                handled.append(await self.runner.handle(event))
        await self.runner.watch()
        await self.runner.resume()
        return tuple(handled)


def _name(event: Event) -> str:
    """What is wrong, without the time."""
    return event.event_id.rsplit(":", 1)[0]
