"""A runner over one data folder or PostgreSQL database: ledger, checkpoints, lock and graph, opened
together and closed together.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loop4.agents.agent import Agent
from loop4.agents.planner.port import Planner
from loop4.domain import Clock
from loop4.errors import LedgerError
from loop4.graphs.assemble import AGENTS, assemble
from loop4.graphs.fleet import Fleet, nowhere
from loop4.graphs.legs import Worker
from loop4.graphs.runner import Runner
from loop4.ledger import leases
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner import RunnerLock
from loop4.tools.backends.ports import WorkloadsWriter, World

if TYPE_CHECKING:
    from loop4.ledger.runner_of_database import DatabaseRunner


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """What is open while a runner lives. `keep` holds on to the right to drive, which a server that
    is started anew forgets; it raises RunnerBusy if others took it.
    """

    fleet: Fleet
    runner: Runner
    ledger: Ledger
    keep: Callable[[], None] = lambda: None


@asynccontextmanager
async def open_session(
    *,
    data: Path,
    db: str | None = None,
    operations: Path,
    world: World,
    writer: WorkloadsWriter | None,
    clock: Clock | None = None,
    rules: Path | None = None,
    agents: Sequence[Agent] = AGENTS,
    passing: Callable[[str], None] = nowhere,
    planner: Planner | None = None,
    worker: Worker | None = None,
) -> AsyncIterator[Session]:
    """Put a runner on the data folder or, with `db`, on the ledger and checkpoints behind a
    `postgresql+psycopg://` URL; the folder then holds only local files. With a
    `worker` its legs are driven by leases, which runners of one database need.

    A folder has one runner at a time. A database has as many workers as like, or one runner without
    leases. Raises RunnerBusy when others hold it, LedgerError when it cannot be written, and
    PolicyError when a policy cannot be loaded; nothing is changed then.
    """
    from loop4.graphs.saver import open_saver

    _make(data)
    with (
        RunnerLock(data) if db is None else _driving(db, by_leases=worker is not None) as right,
        Ledger.open(data / "ledger.db" if db is None else db) as ledger,
    ):
        if worker is not None and db is None:  # the lock proves that earlier drivers are dead
            with ledger.transaction() as tx:
                leases.void(tx)
        fleet = assemble(
            operations=operations,
            ledger=ledger,
            world=world,
            clock=clock or SystemClock(),
            writer=writer,
            rules=rules,
            agents=agents,
            passing=passing,
            planner=planner,
        )
        async with open_saver(data=data, db=db) as saver:
            try:
                yield Session(fleet, Runner(fleet, saver, worker), ledger, right.keep)
            finally:
                await fleet.planner.close()


def _driving(db: str, *, by_leases: bool) -> DatabaseRunner:
    from loop4.ledger.runner_of_database import DatabaseRunner

    return DatabaseRunner(db, by_leases=by_leases)


def _make(folder: Path) -> None:
    """The data folder, made if it is not there. Raises LedgerError with the reason if it cannot
    be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"data folder {str(folder)!r} cannot be made: {error.strerror}; "
            "name another with --data"
        ) from error
