"""Look at alerts on anybody's system: the same graph, bound to observe, with no hand to act with.

Everything is decided and nothing is done: there is no writer and no file system behind the
executors, and a policy without bindings lets every write and notice come out as decided only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from loop4.domain import Clock, Event
from loop4.graphs.act import executable_tools
from loop4.graphs.assemble import AGENTS, READ_TOOLS
from loop4.graphs.drafts import Drafts
from loop4.graphs.fleet import Fleet
from loop4.graphs.runner import Runner
from loop4.graphs.session import Session, SystemClock
from loop4.graphs.triage import related
from loop4.ledger.ledger import Ledger
from loop4.policies.catalogue import Catalogue, load_catalogue
from loop4.policies.context import read_context
from loop4.policies.load import bindings_of, load_policy
from loop4.policies.openslo import load_targets
from loop4.policies.people import People
from loop4.policies.policy import Policy
from loop4.policies.runbooks import Runbook, load_runbooks
from loop4.policies.severity import SeverityPolicy, load_severity
from loop4.policies.targets import Target
from loop4.tools.backends.ports import Series, World
from loop4.tools.reader import Read, Reader, Scope
from loop4.tools.tool import Hands

SCOPE_MS = 3_600_000
BEFORE_START_MS = 60_000


@dataclass(frozen=True, slots=True)
class Documents:
    """What an organisation wrote down, loaded and checked. Without a folder of it, `operations` is
    None and the context of every run incomplete.
    """

    policy: Policy
    severity: SeverityPolicy
    catalogue: Catalogue
    targets: tuple[Target, ...]
    runbooks: tuple[Runbook, ...]
    operations: Path | None


def read_documents(operations: Path, *, rules: Path | None = None) -> Documents:
    """Every document of an operations folder that a run needs. Raises PolicyError for the first bad
    one.

    Reads only, so it also tells before anything is opened whether a run could start.
    """
    policies = operations / "policies"
    policy = load_policy(
        rules,
        bindings_files=bindings_of(policies),
        executors=executable_tools() | READ_TOOLS,
    )
    people = policies / "people.yaml"
    if people.exists():
        People.load(people)
    return Documents(
        policy=policy,
        severity=policy.limits.severity(load_severity()),
        catalogue=load_catalogue(policies / "services.yaml"),
        targets=policy.limits.targets(load_targets(policies / "targets")),
        runbooks=load_runbooks(policies / "runbooks", tools=set(policy.tools)),
        operations=operations,
    )


def loose_documents(
    *, targets: Path | None, services: Path | None, rules: Path | None = None
) -> Documents:
    """What there is without an operations folder: targets and services if given, shipped rules."""
    return Documents(
        policy=load_policy(rules, executors=executable_tools() | READ_TOOLS),
        severity=load_severity(),
        catalogue=load_catalogue(services) if services is not None else Catalogue((), ()),
        targets=load_targets(targets) if targets is not None else (),
        runbooks=(),
        operations=None,
    )


@asynccontextmanager
async def open_observer(
    documents: Documents, *, data: Path, world: World, clock: Clock | None = None
) -> AsyncIterator[Session]:
    """A session that can look and decide, over a throw-away ledger in the folder `data`."""
    from langgraph.checkpoint.memory import InMemorySaver

    with Ledger.open(data / "ledger.db") as ledger:
        fleet = Fleet(
            world=world,
            hands=Hands(),
            policy=_bound_to_observe(documents.policy),
            severity=documents.severity,
            catalogue=documents.catalogue,
            targets=documents.targets,
            runbooks=documents.runbooks,
            ledger=ledger,
            drafts=Drafts(ledger),
            clock=clock or SystemClock(),
            agents=AGENTS,
            read_context=lambda now_ms: read_context(documents.operations or data, now_ms),
            operations=documents.operations,
        )
        yield Session(fleet, Runner(fleet, InMemorySaver()), ledger)


@dataclass(frozen=True, slots=True)
class Asked:
    """The query behind an alert, asked now and for the moment at which the alert began."""

    event: Event
    expression: str
    now: Read[Sequence[Series]]
    at_start: Read[Sequence[Series]]


async def ask(fleet: Fleet, event: Event, expression: str) -> Asked:
    """Ask an alert's own query, judged like any other read. Never raises for what the query is."""
    now_ms = fleet.clock.now_ms()
    since_ms = min(now_ms - SCOPE_MS, event.at_ms - BEFORE_START_MS)
    services = related(fleet, event.service)
    scope = Scope(event.event_id, event.environment, services, since_ms)
    reader = Reader(fleet.world, fleet.policy, fleet.clock, scope)
    return Asked(
        event,
        expression,
        await reader.query(expression, now_ms),
        await reader.query(expression, event.at_ms),
    )


def _bound_to_observe(policy: Policy) -> Policy:
    """The same rules without a binding: the mode is `observe` wherever none speaks."""
    return Policy(
        version=policy.version,
        rules=policy.rules,
        bindings=(),
        tools=policy.tools,
        facts=policy.facts,
        executors=policy.executors,
        limits=policy.limits,
    )
