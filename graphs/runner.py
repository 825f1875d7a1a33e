"""Runs: start one for an event, or feed the live one; continue what a crash, a vote or the clock
left open.

`handle` and `resume` are the only ways in; the command line, the demo and a replay all use these
two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.types import Command

from loop4.domain import ApprovalState, Event, Incident, IntentState, Json, Reading, Severity
from loop4.errors import LedgerError, Loop4Error
from loop4.graphs.deliveries import keep_promises
from loop4.graphs.fleet import Fleet
from loop4.graphs.operations import compiled
from loop4.graphs.promises import promise_handover
from loop4.graphs.recovery import breached_targets, check_recovery, overall
from loop4.graphs.state import GRAPH_VERSION, RECURSION_LIMIT, RunState
from loop4.graphs.triage import measure, reader_for, related
from loop4.ledger import approvals, events, evidence, incidents, intents, locks, outbox, runs
from loop4.ledger.ledger import Tx
from loop4.telemetry import run_span

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of an event: which incident it belongs to, and whether it started a run."""

    incident_id: str
    run_id: str
    started: bool
    duplicate: bool = False


class Runner:
    """Drives the graph over one ledger and one saver. One runner per data folder (see
    `RunnerLock`).
    """

    def __init__(self, fleet: Fleet, saver: BaseCheckpointSaver[str]) -> None:
        self._fleet = fleet
        self._graph = compiled(fleet, saver)

    async def handle(self, event: Event) -> Handled:
        """Accept an event once. It opens an incident and runs it, or goes to the live run's
        inbox.
        """
        fleet = self._fleet
        now_ms = fleet.clock.now_ms()
        with fleet.ledger.transaction() as tx:
            if not events.accept(tx, event, now_ms=now_ms):
                known = incidents.find_open(tx, event.correlation)
                return Handled(known.incident_id if known else "", "", False, duplicate=True)
            open_one = self._related_incident(incidents.list_open(tx), event)
            if event.resolved and (open_one is None or runs.live(tx, open_one.incident_id) is None):
                events.take(tx, [event.event_id], now_ms=now_ms)
                return Handled(open_one.incident_id if open_one else "", "", False)
            if open_one is None:
                open_one = _open_incident(tx, event, now_ms)
            events.assign(tx, event.event_id, open_one.incident_id)
            run_id = (
                f"run-{open_one.incident_id}-{len(events.of_incident(tx, open_one.incident_id))}"
            )
            run, created = runs.start(
                tx, run_id, open_one.incident_id, GRAPH_VERSION, now_ms=now_ms
            )
        if created:
            await self._leg(run.run_id, self._first_input(run.run_id, open_one.incident_id, event))
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

    def _first_input(self, run_id: str, incident_id: str, event: Event) -> RunState:
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

    async def resume(self) -> tuple[str, ...]:
        """Continue every open run that can go on: crashed legs, closed approvals, due wake-ups.
        Their ids. Promised notices that are due are sent.

        Expired requests are closed first. A run of another graph version is left alone.
        """
        fleet = self._fleet
        now_ms = fleet.clock.now_ms()
        with fleet.ledger.read() as tx:
            overdue = any(r.approval.expires_ms <= now_ms for r in approvals.pending(tx))
            unassigned = events.unassigned(tx)
        if overdue:
            with fleet.ledger.transaction() as tx:
                approvals.expire(tx, now_ms)
        for event in unassigned:
            await self._adopt(event)
        with fleet.ledger.read() as tx:
            opened = runs.list_open(tx)
        moved = []
        for run in opened:
            if run.graph_version != GRAPH_VERSION:
                continue
            if await self._continue(run, now_ms):
                moved.append(run.run_id)
        await keep_promises(fleet)
        return tuple(moved)

    async def _adopt(self, event: Event) -> None:
        """An event that was accepted before a crash and belongs to no incident yet."""
        now_ms = self._fleet.clock.now_ms()
        with self._fleet.ledger.transaction() as tx:
            incident = _open_incident(tx, event, now_ms)
            events.assign(tx, event.event_id, incident.incident_id)
            run, created = runs.start(
                tx,
                f"run-{incident.incident_id}-1",
                incident.incident_id,
                GRAPH_VERSION,
                now_ms=now_ms,
            )
        if created:
            await self._leg(run.run_id, self._first_input(run.run_id, incident.incident_id, event))

    async def _continue(self, run: runs.Run, now_ms: int) -> bool:
        config = self._config(run.run_id)
        snapshot = await self._graph.aget_state(config)
        if not snapshot.values and not snapshot.next:
            return await self._restart(run)
        waiting = snapshot.tasks[0].interrupts if snapshot.tasks else ()
        if not waiting:
            await self._leg(run.run_id, None)
            return True
        if snapshot.next == ("approve",):
            return await self._after_vote(run, str(snapshot.values.get("approval", "")))
        if int(snapshot.values.get("wake_at_ms", 0)) > now_ms:
            return False
        await self._leg(run.run_id, Command(resume={"woken": "yes"}))
        return True

    async def _restart(self, run: runs.Run) -> bool:
        """A crash before the first checkpoint: begin again with the incident's first event."""
        with self._fleet.ledger.read() as tx:
            known = events.of_incident(tx, run.incident_id)
        if not known:
            return False
        await self._leg(run.run_id, self._first_input(run.run_id, run.incident_id, known[0]))
        return True

    async def _after_vote(self, run: runs.Run, approval_id: str) -> bool:
        with self._fleet.ledger.read() as tx:
            request = approvals.get(tx, approval_id)
            due = [
                row.key
                for row in outbox.due(tx, self._fleet.clock.now_ms())
                if row.payload.get("approval_id") == approval_id
            ]
        if request is not None and request.approval.state is ApprovalState.PENDING:
            return False
        await self._leg(run.run_id, Command(resume={"approval_id": approval_id}))
        if due:
            with self._fleet.ledger.transaction() as tx:
                for key in due:
                    outbox.done(tx, key, now_ms=self._fleet.clock.now_ms())
        return True

    async def watch(self) -> None:
        """While people decide: withdraw a request whose breach is gone, supersede one whose
        severity rose.
        """
        fleet = self._fleet
        with fleet.ledger.read() as tx:
            pending = approvals.pending(tx)
        for request in pending:
            with fleet.ledger.read() as tx:
                known = events.of_incident(tx, request.incident_id)
                inbox = events.inbox(tx, request.incident_id)
            if not known or known[0].request is not None:
                continue
            checks = await check_recovery(
                fleet,
                known[0],
                breached_targets(fleet, request.incident_id),
                since_ms=request.approval.requested_ms,
            )
            if overall(checks) is Reading.PASS:
                self._close(request, "the breach cleared by itself", withdraw=True)
            elif inbox:
                await self._reconsider(request, known[0], inbox)

    async def _reconsider(
        self, request: approvals.Request, event: Event, inbox: Sequence[Event]
    ) -> None:
        """New events during a wait: severity may rise, and then the request is asked again as it
        now stands.
        """
        fleet = self._fleet
        incident = fleet.incident(request.incident_id)
        measured = await measure(fleet, event, reader_for(fleet, event, incident.incident_id))
        now_ms = fleet.clock.now_ms()
        raised = measured.assessment.severity
        with fleet.ledger.transaction() as tx:
            events.take(tx, [e.event_id for e in inbox], now_ms=now_ms)
            if raised.rank >= incident.severity.rank:
                return
            incidents.update(tx, incident.incident_id, severity=raised)
            body: dict[str, Json] = {
                "from": incident.severity.value,
                "to": raised.value,
                "reason": measured.assessment.reason,
            }
            evidence.append(
                tx,
                "severity_raised",
                incident.incident_id,
                request.run_id,
                body,
                at_ms=now_ms,
            )
        self._close(request, f"severity rose to {raised.value}", withdraw=False)

    def _close(self, request: approvals.Request, reason: str, *, withdraw: bool) -> None:
        close = approvals.withdraw if withdraw else approvals.supersede
        with self._fleet.ledger.transaction() as tx:
            close(tx, request.approval.approval_id, reason, now_ms=self._fleet.clock.now_ms())

    async def _leg(self, run_id: str, given: RunState | Command[str] | None) -> None:
        """One leg: from here to the next pause or the end. What a run cannot get over (a violation,
        a circle, an input that cannot be used) becomes evidence and fails this run alone.
        """
        with run_span("operations", run_id=run_id):
            try:
                await self._graph.ainvoke(given, self._config(run_id), durability="sync")
            except GraphRecursionError:
                self._fail(run_id, f"went in a circle: over {RECURSION_LIMIT} nodes in one leg")
            except LedgerError:
                raise  # nothing can be written down, so nothing may go on
            except Loop4Error as error:
                self._fail(run_id, str(error))

    def _fail(self, run_id: str, what: str) -> None:
        now_ms = self._fleet.clock.now_ms()
        with self._fleet.ledger.transaction() as tx:
            run = runs.get(tx, run_id)
            incident_id = run.incident_id if run else ""
            evidence.append(
                tx, "violation", incident_id, run_id, {"agent": "", "what": what}, at_ms=now_ms
            )
            for intent in intents.list_all(tx, run_id=run_id):
                if intent.state is not IntentState.INTENDED:
                    locks.release(tx, intent.target, intent.action_id)
            runs.set_state(tx, run_id, runs.RunState.FAILED, now_ms=now_ms)
            incidents.update(tx, incident_id, state="escalated")
            promise_handover(tx, run_id, incident_id, f"the run failed: {what}", now_ms=now_ms)

    def _config(self, run_id: str) -> RunnableConfig:
        return cast(
            "RunnableConfig",
            {"configurable": {"thread_id": run_id}, "recursion_limit": RECURSION_LIMIT},
        )


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
