"""One leg of a run: from here to the next pause or the end, by one driver at a time.

The only runner of a data folder needs no lease: its lock keeps every other process out. Several
workers over one ledger hold a lease for each leg; all that a leg writes first proves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.types import Command, StateSnapshot

from loop4.domain import IntentState
from loop4.errors import LedgerError, LedgerUnavailable, Loop4Error
from loop4.graphs.drafts import Drafts
from loop4.graphs.fleet import Fleet
from loop4.graphs.operations import compiled
from loop4.graphs.promises import promise_handover
from loop4.graphs.saver import LeasedSaver
from loop4.graphs.state import RECURSION_LIMIT, RunState
from loop4.ledger import evidence, incidents, intents, leases, locks, runs
from loop4.ledger.leases import Lease, LeasedLedger
from loop4.telemetry import run_span

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    Graph = CompiledStateGraph[RunState, None, RunState, RunState]


@dataclass(frozen=True, slots=True)
class Worker:
    """A process among several that drive runs: its name, and for how long a lease holds."""

    name: str
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One run in the hands of its driver. `takeovers` drivers in a row died with it before."""

    fleet: Fleet
    graph: Graph
    run_id: str
    takeovers: int = 0

    async def snapshot(self) -> StateSnapshot:
        """Where the run stands by its checkpoints."""
        return await self.graph.aget_state(_config(self.run_id))

    async def go(self, given: RunState | Command[str] | None) -> None:
        """Run to the next pause or the end. What a run cannot get over (a violation, a circle, an
        input that cannot be used) becomes evidence and fails this run alone.
        """
        with run_span("operations", run_id=self.run_id):
            try:
                await self.graph.ainvoke(given, _config(self.run_id), durability="sync")
            except GraphRecursionError:
                self.fail(f"went in a circle: over {RECURSION_LIMIT} nodes in one leg")
            except LedgerError:
                raise  # nothing can be written down, so nothing may go on
            except Loop4Error as error:
                self.fail(str(error))

    def fail(self, what: str) -> None:
        """End the run as failed, leave its incident to a person, and promise the page."""
        now_ms = self.fleet.clock.now_ms()
        with self.fleet.ledger.transaction() as tx:
            run = runs.get(tx, self.run_id)
            incident_id = run.incident_id if run else ""
            evidence.append(
                tx, "violation", incident_id, self.run_id, {"agent": "", "what": what}, at_ms=now_ms
            )
            for intent in intents.list_all(tx, run_id=self.run_id):
                if intent.state is not IntentState.INTENDED:
                    locks.release(tx, intent.target, intent.action_id)
            runs.set_state(tx, self.run_id, runs.RunState.FAILED, now_ms=now_ms)
            incidents.update(tx, incident_id, state="escalated")
            promise_handover(tx, self.run_id, incident_id, f"the run failed: {what}", now_ms=now_ms)


@dataclass(slots=True)
class Legs:
    """Hands out runs, one driver each. Without a `worker` there is nobody to share them with."""

    fleet: Fleet
    saver: BaseCheckpointSaver[str]
    worker: Worker | None = None
    held: dict[str, Lease] = field(default_factory=dict)
    _whole: Graph | None = None

    @asynccontextmanager
    async def taken(self, run_id: str) -> AsyncIterator[Leg | None]:
        """The run, for one leg; None while another driver has it.

        A leg that ends by itself, is told to stop, or finds its database out of reach gives the run
        back; one that dies keeps it until its time is over, and that counts.
        """
        if self.worker is None:
            self._whole = self._whole or compiled(self.fleet, self.saver)
            yield Leg(self.fleet, self._whole, run_id)
            return
        lease = self._take(run_id, self.worker)
        if lease is None:
            yield None
            return
        leg = self._leased(run_id, lease)
        self.held[run_id] = lease
        try:
            yield leg
            await self._give_back(leg, lease)
        except (asyncio.CancelledError, LedgerUnavailable):
            # if the ledger still cannot be written, the lease ends by its time
            with suppress(LedgerError), self.fleet.ledger.transaction() as tx:
                leases.release(tx, lease)
            raise
        finally:
            self.held.pop(run_id, None)

    def renew(self) -> tuple[str, ...]:
        """Hold on to every run in hand; the ids of those that were lost."""
        if self.worker is None or not self.held:
            return ()
        now_ms = self.fleet.clock.now_ms()
        with self.fleet.ledger.transaction() as tx:
            return tuple(
                run_id
                for run_id, lease in self.held.items()
                if not leases.renew(tx, lease, now_ms=now_ms, ttl_ms=self.worker.lease_ms)
            )

    def _take(self, run_id: str, worker: Worker) -> Lease | None:
        now_ms = self.fleet.clock.now_ms()
        with self.fleet.ledger.transaction() as tx:
            run = runs.get(tx, run_id)
            if run is None or not run.is_live:
                return None
            return leases.take(tx, run_id, worker.name, now_ms=now_ms, ttl_ms=worker.lease_ms)

    def _leased(self, run_id: str, lease: Lease) -> Leg:
        ledger = LeasedLedger(self.fleet.ledger, lease, self.fleet.clock)
        fleet = replace(self.fleet, ledger=ledger, drafts=Drafts(ledger), fence=lease.fence)
        return Leg(
            fleet, compiled(fleet, LeasedSaver(self.saver, ledger.prove)), run_id, lease.takeovers
        )

    async def _give_back(self, leg: Leg, lease: Lease) -> None:
        """Write what is still a draft, note when the run must be woken, and end the lease."""
        snapshot = await leg.snapshot()
        with leg.fleet.drafts.transaction() as tx:
            run = runs.get(tx, leg.run_id)
            if run is not None and run.is_live and snapshot.next == ("wait",):
                runs.set_state(
                    tx,
                    leg.run_id,
                    runs.RunState.SLEEPING,
                    now_ms=leg.fleet.clock.now_ms(),
                    wake_at_ms=int(snapshot.values.get("wake_at_ms", 0)),
                )
            leases.release(tx, lease)


def _config(run_id: str) -> RunnableConfig:
    return cast(
        "RunnableConfig",
        {"configurable": {"thread_id": run_id}, "recursion_limit": RECURSION_LIMIT},
    )
