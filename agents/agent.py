"""What an agent is: a name, what it answers to, what it may read and propose, and its playbook.

An agent gets a `Brief` and returns a `Report`: plain data. It holds no acting handle and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from loop4.domain import Event, EventKind, Finding, Proposal, Severity
from loop4.policies.catalogue import Catalogue
from loop4.policies.runbooks import Runbook
from loop4.policies.targets import Target
from loop4.tools.reader import Reader


@dataclass(frozen=True, slots=True)
class Brief:
    """What an agent is told. `now_ms` is the run's clock; everything else is read through
    `reader`.
    """

    event: Event
    incident_id: str
    severity: Severity
    now_ms: int
    catalogue: Catalogue
    targets: Sequence[Target]
    runbooks: Sequence[Runbook]
    reader: Reader


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent returns."""

    findings: tuple[Finding, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    missing: tuple[str, ...] = ()


Playbook = Callable[[Brief], Awaitable[Report]]


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. `may_propose` bounds its proposals; a proposal of another tool is dropped and
    recorded.
    """

    name: str
    answers_to: frozenset[EventKind]
    may_propose: frozenset[str]
    playbook: Playbook
