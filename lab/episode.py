"""One scenario, live: inject a fault into a running lab and let the fleet deal with it until it is
over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from loop4.domain import Incident, Json
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session
from loop4.lab.lab import Lab
from loop4.lab.scenarios import Plan
from loop4.ledger import approvals, incidents, runs
from loop4.ledger.approvals import Request

BEAT_S = 1.0
QUIET_S = 30.0  # how long a scenario without an incident is watched after its last step
LIMIT_S = 150.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said to a request."""

    person: str
    roles: tuple[str, ...]
    approve: bool


class Watcher(Protocol):
    """Who looks on: the demo's screen, a benchmark, a recorder."""

    async def beaten(self, patrol: Patrol) -> None:
        """Called after every beat."""
        ...

    async def decide(self, request: Request) -> Answer | None:
        """A person's answer to a pending request; None to leave it pending for now."""
        ...


@dataclass(frozen=True, slots=True)
class Episode:
    """What happened: the plan, the incident if there was one, and the injector's own times.

    `onset_ms` is when the fault came into force by the injector's log, 0 if none did.
    """

    plan: Plan
    incident: Incident | None
    onset_ms: int
    ended_ms: int


async def run_episode(
    lab: Lab,
    session: Session,
    watcher: Watcher,
    *,
    scenario: str,
    seed: int,
    warm_up_s: float = 15.0,
    limit_s: float = LIMIT_S,
    tail_s: float = 0.0,
) -> Episode:
    """Inject and beat once a second until the incident is closed, or nothing came of it.

    Goes on for `tail_s` after that: a recording must show what a slower fleet would wait for. Ends
    at `limit_s` at the latest, whatever the state; the incident then stands open in the answer.
    """
    patrol = Patrol(session.fleet, session.runner)
    before = _known(session)
    done_before = _done(lab.injected())
    plan = await asyncio.to_thread(lab.inject, scenario, seed, warm_up_s=warm_up_s)
    began = time.monotonic()
    waited_s = 0.0
    over_since: float | None = None
    closed_since: float | None = None
    while time.monotonic() - began < limit_s + waited_s:
        started = time.monotonic()
        await patrol.beat()
        await watcher.beaten(patrol)
        is_waiting = await _answer(session, watcher)
        incident = _new_incident(session, before)
        if incident is not None and _is_closed(session, incident):
            closed_since = closed_since or time.monotonic()
            if time.monotonic() - closed_since >= tail_s:
                break
        if incident is None and _done(lab.injected()) > done_before:
            over_since = over_since or time.monotonic()
            if time.monotonic() - over_since > QUIET_S:
                break
        await asyncio.sleep(max(0.0, BEAT_S - (time.monotonic() - started)))
        if is_waiting:
            waited_s += time.monotonic() - started
    return Episode(
        plan,
        _new_incident(session, before),
        onset_of(lab.injected(), plan),
        session.fleet.clock.now_ms(),
    )


def onset_of(lines: list[Mapping[str, Json]], plan: Plan) -> int:
    """When the plan's last fault came into force, by the injector's log; 0 when it has none."""
    times = [
        line["at_ms"]
        for line in lines
        if line.get("what") == "fault" and isinstance(line.get("at_ms"), int)
    ]
    last = times[-1] if times and plan.culprit else 0
    return last if isinstance(last, int) else 0


def _done(lines: list[Mapping[str, Json]]) -> int:
    return sum(line.get("what") == "done" for line in lines)


def _known(session: Session) -> frozenset[str]:
    with session.ledger.read() as tx:
        return frozenset(i.incident_id for i in incidents.list_all(tx))


def _new_incident(session: Session, before: frozenset[str]) -> Incident | None:
    with session.ledger.read() as tx:
        fresh = [i for i in incidents.list_all(tx) if i.incident_id not in before]
    return fresh[0] if fresh else None


def _is_closed(session: Session, incident: Incident) -> bool:
    with session.ledger.read() as tx:
        return not any(r.incident_id == incident.incident_id for r in runs.list_open(tx))


async def _answer(session: Session, watcher: Watcher) -> bool:
    """Put every pending request to the watcher, and cast the vote it gives, as that person.

    True while a request waits for an answer.
    """
    is_waiting = False
    with session.ledger.read() as tx:
        pending = approvals.pending(tx)
    for request in pending:
        answer = await watcher.decide(request)
        if answer is None:
            is_waiting = True
            continue
        with session.ledger.transaction() as tx:
            approvals.vote(
                tx,
                request.approval.approval_id,
                answer.person,
                answer.roles,
                answer.approve,
                session.fleet.clock.now_ms(),
            )
        await session.runner.resume()
    return is_waiting
