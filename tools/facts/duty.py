"""Facts of the watch: is the fleet paused, do changes rest, is work planned, how often may it page.

The pause is read from the ledger at every decision, so it holds from the next one on.
"""

from __future__ import annotations

from loop4.domain import Fact
from loop4.ledger import parameters
from loop4.tools.facts.sources import Candidate, FactSources


async def fleet_paused(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether somebody paused the fleet."""
    with sources.ledger.read() as tx:
        paused = parameters.get(tx, parameters.PAUSED, sources.now_ms)
    return Fact(paused is not None, sources.now_ms, "ledger")


async def deploy_frozen(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether a freeze of the calendar holds for the action's service."""
    action = candidate.action
    found = sources.calendar.freeze(action.environment, action.service, sources.now_ms)
    return Fact(found is not None, sources.now_ms, "calendar")


async def in_maintenance(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether work on the action's service is planned for now."""
    action = candidate.action
    found = sources.calendar.planned(action.environment, action.service, sources.now_ms)
    return Fact(found is not None, sources.now_ms, "calendar")


async def page_budget_24h(sources: FactSources, candidate: Candidate) -> Fact | None:
    """How many pages a day may go out."""
    return Fact(sources.calendar.pages_per_day, sources.now_ms, "calendar")
