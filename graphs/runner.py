"""Runs: start one for an event, or feed the live one; continue what a crash, a vote or the clock
left open.

`handle` and `resume` are the only ways in for a command line, the demo and a replay; the engine
takes the same two apart: `accept` and `place` an event, `due` and `advance` a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langgraph.types import Command

from loop4.domain import ApprovalState, Event, Incident, Severity
from loop4.graphs.abandon import POISONOUS, abandon
from loop4.graphs.deliveries import keep_promises
from loop4.graphs.fleet import Fleet
from loop4.graphs.legs import Leg, Legs, Worker
from loop4.graphs.state import GRAPH_VERSION, RunState
from loop4.graphs.triage import related
from loop4.graphs.waits import watch_waits
from loop4.ledger import approvals, events, incidents, leases, outbox, runs
from loop4.ledger.ledger import Tx

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of an event: which incident it belongs to, and whether it started a run."""

    incident_id: str
    run_id: str
    started: bool
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """A run that can go on. `fence` is that of its last driver, 0 if nobody drove it yet."""

    run_id: str
    fence: int


class Runner:
    """Drives the graph over one ledger and one saver.

    Without a `worker` it is the only runner of its data folder (see `RunnerLock`); with one it
    shares the runs with other workers by leases.
    """

    def __init__(
        self, fleet: Fleet, saver: BaseCheckpointSaver[str], worker: Worker | None = None
    ) -> None:
        self._fleet = fleet
        self.legs = Legs(fleet, saver, worker)

    async def handle(self, event: Event) -> Handled:
        """Accept an event once. It opens an incident and runs it, or goes to the live run's
        inbox.
        """
        return await self._begin(self._place(event, is_new=True), event)

    def accept(self, given: Sequence[Event]) -> tuple[Event, ...]:
        """Store events, durably, in one transaction; those that were not delivered before."""
        with self._fleet.ledger.read() as tx:
            fresh = [event for event in given if events.get(tx, event.event_id) is None]
        if not fresh:
            return ()
        now_ms = self._fleet.clock.now_ms()
        with self._fleet.ledger.transaction() as tx:
            return tuple(e for e in fresh if events.accept(tx, e, now_ms=now_ms))

    async def place(self, event: Event) -> Handled:
        """Give an accepted event to its incident; a new incident's run goes as far as it can."""
        return await self._begin(self._place(event, is_new=False), event)

    async def _begin(self, handled: Handled, event: Event) -> Handled:
        if handled.started:
            async with self.legs.taken(handled.run_id) as leg:
                if leg is not None and not (await leg.snapshot()).values:
                    await leg.go(_first_input(handled.run_id, handled.incident_id, event))
        return handled

    def _place(self, event: Event, *, is_new: bool) -> Handled:
        fleet = self._fleet
        now_ms = fleet.clock.now_ms()
        with fleet.ledger.transaction() as tx:
            if is_new and not events.accept(tx, event, now_ms=now_ms):
                known = incidents.find_open(tx, event.correlation)
                return Handled(known.incident_id if known else "", "", False, duplicate=True)
            if not is_new and not events.is_unplaced(tx, event.event_id):
                return Handled("", "", False, duplicate=True)
            open_one = self._related_incident(incidents.list_open(tx), event)
            if event.resolved and (open_one is None or runs.live(tx, open_one.incident_id) is None):
                events.take(tx, [event.event_id], now_ms=now_ms)
                return Handled(open_one.incident_id if open_one else "", "", False)
            if open_one is None:
                open_one = _open_incident(tx, event, now_ms)
            events.assign(tx, event.event_id, open_one.incident_id)
            run_id = f"run-{open_one.incident_id}-{events.count_of(tx, open_one.incident_id)}"
            run, created = runs.start(
                tx, run_id, open_one.incident_id, GRAPH_VERSION, now_ms=now_ms
            )
        return Handled(open_one.incident_id, run.run_id, created)

    def _related_incident(self, opened: Sequence[Incident], event: Event) -> Incident | None:
        """The open incident that this event belongs to: same environment, services that depend on
        each other.
        """
        if event.request is not None:
            return None
        near = related(self._fleet, event.service)
        return next(
            (
                i
                for i in opened
                if i.environment == event.environment
                and i.service in near
                and not i.correlation.startswith("request/")
            ),
            None,
        )

    async def resume(self) -> tuple[str, ...]:
        """Continue every open run that can go on: crashed legs, closed approvals, due wake-ups.
        Their ids. Promised notices that are due are sent.

        Expired requests are closed first. A run of another graph version is left alone.
        """
        self.expire()
        for event in self.unplaced():
            await self.place(event)
        with self._fleet.ledger.read() as tx:
            opened = runs.list_open(tx)
        moved = tuple([run.run_id for run in opened if await self.advance(run.run_id)])
        await self.keep_promises()
        return moved

    async def keep_promises(self) -> None:
        """Send the promised notices that are due."""
        await keep_promises(self._fleet)

    def expire(self) -> None:
        """Close the requests that nobody answered in time."""
        fleet = self._fleet
        now_ms = fleet.clock.now_ms()
        with fleet.ledger.read() as tx:
            overdue = any(r.approval.expires_ms <= now_ms for r in approvals.pending(tx))
        if overdue:
            with fleet.ledger.transaction() as tx:
                approvals.expire(tx, now_ms)

    def unplaced(self) -> tuple[Event, ...]:
        """Events that were accepted and belong to no incident yet: a crash came between the two."""
        with self._fleet.ledger.read() as tx:
            return events.unassigned(tx)

    def due(self) -> tuple[Due, ...]:
        """The runs that nobody drives and that can go on now, by the ledger alone, oldest first."""
        now_ms = self._fleet.clock.now_ms()
        with self._fleet.ledger.read() as tx:
            found = []
            for run in runs.list_open(tx):
                lease = leases.get(tx, run.run_id)
                if lease is not None and lease.is_held(now_ms):
                    continue
                died = lease is not None and bool(lease.holder)
                if run.graph_version == GRAPH_VERSION and (died or _can_go_on(tx, run, now_ms)):
                    found.append(Due(run.run_id, lease.fence if lease else 0))
        return tuple(found)

    async def advance(self, run_id: str) -> bool:
        """Continue one run if it can go on and nobody else drives it. True: it moved."""
        with self._fleet.ledger.read() as tx:
            run = runs.get(tx, run_id)
        if run is None or not run.is_live or run.graph_version != GRAPH_VERSION:
            return False
        async with self.legs.taken(run_id) as leg:
            if leg is None:
                return False
            if leg.takeovers >= POISONOUS:
                await abandon(leg)
                return True
            return await self._continue(leg, run)

    async def _continue(self, leg: Leg, run: runs.Run) -> bool:
        snapshot = await leg.snapshot()
        if not snapshot.values and not snapshot.next:
            return await self._restart(leg, run)
        waiting = snapshot.tasks[0].interrupts if snapshot.tasks else ()
        if not waiting:
            await leg.go(None)
            return True
        if snapshot.next == ("approve",):
            return await self._after_vote(leg, str(snapshot.values.get("approval", "")))
        if int(snapshot.values.get("wake_at_ms", 0)) > self._fleet.clock.now_ms():
            return False
        await leg.go(Command(resume={"woken": "yes"}))
        return True

    async def _restart(self, leg: Leg, run: runs.Run) -> bool:
        """A crash before the first checkpoint, or lost checkpoints: begin again with the event that
        nobody took yet, else with the incident's first.
        """
        with leg.fleet.ledger.read() as tx:
            known = events.inbox(tx, run.incident_id) or events.of_incident(tx, run.incident_id)
        if not known:
            return False
        await leg.go(_first_input(run.run_id, run.incident_id, known[0]))
        return True

    async def _after_vote(self, leg: Leg, approval_id: str) -> bool:
        fleet = leg.fleet
        with fleet.ledger.read() as tx:
            request = approvals.get(tx, approval_id)
            due = [
                row.key
                for row in outbox.due(tx, fleet.clock.now_ms())
                if row.payload.get("approval_id") == approval_id
            ]
        if request is not None and request.approval.state is ApprovalState.PENDING:
            return False
        await leg.go(Command(resume={"approval_id": approval_id}))
        if due:
            with fleet.ledger.transaction() as tx:
                for key in due:
                    outbox.done(tx, key, now_ms=fleet.clock.now_ms())
        return True

    async def watch(self) -> None:
        """While people decide: withdraw a request whose breach is gone, supersede one whose
        severity rose.
        """
        await watch_waits(self._fleet)


def _can_go_on(tx: Tx, run: runs.Run, now_ms: int) -> bool:
    """By the ledger: it runs and has no driver, its vote is in, or its time has come."""
    match run.state:
        case runs.RunState.SLEEPING:
            return run.wake_at_ms <= now_ms
        case runs.RunState.WAITING_APPROVAL:
            request = approvals.get(tx, run.approval_id)
            return request is None or request.approval.state is not ApprovalState.PENDING
        case _:
            return True


def _first_input(run_id: str, incident_id: str, event: Event) -> RunState:
    return {
        "run_id": run_id,
        "incident_id": incident_id,
        "event": event.event_id,
        "graph_version": GRAPH_VERSION,
        "phase": "act",
        "approval": "",
        "acted_at_ms": 0,
        "checks": 0,
        "verified": "",
    }


def _open_incident(tx: Tx, event: Event, now_ms: int) -> Incident:
    """The open incident of this correlation, made if there is none; triage gives its severity."""
    incident, _ = incidents.open_or_find(
        tx,
        event.correlation,
        service=event.service,
        environment=event.environment,
        severity=Severity.SEV4,
        detected_ms=event.at_ms,
        now_ms=now_ms,
    )
    return incident
