"""Facts of the watch: is the fleet paused, do changes rest, is work planned, how often may it page.

All are read at every decision, so a pause or a new freeze holds from the next one on. While nobody
can read the calendar, no write goes ahead, and no page is kept from a person.
"""

from __future__ import annotations

from loop4.domain import Fact
from loop4.errors import PolicyError
from loop4.ledger import parameters
from loop4.policies.calendar import PAGES_PER_DAY
from loop4.tools.facts.sources import Candidate, FactSources


async def fleet_paused(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether somebody paused the fleet."""
    with sources.ledger.read() as tx:
        paused = parameters.get(tx, parameters.PAUSED, sources.now_ms)
    return Fact(paused is not None, sources.now_ms, "ledger")


async def deploy_frozen(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether a freeze of the calendar holds for the action's service; None while it cannot be
    read.
    """
    action = candidate.action
    try:
        found = sources.calendar().freeze(action.environment, action.service, sources.now_ms)
    except PolicyError:
        return None
    return Fact(found is not None, sources.now_ms, "calendar")


async def in_maintenance(sources: FactSources, candidate: Candidate) -> Fact | None:
    """Whether work on the action's service is planned for now."""
    action = candidate.action
    try:
        found = sources.calendar().planned(action.environment, action.service, sources.now_ms)
    except PolicyError:
        found = None
    return Fact(found is not None, sources.now_ms, "calendar")


async def page_budget_24h(sources: FactSources, candidate: Candidate) -> Fact | None:
    """How many pages a day may go out."""
    try:
        pages = sources.calendar().pages_per_day
    except PolicyError:
        pages = PAGES_PER_DAY
    return Fact(pages, sources.now_ms, "calendar")
