"""Put a fleet together from folders and a world: the one place where policies, ledger and agents
meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from loop4.agents import health, incident, remediation, signal
from loop4.agents.agent import Agent
from loop4.agents.planner.port import Planner, PlaybookPlanner
from loop4.domain import Clock
from loop4.graphs.act import executable_tools
from loop4.graphs.drafts import Drafts
from loop4.graphs.fleet import Fleet, nowhere
from loop4.ledger import runner
from loop4.ledger.ledger import Ledger
from loop4.policies.calendar import CalendarFile
from loop4.policies.catalogue import load_catalogue
from loop4.policies.context import read_context
from loop4.policies.openslo import load_targets
from loop4.policies.policy_files import PolicyFiles
from loop4.policies.runbooks import load_runbooks
from loop4.policies.severity import load_severity
from loop4.tools.backends.files import OperationsFolder
from loop4.tools.backends.ports import WorkloadsWriter, World
from loop4.tools.tool import Hands

AGENTS: tuple[Agent, ...] = (health.AGENT, incident.AGENT, remediation.AGENT, signal.AGENT)
READ_TOOLS = frozenset(
    {
        "metrics.query",
        "metrics.query_range",
        "traces.spans",
        "logs.records",
        "changes.between",
        "workloads.inventory",
    }
)


def assemble(
    *,
    operations: Path,
    ledger: Ledger,
    world: World,
    clock: Clock,
    writer: WorkloadsWriter | None = None,
    rules: Path | None = None,
    agents: Sequence[Agent] = AGENTS,
    passing: Callable[[str], None] = nowhere,
    planner: Planner | None = None,
) -> Fleet:
    """A fleet over an operations folder. Raises PolicyError for any document that cannot be loaded.

    Takes the next fence from the ledger, so that an older runner's late settlement is refused.
    """
    policies = operations / "policies"
    files = PolicyFiles(rules, policies, executable_tools() | READ_TOOLS)
    policy = files.load()
    calendar = CalendarFile(policies / "calendar.yaml")
    calendar.load()
    with ledger.transaction() as tx:
        fence = runner.next_fence(tx)
    return Fleet(
        world=world,
        hands=Hands(writer, world.workloads, OperationsFolder(operations)),
        policy=policy,
        severity=policy.limits.severity(load_severity()),
        catalogue=load_catalogue(policies / "services.yaml"),
        targets=policy.limits.targets(load_targets(policies / "targets")),
        runbooks=load_runbooks(policies / "runbooks", tools=set(policy.tools)),
        ledger=ledger,
        drafts=Drafts(ledger),
        clock=clock,
        agents=tuple(agents),
        read_context=lambda now_ms: read_context(operations, now_ms),
        operations=operations,
        calendar=calendar.load,
        fence=fence,
        passing=passing,
        planner=planner or PlaybookPlanner(),
        policy_now=files.load,
    )
