"""Facts from the ledger: restarts, failed remediations, evidence, pages."""

from __future__ import annotations

from loop4.domain import Fact, IntentState
from loop4.ledger import evidence, intents
from loop4.tools.facts.sources import Candidate, FactSources

HOUR_MS = 3_600_000
FLAP_WINDOW_MS = HOUR_MS
PAGES_WINDOW_MS = 15 * 60_000
DAY_MS = 24 * 3_600_000


async def restarts_1h(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Restarts of this service in the last hour, those in flight included."""
    with sources.ledger.read() as tx:
        acts = intents.list_all(tx, tool="workloads.restart", since_ms=sources.now_ms - HOUR_MS)
    count = sum(
        a.service == candidate.action.service
        and a.state is not IntentState.FAILED
        and a.action_id != candidate.action.action_id
        for a in acts
    )
    return Fact(count, sources.now_ms, "ledger")


async def failed_remediations(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Acts on this target in the last hour that failed, are unknown, or did not pass
    verification.
    """
    with sources.ledger.read() as tx:
        count = intents.failed_remediations(
            tx, candidate.action.target, since_ms=sources.now_ms - FLAP_WINDOW_MS
        )
    return Fact(count, sources.now_ms, "ledger")


async def evidence_sources(sources: FactSources, candidate: Candidate) -> Fact | None:
    """How many independent kinds of source the cited evidence comes from; ids not in the ledger
    count nothing.
    """
    cited = set(candidate.evidence)
    with sources.ledger.read() as tx:
        rows = evidence.list_records(tx, sources.incident.incident_id, kinds=("read",))
    kinds = {
        str(r.body["source"])
        for r in rows
        if r.body.get("evidence") in cited and not r.body.get("denied")
    }
    return Fact(len(kinds), sources.now_ms, "ledger")


async def pages_15m(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Pages in the last 15 minutes, all incidents."""
    return _pages_since(sources, candidate, PAGES_WINDOW_MS)


async def pages_24h(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Pages in the last 24 hours, all incidents."""
    return _pages_since(sources, candidate, DAY_MS)


def _pages_since(sources: FactSources, candidate: Candidate, window_ms: int) -> Fact:
    with sources.ledger.read() as tx:
        acts = intents.list_all(tx, tool="oncall.page", since_ms=sources.now_ms - window_ms)
    others = sum(a.action_id != candidate.action.action_id for a in acts)
    return Fact(others, sources.now_ms, "ledger")


async def page_repeat(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether this incident was already notified of this very state by this tool."""
    action = candidate.action
    with sources.ledger.read() as tx:
        acts = intents.list_all(tx, incident_id=action.incident_id, tool=action.tool)
    path = action.arguments.get("path")
    repeated = any(
        a.action_id != action.action_id and a.arguments.get("path") == path for a in acts
    )
    return Fact(repeated, sources.now_ms, "ledger")


async def staging_passed(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether the ledger holds a staging pass of the very experiment; without a digest it does
    not.
    """
    wanted = candidate.action.arguments.get("digest")
    with sources.ledger.read() as tx:
        rows = evidence.list_records(tx, None, kinds=("staging_pass",))
    passed = isinstance(wanted, str) and any(
        r.body.get("experiment_digest") == wanted for r in rows
    )
    return Fact(passed, sources.now_ms, "ledger")
