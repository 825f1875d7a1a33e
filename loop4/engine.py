"""The durable engine: work that is enqueued once, runs at least once, on SQLite or PostgreSQL.

The only importer of dbos. It schedules and queues; LangGraph checkpoints, and the ledger owns
intents, approvals and leases. A piece of work is one step that calls back into the process's event
loop; nothing here is ever retried, and what a crash interrupts is decided by the ledger.

DBOS lives once in a process, so one `Engine` at a time is open.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions
from dbos import error as dbos_errors

from loop4.errors import EngineError
from loop4.ledger.ledger import DATABASE_ERRORS

APPLICATION = "loop4"
PROTOCOL = "loop4-1"  # raised only when what a workflow takes or returns changes
WORK = "loop4.work"
TICK = "loop4.tick"
RECOVERIES = 10  # how often one piece of work may end its process before the engine parks it
LISTED = 1000

_FAILURES = (
    *DATABASE_ERRORS,
    dbos_errors.DBOSException,
    OSError,
    sqlite3.Error,
    ImportError,
    ValueError,
)

T = TypeVar("T")
Perform = Callable[[str, str], Awaitable[str]]  # what, subject -> what came of it
Tick = Callable[[str, int], Awaitable[str]]  # name of the schedule, its time -> what came of it


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much of one kind of work runs at a time: in this process, in all of them, per second.

    0 means no limit of that kind.
    """

    name: str
    per_worker: int
    in_all: int = 0
    starts_per_s: int = 0
    poll_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Schedule:
    """Something that is due every `every_s` seconds, once for all workers."""

    name: str
    every_s: int
    queue: str


@dataclass(frozen=True, slots=True)
class Queued:
    """One piece of work that has not ended, and since when it could have begun."""

    key: str
    queue: str
    state: str
    worker: str
    due_ms: int


class Engine:
    """An open engine. `url` is `sqlite:///PATH` or `postgresql+psycopg://...`.

    `worker` names this process among all; two live ones must not share a name. Raises EngineError
    if the database cannot be opened.
    """

    def __init__(self, url: str, worker: str, *, perform: Perform, tick: Tick) -> None:
        self.url, self.worker = url, worker
        self._perform, self._tick = perform, tick
        self._loop = asyncio.get_running_loop()
        self._client: DBOSClient | None = None

    async def start(self, queues: Sequence[QueueLimits], schedules: Sequence[Schedule]) -> None:
        """Open the database, take up what this worker left, and begin to work."""
        if _open_engines:
            raise EngineError("one engine at a time can be open in a process")
        _open_engines.append(self)
        try:
            await asyncio.to_thread(self._start, queues, schedules)
        except _FAILURES as error:
            await self.stop(within_s=0)
            advice = "; move that file away: the ledger holds what is open"
            is_file = self.url.startswith("sqlite:")
            raise EngineError(
                _said(self.url, "cannot be opened", error) + (advice if is_file else "")
            ) from error

    def _start(self, queues: Sequence[QueueLimits], schedules: Sequence[Schedule]) -> None:
        if self.url.startswith("sqlite:"):
            switch_to_wal(Path(self.url.removeprefix("sqlite:///")))
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": self.url,
            "application_version": PROTOCOL,
            "executor_id": self.worker,
            "log_level": "CRITICAL",  # what fails at the start is raised
            "enable_otlp": False,
            "notification_listener_polling_interval_sec": 1.0,
            "scheduler_polling_interval_sec": 30.0,
        }
        DBOS(config=config)
        DBOS.launch()
        logging.getLogger("dbos").setLevel(logging.ERROR)
        self._client = DBOSClient(
            system_database_url=self.url,
            application_name=APPLICATION,
            retry_connection_errors=False,
        )
        self._set_limits(queues)
        wanted = {s.name for s in schedules}
        for known in DBOS.list_schedules():
            if known["schedule_name"] not in wanted:
                DBOS.delete_schedule(known["schedule_name"])
        DBOS.apply_schedules(
            [
                {
                    "schedule_name": s.name,
                    "workflow_fn": _tick,
                    "schedule": cron(s.every_s),
                    "context": s.name,
                    "queue_name": s.queue,
                }
                for s in schedules
            ]
        )

    async def set_limits(self, queues: Sequence[QueueLimits]) -> None:
        """Put limits in force; workers see them at their next poll."""
        await asyncio.to_thread(self._set_limits, queues)

    def _set_limits(self, queues: Sequence[QueueLimits]) -> None:
        for queue in queues:
            DBOS.register_queue(
                queue.name,
                worker_concurrency=queue.per_worker or None,
                global_concurrency=queue.in_all or None,
                limiter={"limit": queue.starts_per_s, "period": 1.0}
                if queue.starts_per_s
                else None,
                polling_interval_sec=queue.poll_s,
                on_conflict="always_update",
            )

    async def enqueue(
        self, queue: str, what: str, subject: str, key: str, *, delay_s: float = 0.0
    ) -> None:
        """Promise one piece of work. The same `key` again changes nothing, even after it ended."""
        options: EnqueueOptions = {
            "workflow_name": WORK,
            "queue_name": queue,
            "workflow_id": key,
            "app_version": PROTOCOL,
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        await self._ask(lambda client: client.enqueue(options, what, subject))

    async def cancel(self, key: str) -> None:
        """Take back work that has not begun; work that has is not stopped in the middle."""
        await self._ask(lambda client: client.cancel_workflow(key))

    async def list_open(self) -> tuple[Queued, ...]:
        """Work that waits or runs, oldest first, at most a thousand."""
        found = await self._ask(
            lambda client: client.list_workflows(
                status=["ENQUEUED", "PENDING", "DELAYED"],
                limit=LISTED,
                load_input=False,
                load_output=False,
            )
        )
        return tuple(
            Queued(
                w.workflow_id,
                w.queue_name or "",
                w.status,
                w.executor_id or "",
                max(w.created_at, w.delay_until_epoch_ms or 0),
            )
            for w in found
            if w.created_at is not None
        )

    async def resume_orphans(self, dead: str) -> tuple[str, ...]:
        """Hand the work that a dead worker had begun to the others; its keys."""

        def move(client: DBOSClient) -> tuple[str, ...]:
            pending = client.list_workflows(
                status="PENDING", executor_id=dead, limit=LISTED, load_input=False
            )
            for workflow in pending:
                client.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
            return tuple(w.workflow_id for w in pending)

        return await self._ask(move)

    async def forget(self, *, before: datetime, ticks: bool, at_most: int = LISTED) -> int:
        """Delete the records of ticks, or of other work, that ended before then; how many.

        Their keys are free again.
        """

        def delete(client: DBOSClient) -> int:
            ended = client.list_workflows(
                status=["SUCCESS", "ERROR", "CANCELLED"],
                name=TICK if ticks else WORK,
                completed_before=before.isoformat(),
                limit=at_most,
                load_input=False,
                load_output=False,
            )
            client.delete_workflows([w.workflow_id for w in ended])
            return len(ended)

        return await self._ask(delete)

    async def stop(self, *, within_s: int) -> None:
        """Take no more work, wait up to `within_s` for what runs, and close. Twice is once."""
        if self in _open_engines:
            await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=within_s)
            if self._client is not None:
                self._client.destroy()
            self._client = None
            _open_engines.remove(self)

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop(within_s=0)

    def perform(self, what: str, subject: str) -> str:
        """Do one piece of work in the event loop and wait for it (called in an engine's thread)."""
        return self._in_loop(self._perform(what, subject))

    def tick(self, name: str, at_ms: int) -> str:
        """As `perform`, for a schedule."""
        return self._in_loop(self._tick(name, at_ms))

    def _in_loop(self, work: Awaitable[str]) -> str:
        async def run() -> str:
            return await work

        try:
            return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
        except FutureCancelled:
            return "stopped"

    async def _ask(self, question: Callable[[DBOSClient], T]) -> T:
        """Ask the engine's database in a thread. Raises EngineError if it does not answer."""
        client = self._client
        if client is None:
            raise EngineError("the engine is not open")
        try:
            return await asyncio.to_thread(question, client)
        except _FAILURES as error:
            raise EngineError(_said(self.url, "does not answer", error)) from error


