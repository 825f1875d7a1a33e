"""What the fact providers read from: the world, the ledger, the catalogue. Never a model, never a
log line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from loop4.domain import Action, Fact, Incident
from loop4.ledger.ledger import Ledger
from loop4.policies.calendar import Calendar
from loop4.policies.catalogue import Catalogue
from loop4.policies.policy import Policy
from loop4.policies.runbooks import Runbook
from loop4.policies.targets import Target
from loop4.tools.backends.ports import World


@dataclass(frozen=True, slots=True)
class FactSources:
    """One moment's sources for one incident. `now_ms` is the decision's clock.

    `context_complete`: the required organisation context was read. `calendar` reads the calendar as
    it stands now; it raises PolicyError while it cannot be read.
    """

    world: World
    ledger: Ledger
    policy: Policy
    catalogue: Catalogue
    targets: Sequence[Target]
    runbooks: Sequence[Runbook]
    incident: Incident
    now_ms: int
    context_complete: bool
    calendar: Callable[[], Calendar] = field(default=Calendar)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An action on its way to the gate, with what its proposal rests on.

    `evidence` are the ids it cites, `runbook` the name it claims; both are checked against the
    ledger and the loaded runbooks, and count for nothing if they do not hold.
    """

    action: Action
    evidence: tuple[str, ...] = ()
    runbook: str = ""


Provider = Callable[[FactSources, Candidate], Awaitable[Fact | None]]


def is_below_work(path: str) -> bool:
    """Whether a relative path stays inside work/: no absolute path, no way up."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] == "work" and ".." not in parts and not path.startswith("/")
