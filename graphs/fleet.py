"""What a run works with: the world, the policies, the ledger, the agents and the clock, put
together once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop4.agents.agent import Agent
from loop4.agents.planner.port import Planner, PlaybookPlanner
from loop4.domain import Clock, Incident
from loop4.errors import LedgerError
from loop4.graphs.drafts import Drafts
from loop4.ledger import incidents, modes
from loop4.ledger.ledger import Ledger, Tx
from loop4.policies.calendar import Calendar
from loop4.policies.catalogue import Catalogue
from loop4.policies.context import ContextReport
from loop4.policies.policy import Policy
from loop4.policies.runbooks import Runbook
from loop4.policies.severity import SeverityPolicy
from loop4.policies.targets import Target
from loop4.tools.backends.ports import World
from loop4.tools.facts.sources import FactSources
from loop4.tools.tool import Hands


def nowhere(point: str) -> None:
    """The default for `Fleet.passing`: nothing watches."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that nodes share. Frozen: one run keeps the policies that it started with.

    `fence` rises with every runner. `passing` is told the name of each point of no return as it is
    passed (before_intent, after_intent, after_effect, after_outcome); crash tests stop the process
    there. `policy_now` and `calendar` give the policy and the calendar as their files stand at this
    moment; they raise PolicyError while those cannot be loaded.
    """

    world: World
    hands: Hands
    policy: Policy
    severity: SeverityPolicy
    catalogue: Catalogue
    targets: Sequence[Target]
    runbooks: Sequence[Runbook]
    ledger: Ledger
    drafts: Drafts
    clock: Clock
    agents: Sequence[Agent]
    read_context: Callable[[int], ContextReport]
    operations: Path | None = None
    fence: int = 1
    calendar: Callable[[], Calendar] = field(default=Calendar)
    passing: Callable[[str], None] = field(default=nowhere)
    planner: Planner = field(default_factory=PlaybookPlanner)
    policy_now: Callable[[], Policy] | None = None

    def incident(self, incident_id: str) -> Incident:
        """The incident, from the ledger. Raises LedgerError if it is gone."""
        with self.ledger.read() as tx:
            found = incidents.get(tx, incident_id)
        if found is None:
            raise LedgerError(f"the ledger has no incident {incident_id!r}")
        return found

    def in_force(self, tx: Tx, policy: Policy | None = None) -> Policy:
        """The run's policy, or another one, with the modes that people have set by now."""
        return (policy or self.policy).under(modes.read(tx))

    def sources(self, incident: Incident, *, context_complete: bool) -> FactSources:
        """Where the facts of one decision come from, now."""
        return FactSources(
            world=self.world,
            ledger=self.ledger,
            policy=self.policy,
            catalogue=self.catalogue,
            targets=self.targets,
            runbooks=self.runbooks,
            incident=incident,
            now_ms=self.clock.now_ms(),
            context_complete=context_complete,
            calendar=self.calendar,
        )