_open_engines: list[Engine] = []


def _engine() -> Engine:
    if not _open_engines:
        raise EngineError("no engine is open in this process")
    return _open_engines[0]


@DBOS.step(name="loop4.step")
def _step(what: str, subject: str) -> str:
    return _engine().perform(what, subject)


@DBOS.workflow(name=WORK, max_recovery_attempts=RECOVERIES)
def _work(what: str, subject: str) -> str:
    return _step(what, subject)


@DBOS.workflow(name=TICK, max_recovery_attempts=1)
def _tick(at: datetime, name: str) -> None:
    _engine().tick(name, int(at.timestamp() * 1000))


def cron(every_s: int) -> str:
    """The six-field expression for every so many seconds: a divisor of a minute, hour or day."""
    for field, unit_s, unit in (("s", 1, 60), ("m", 60, 60), ("h", 3600, 24)):
        count, rest = divmod(every_s, unit_s)
        if not rest and count > 0 and unit % count == 0:
            step = "*" if count == 1 else f"*/{count}"
            if count == unit:
                step = "0"
            return {
                "s": f"{step} * * * * *",
                "m": f"0 {step} * * * *",
                "h": f"0 0 {step} * * *",
            }[field]
    raise EngineError(
        f"a schedule every {every_s} s cannot be told to a clock; expected seconds that divide a "
        "minute, minutes that divide an hour or hours that divide a day"
    )


def switch_to_wal(path: Path) -> None:
    """Make the engine's file a write-ahead log before DBOS opens it; measured: seven times faster.

    The setting stays with the file.
    """
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def limits_from(
    queues: Sequence[QueueLimits], parameters: Mapping[str, int]
) -> tuple[QueueLimits, ...]:
    """The limits, with what people set at run time on top: `queue.NAME.per_worker` and so on."""

    def of(queue: QueueLimits, field: str, otherwise: int) -> int:
        return parameters.get(f"queue.{queue.name}.{field}", otherwise)

    return tuple(
        QueueLimits(
            q.name,
            _least(of(q, "per_worker", q.per_worker), of(q, "in_all", q.in_all)),
            of(q, "in_all", q.in_all),
            of(q, "starts_per_s", q.starts_per_s),
            q.poll_s,
        )
        for q in queues
    )


def _least(per_worker: int, in_all: int) -> int:
    """A worker's own limit cannot be above that of all."""
    return min(per_worker, in_all) if per_worker and in_all else per_worker


def _said(url: str, what: str, error: Exception) -> str:
    """One line, without the password of the address."""
    head, at, tail = url.rpartition("@")
    place = f"{head.split('://')[0]}://***@{tail}" if at else url
    first = str(error).strip().splitlines()
    return f"engine {place!r} {what}: {first[0] if first else type(error).__name__}"
