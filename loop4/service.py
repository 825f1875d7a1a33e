"""The fleet on duty: what the engine's queues and schedules do with a session.

Every piece of work is safe to do again: events and runs are claimed in the ledger, and a leg is
driven under a lease. The pump finds by the ledger alone what a crash, a lost engine or a lost
message left open.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from loop4.domain import Event
from loop4.engine import Engine, QueueLimits, Schedule, limits_from
from loop4.errors import (
    BackendError,
    EngineError,
    EvidenceError,
    LeaseLost,
    LedgerError,
    Loop4Error,
    RunnerBusy,
)
from loop4.graphs.news import News
from loop4.graphs.session import Session
from loop4.graphs.sweep import events_of, instance_events, read_targets
from loop4.heartbeat import Heartbeat
from loop4.ledger import approvals, events, leases, limits, outbox, runs
from loop4.ledger.checkpoints import Signing, checkpoint_if_due
from loop4.ledger.leases import Lease
from loop4.policies.fleet_schedule import Duty, FleetSchedule
from loop4.tools.emergency import page_emergency

AGAIN_MS = 30_000  # work that ended without its effect is promised again after this long
NAMES = "worker:"  # a worker's own name is leased like a run
POLL_S = 0.5
FORGOTTEN_AT_ONCE = 200

Sweep = Callable[["Service", frozenset[str], str], Awaitable[int]]


@dataclass(slots=True)
class Service:
    """One worker's part of the fleet: a session, an engine, and what each schedule means."""

    session: Session
    schedule: FleetSchedule
    heartbeat: Heartbeat
    signing: Signing | None = None
    engine: Engine | None = None
    is_draining: bool = False
    _news: dict[str, News] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _promised: set[str] = field(default_factory=set)  # keys of what the last pump found open
    _began_ms: dict[str, int] = field(default_factory=dict)  # when each duty began last
    _name: Lease | None = None
    _limits: tuple[QueueLimits, ...] = ()
    _forgotten_ms: int = 0  # runs that ended before then have no checkpoints any more

    async def start(self, url: str, worker: str) -> Engine:
        """Open the engine and begin to work."""
        engine = Engine(url, worker, perform=self.perform, tick=self.tick)
        self.engine = engine
        self._limits = self._limits_now()
        await engine.start(
            self._limits,
            [
                Schedule(d.name, d.every_s, "sweeps" if d.does == "sweep" else "housekeeping")
                for d in self.schedule.duties
            ],
        )
        return engine

    def _limits_now(self) -> tuple[QueueLimits, ...]:
        """Those of fleet.yaml, with what people set in the ledger on top."""
        with self.session.ledger.read() as tx:
            given = limits.read(tx, self.session.fleet.clock.now_ms())
        return limits_from(limits_of(self.schedule), given)

    async def sign_on(self, worker: str) -> None:
        """Hold this worker's name. One that died a moment ago is waited for.

        Raises RunnerBusy when another live worker has the name.
        """
        clock, ledger = self.session.fleet.clock, self.session.ledger
        ttl_ms = self.schedule.lease_s * 1000
        until_ms = clock.now_ms() + ttl_ms + 1000
        while self._name is None:
            with ledger.transaction() as tx:
                self._name = leases.take(
                    tx, f"{NAMES}{worker}", worker, now_ms=clock.now_ms(), ttl_ms=ttl_ms
                )
            if self._name is None:
                if clock.now_ms() > until_ms:
                    raise RunnerBusy(
                        f"a worker named {worker!r} is alive; name this one with --worker-id"
                    )
                await asyncio.sleep(POLL_S)

    async def accept(self, given: Sequence[Event]) -> tuple[Event, ...]:
        """Store events and promise their handling; those that are new.

        What is stored is handled even if the promise is lost.
        """
        fresh = self.session.runner.accept(given)
        for event in fresh:
            with suppress(EngineError):
                await self._opened().enqueue(
                    "events", "event", event.event_id, f"{event.kind.value}:{event.event_id}"
                )
        return fresh

    async def voted(self, run_id: str, key: str) -> None:
        """A request was decided: let its run go on. `key` is the outbox row's."""
        with suppress(EngineError):
            await self._opened().enqueue("runs", "leg", run_id, key)

    async def perform(self, what: str, subject: str) -> str:
        """One piece of work from a queue. Returns what came of it; never raises what it expects."""
        kinds: Mapping[str, Callable[[str], Awaitable[str]]] = {
            "event": self._event,
            "leg": self._leg,
            "sweep": self._shard,
        }
        return await self._guarded(kinds[what], subject)

    async def tick(self, name: str, at_ms: int) -> str:
        """One tick of a schedule. A duty that still runs is left out, and a sweep that began since
        this tick was due: the first tick of a backlog, however late, looks for all of them.
        """
        duty = next((d for d in self.schedule.duties if d.name == name), None)
        if duty is None or self.is_draining or name in self._busy:
            return "left out"
        now_ms = self.session.fleet.clock.now_ms()
        began_ms = self._began_ms.get(name, 0)
        if duty.does == "sweep" and at_ms < began_ms <= now_ms:  # later than now: a clock set back
            return "done since"
        self._began_ms[name] = now_ms
        self._busy.add(name)
        try:
            return await self._guarded(lambda _: self._duty(duty, at_ms), name)
        finally:
            self._busy.discard(name)

    async def _guarded(self, work: Callable[[str], Awaitable[str]], subject: str) -> str:
        """Without a ledger nothing acts: the fixed emergency page goes out."""
        try:
            return await work(subject)
        except LeaseLost as error:
            return f"lost: {error}"
        except LedgerError as error:
            fleet = self.session.fleet
            if fleet.operations is not None:
                page_emergency(fleet.operations, fleet.clock.now_ms())
            print(f"loop4: {error}", file=sys.stderr)
            return f"failed: {error}"
        except (BackendError, EngineError) as error:
            print(f"loop4: {error}", file=sys.stderr)
            return f"failed: {error}"

    async def _duty(self, duty: Duty, at_ms: int) -> str:
        match duty.does:
            case "sweep":
                return await self._sweep(duty.name, at_ms)
            case "pump":
                return await self.pump()
            case "watch":
                await self.session.runner.watch()
                await self.session.runner.keep_promises()
                return await self.pump()
            case "heartbeat":
                return await self.heartbeat.beat(self.session.fleet.clock.now_ms())
            case "checkpoint":
                return await self._checkpoint(duty.every_s)
            case _:
                return await self._retain()

    async def _event(self, event_id: str) -> str:
        with self.session.ledger.read() as tx:
            event = events.get(tx, event_id) if events.is_unplaced(tx, event_id) else None
        if event is None:
            return "placed before"
        handled = await self.session.runner.place(event)
        await self._wake_later(handled.run_id)
        return handled.incident_id or "recorded"

    async def _leg(self, run_id: str) -> str:
        moved = await self.session.runner.advance(run_id)
        await self._wake_later(run_id)
        return "moved" if moved else "nothing to do"

    async def _wake_later(self, run_id: str) -> None:
        """Promise the leg that begins when a sleeping run must be woken."""
        with self.session.ledger.read() as tx:
            run, lease = runs.get(tx, run_id), leases.get(tx, run_id)
        if run is None or lease is None or run.state is not runs.RunState.SLEEPING:
            return
        delay_ms = max(0, run.wake_at_ms - self.session.fleet.clock.now_ms())
        with suppress(EngineError):
            await self._opened().enqueue(
                "runs",
                "leg",
                run_id,
                f"wake:{run_id}:{lease.fence}:{run.wake_at_ms}",
                delay_s=delay_ms / 1000,
            )

    async def pump(self) -> str:
        """Promise by deterministic names whatever the ledger shows to be open; how much."""
        runner, engine = self.session.runner, self._opened()
        now_ms = self.session.fleet.clock.now_ms()
        slot = now_ms // AGAIN_MS
        present = self._limits_now()
        if present != self._limits:
            await engine.set_limits(present)
            self._limits = present
        runner.expire()
        open_work = {
            f"{event.kind.value}:{event.event_id}:{slot}": ("events", "event", event.event_id)
            for event in runner.unplaced()
        } | {
            f"leg:{due.run_id}:{due.fence}:{slot}": ("runs", "leg", due.run_id)
            for due in runner.due()
        }
        # in a storm of alerts most were promised a moment ago
        fresh = [key for key in open_work if key not in self._promised]
        for key in fresh:
            await engine.enqueue(*open_work[key], key)
        self._promised = set(open_work)
        promised = len(fresh)
        promised += await self._pump_outbox(now_ms) + await self._pump_dead_workers(now_ms)
        return f"{promised} promised"

    async def _pump_dead_workers(self, now_ms: int) -> int:
        """What a dead worker had begun in the engine goes to the others. Its runs go by their own
        leases.
        """
        with self.session.ledger.read() as tx:
            dead = [
                lease
                for lease in leases.list_held(tx)
                if lease.run_id.startswith(NAMES) and not lease.is_held(now_ms)
            ]
        moved = 0
        for lease in dead:
            moved += len(await self._opened().resume_orphans(lease.holder))
            with self.session.ledger.transaction() as tx:
                leases.release(tx, lease)
        return moved

    async def _pump_outbox(self, now_ms: int) -> int:
        """Each row wakes its run once; a row whose run is over is done."""
        with self.session.ledger.read() as tx:
            rows = [row for row in outbox.due(tx, now_ms) if row.kind == "resume"]
            live = {run.run_id for run in runs.list_open(tx)}
        over = [row.key for row in rows if row.payload.get("run_id") not in live]
        if over:
            with self.session.ledger.transaction() as tx:
                for key in over:
                    outbox.done(tx, key, now_ms=now_ms)
        waking = [row for row in rows if row.payload.get("run_id") in live]
        for row in waking:
            await self._opened().enqueue("runs", "leg", str(row.payload["run_id"]), row.key)
        return len(waking)

    async def _sweep(self, agent: str, at_ms: int) -> str:
        """Fan one sweep out over the shards; a single one is looked at at once."""
        names = sorted(self.session.fleet.catalogue.names())
        size = self.schedule.shard_size
        shards = range(0, len(names), size)
        if len(shards) == 1:
            return await self._shard(f"{agent}:0")
        for index in range(len(shards)):
            await self._opened().enqueue(
                "sweeps", "sweep", f"{agent}:{index}", f"sweep:{agent}:{at_ms}:{index}"
            )
        return f"{len(shards)} shards"

    async def _shard(self, subject: str) -> str:
        agent, _, index = subject.partition(":")
        size = self.schedule.shard_size
        names = sorted(self.session.fleet.catalogue.names())
        services = frozenset(names[int(index) * size : (int(index) + 1) * size])
        found = await SWEEPS[agent](self, services, subject)
        return f"{found} new"

    async def tell(self, shard: str, present: Sequence[Event]) -> int:
        """Accept what is news to this shard; how many events."""
        fresh = self._news.setdefault(shard, News()).fresh(self.session.fleet, present)
        return len(await self.accept(fresh))

    async def _checkpoint(self, every_s: int) -> str:
        """Sign the evidence, in a thread: the second place may be a mount that hangs.

        What stands in the way is said on stderr at each tick: a second place that cannot be used,
        or a chain that is not what was signed before.
        """
        if self.signing is None:
            return "no key to sign with"
        try:
            signed = await asyncio.to_thread(
                checkpoint_if_due,
                self.session.ledger,
                self.signing.signer,
                self.session.fleet.clock.now_ms(),
                every_s // 2,  # a tick that comes a little early is no reason to leave one out
                folder=self.signing.folder,
            )
        except Loop4Error as error:
            if isinstance(error, LedgerError) and not isinstance(error, EvidenceError):
                raise  # the ledger itself fails
            print(f"loop4: {error}", file=sys.stderr)
            return f"failed: {error}"
        return f"{signed.size} records signed" if signed else "nothing new"

    async def _retain(self) -> str:
        """Delete what ended long ago: the engine's records and checkpoints of closed runs."""
        now_ms = self.session.fleet.clock.now_ms()
        keep = self.schedule.keep
        ticks = await self._opened().forget(
            before=_moment(now_ms - keep.ticks_s * 1000), ticks=True
        )
        work = await self._opened().forget(before=_moment(now_ms - keep.work_s * 1000), ticks=False)
        closed = await self._retain_checkpoints(now_ms - keep.checkpoints_s * 1000)
        return f"{ticks} ticks, {work} pieces of work, {closed} runs' checkpoints forgotten"

    async def _retain_checkpoints(self, until_ms: int) -> int:
        """Delete what runs that ended long ago left behind; the ledger keeps their story."""
        with self.session.ledger.read() as tx:
            closed = runs.list_closed(
                tx, after_ms=self._forgotten_ms, until_ms=until_ms, limit=FORGOTTEN_AT_ONCE
            )
        for run in closed:
            await self.session.runner.legs.saver.adelete_thread(run.run_id)
            self._forgotten_ms = run.updated_ms - 1  # others may have ended in the same moment
        if len(closed) < FORGOTTEN_AT_ONCE:
            self._forgotten_ms = max(self._forgotten_ms, until_ms)
        return len(closed)

    async def renew_leases(self, stop: asyncio.Event) -> None:
        """Hold on to the runs in hand until `stop`; the ledger refuses a lost one."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.schedule.lease_s / 4)
            try:
                await asyncio.to_thread(self.session.keep)
                self._renew_name()
                for run_id in self.session.runner.legs.renew():
                    print(f"loop4: the lease of run {run_id!r} ran out", file=sys.stderr)
            except LedgerError as error:
                print(f"loop4: leases cannot be renewed: {error}", file=sys.stderr)

    def _renew_name(self) -> None:
        """Stay alive in the others' eyes; after a long silence take the name again."""
        now_ms, ttl_ms = self.session.fleet.clock.now_ms(), self.schedule.lease_s * 1000
        if self._name is None:
            return
        with self.session.ledger.transaction() as tx:
            if not leases.renew(tx, self._name, now_ms=now_ms, ttl_ms=ttl_ms):
                again = leases.take(
                    tx, self._name.run_id, self._name.holder, now_ms=now_ms, ttl_ms=ttl_ms
                )
                self._name = again or self._name

    async def drain(self, within_s: int) -> None:
        """Take no more work; let what runs come to its pause."""
        self.is_draining = True
        if self.engine is not None:
            await self.engine.stop(within_s=within_s)
        if self._name is not None:
            with suppress(LedgerError), self.session.ledger.transaction() as tx:
                leases.release(tx, self._name)

    def pending(self) -> tuple[approvals.Request, ...]:
        """The requests that wait for a vote."""
        with self.session.ledger.read() as tx:
            return approvals.pending(tx)

    def _opened(self) -> Engine:
        if self.engine is None:
            raise EngineError("the engine is not open")
        return self.engine


async def sweep_health(service: Service, services: frozenset[str], shard: str) -> int:
    """Targets and replicas of some services, looked at once; how much was new."""
    fleet = service.session.fleet
    burns = await read_targets(fleet, services)
    present = (*events_of(fleet, burns), *await instance_events(fleet, services))
    return await service.tell(shard, present)


SWEEPS: Mapping[str, Sweep] = {"health": sweep_health}


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def limits_of(schedule: FleetSchedule) -> tuple[QueueLimits, ...]:
    """The limits that fleet.yaml gives."""
    return tuple(
        QueueLimits(q.name, q.per_worker, q.in_all, q.starts_per_s, poll_s(q.name))
        for q in schedule.queues
    )


def poll_s(queue: str) -> float:
    """How often a queue is looked at: what people wait for five times as often as the rest."""
    return 0.1 if queue in ("events", "runs") else 0.5


def engine_url(data: Path) -> str:
    """Where the engine of a data folder keeps its records."""
    return f"sqlite:///{data.absolute() / 'engine.db'}"
