"""What a conversation looks through: the fleet's policies, ledger and world, without a hand to act.

It opens the ledger read-only beside whatever runner lives, and never takes the data folder's lock.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loop4.domain import Clock, Incident, Severity
from loop4.graphs.assemble import AGENTS
from loop4.graphs.drafts import Drafts
from loop4.graphs.fleet import Fleet
from loop4.graphs.observe import Documents
from loop4.graphs.session import SystemClock
from loop4.ledger.ledger import Ledger
from loop4.ledger.place import is_url
from loop4.policies.context import read_context
from loop4.policies.people import People, Person
from loop4.tools.backends.ports import World
from loop4.tools.reader import Reader, Scope
from loop4.tools.tool import Hands

SCOPE_MS = 30 * 24 * 3_600_000  # an error budget's window


@dataclass(slots=True)
class Lookout:
    """A view on one organisation. `fleet()` has no hands; its ledger cannot be written."""

    documents: Documents
    operations: Path
    ledger: Path | str
    world: World
    clock: Clock
    people: People
    _stack: ExitStack = field(default_factory=ExitStack)
    _fleet: Fleet | None = None
    _has_ledger: bool = False

    def fleet(self) -> Fleet:
        """The fleet as it may be looked at. A ledger that has come into being since is taken up."""
        there = is_url(self.ledger) or Path(self.ledger).is_file()
        if self._fleet is None or there != self._has_ledger:
            self._has_ledger = there
            self._fleet = self._made()
        return self._fleet

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger; without one nothing is on record."""
        self.fleet()
        return self._has_ledger

    def _made(self) -> Fleet:
        ledger = self._stack.enter_context(self._ledger())
        documents, operations = self.documents, self.operations
        return Fleet(
            world=self.world,
            hands=Hands(),
            policy=documents.policy,
            severity=documents.severity,
            catalogue=documents.catalogue,
            targets=documents.targets,
            runbooks=documents.runbooks,
            ledger=ledger,
            drafts=Drafts(ledger),
            clock=self.clock,
            agents=AGENTS,
            read_context=lambda now_ms: read_context(operations, now_ms),
            operations=operations,
        )

    def _ledger(self) -> Ledger:
        if self._has_ledger:
            return Ledger.open(self.ledger, read_only=True, create=False)
        empty = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="loop4-"))
        return Ledger.open(Path(empty) / "ledger.db")

    def reader(self, environment: str) -> Reader:
        """A reader over every service of an environment, a month back. One a question."""
        return Reader(
            self.world,
            self.documents.policy,
            self.clock,
            Scope(
                "conversation",
                environment,
                frozenset(self.documents.catalogue.names()),
                self.clock.now_ms() - SCOPE_MS,
            ),
        )

    def people_of(self, role: str) -> tuple[str, ...]:
        """The persons who hold a role, by name."""
        return tuple(sorted(p.name for p in self.people.persons if role in p.roles))

    def close(self) -> None:
        """Close the ledger."""
        self._stack.close()


@asynccontextmanager
async def open_lookout(
    documents: Documents,
    *,
    operations: Path,
    ledger: Path | str,
    world: World,
    clock: Clock | None = None,
) -> AsyncIterator[Lookout]:
    """A lookout, closed at the end. Raises PolicyError for a people.yaml that cannot be read."""
    path = operations / "policies" / "people.yaml"
    people = People.load(path) if path.exists() else People(())
    lookout = Lookout(documents, operations, ledger, world, clock or SystemClock(), people)
    try:
        yield lookout
    finally:
        lookout.close()


def signed_in(lookout: Lookout, token: str) -> Person | None:
    """The person whose token it is, or None."""
    return lookout.people.find_voter(token, now_ms=lookout.clock.now_ms()) if token else None


def no_incident(service: str, environment: str, now_ms: int) -> Incident:
    """A stand-in for judging an act on a service that has no open incident. Never stored."""
    return Incident(
        incident_id="none",
        correlation=f"{environment}/{service}",
        service=service,
        environment=environment,
        severity=Severity.SEV4,
        state="resolved",
        detected_ms=now_ms,
    )
