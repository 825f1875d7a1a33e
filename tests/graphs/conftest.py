"""A stage for graph tests: an operations folder, a data folder, a toy world, and sessions over
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

import pytest

from loop4.agents.agent import Agent
from loop4.domain import ApprovalState, Event, EventKind, Incident, IntentState
from loop4.graphs.assemble import AGENTS
from loop4.graphs.fleet import nowhere
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, open_session
from loop4.lab.folder import make_operations
from loop4.ledger import approvals, evidence, incidents, intents, runs
from loop4.ledger.evidence import EvidenceRecord
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner import RunnerLock
from tests.graphs.toy import ToyWorld

T = TypeVar("T")


@contextmanager
def no_lock() -> Iterator[None]:
    """While the block runs, a data folder or a database takes several runners."""
    from loop4.ledger.runner_of_database import DatabaseRunner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunnerLock, "acquire", lambda self: None)
        patch.setattr(DatabaseRunner, "acquire", lambda self: None)
        yield


ON_CALL = "mira"
QUIET_S = 60  # seconds of healthy traffic before the deploy


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


@dataclass
class Stage:
    """Folders and a world. `opened` puts a runner on them, as often as a test needs one."""

    root: Path
    toy: ToyWorld = field(default_factory=ToyWorld)
    before: set[str] = field(default_factory=set)
    db: str | None = None

    def __post_init__(self) -> None:
        template = files("loop4.lab") / "operations"
        with as_file(template) as shipped:
            self.before = {
                p.relative_to(shipped).as_posix() for p in shipped.rglob("*") if p.is_file()
            }

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def ledger(self) -> Path | str:
        return self.db or self.data / "ledger.db"

    @property
    def operations(self) -> Path:
        return self.root / "operations"

    @asynccontextmanager
    async def opened(
        self,
        *,
        agents: Sequence[Agent] = AGENTS,
        passing: Callable[[str], None] = nowhere,
        shared: bool = False,
    ) -> AsyncIterator[Play]:
        """A runner. `shared`: without the folder's lock, as workers over one database have none."""
        lock = no_lock() if shared else nullcontext()
        with lock:
            async with self._opened(agents, passing) as play:
                yield play

    @asynccontextmanager
    async def _opened(
        self, agents: Sequence[Agent], passing: Callable[[str], None]
    ) -> AsyncIterator[Play]:
        async with open_session(
            db=self.db,
            data=self.data,
            operations=self.operations,
            world=self.toy.world(),
            writer=self.toy,
            clock=self.toy.clock,
            agents=agents,
            passing=passing,
        ) as session:
            yield Play(self, session, Patrol(session.fleet, session.runner))

    def bad_deploy(self) -> None:
        """A minute of health, then orders v2, which fails."""
        self.toy.run(QUIET_S)
        self.toy.deploy()

    def files(self) -> list[str]:
        """What the fleet wrote, by path inside the operations folder."""
        found = (p.relative_to(self.operations) for p in self.operations.rglob("*.md"))
        return sorted({p.as_posix() for p in found} - self.before)


@dataclass
class Play:
    """One runner over the stage."""

    stage: Stage
    session: Session
    patrol: Patrol

    @property
    def toy(self) -> ToyWorld:
        return self.stage.toy

    @property
    def ledger(self) -> Ledger:
        return self.session.ledger

    async def second(self) -> None:
        """A second passes and the patrol looks once."""
        self.toy.run(1)
        await self.patrol.beat()

    async def until(self, holds: Callable[[], object], seconds: int = 90) -> None:
        """Beat until it holds. Fails when it does not within that many seconds of toy time."""
        for _ in range(seconds):
            if holds():
                return
            await self.second()
        assert holds(), self.story()

    async def asked(self) -> approvals.Request:
        """Run up to the question, and return it."""
        await self.until(self.pending)
        return self.pending()[0]

    async def resolved(self) -> None:
        await self.until(lambda: all(i.state == "resolved" for i in self.incidents()))

    def pending(self) -> tuple[approvals.Request, ...]:
        with self.ledger.read() as tx:
            return approvals.pending(tx)

    def requests(self) -> tuple[approvals.Request, ...]:
        with self.ledger.read() as tx:
            return approvals.list_all(tx)

    def vote(self, approval_id: str, *, approve: bool = True, person: str = ON_CALL) -> bool:
        with self.ledger.transaction() as tx:
            cast = approvals.vote(
                tx, approval_id, person, ("on-call",), approve, self.toy.clock.now_ms()
            )
        return cast.accepted

    def incidents(self) -> tuple[Incident, ...]:
        with self.ledger.read() as tx:
            return incidents.list_all(tx)

    def open_runs(self) -> tuple[runs.Run, ...]:
        with self.ledger.read() as tx:
            return runs.list_open(tx)

    def records(self, *kinds: str) -> tuple[EvidenceRecord, ...]:
        with self.ledger.read() as tx:
            return evidence.list_records(tx, kinds=kinds or None)

    def acts(self) -> tuple[intents.Intent, ...]:
        """Intents that are no messages."""
        with self.ledger.read() as tx:
            return tuple(i for i in intents.list_all(tx) if "path" not in i.arguments)

    def all_intents(self) -> tuple[intents.Intent, ...]:
        with self.ledger.read() as tx:
            return intents.list_all(tx)

    def chain_holds(self) -> bool:
        with self.ledger.read() as tx:
            return evidence.verify(tx).ok

    def story(self) -> str:
        """The chain in short lines, for a failing assertion."""
        lines = [
            f"{r.seq} {r.kind} { ({k: v for k, v in r.body.items() if k != 'facts'})!s:.200}"
            for r in self.records()
        ]
        return "\n".join([*lines, str(self.incidents()), str(self.open_runs())])


def assert_well(play: Play) -> None:
    """One effect, everything settled, one page, the files of a closed incident, and a whole
    chain.
    """
    story = play.story()
    assert [i.state for i in play.incidents()] == ["resolved"], story
    assert play.open_runs() == (), story
    assert [(a.tool, a.state) for a in play.acts()] == [
        ("deployments.roll_back", IntentState.DONE)
    ], story
    assert {a.state for a in play.all_intents()} == {IntentState.DONE}, story
    assert [r.approval.state for r in play.requests()] == [ApprovalState.CONSUMED], story
    assert play.chain_holds()
    names = play.stage.files()
    pages = [name for name in names if "/page-" in name]
    assert pages == ["work/incidents/INC-2026-001/page-01.md"], story
    assert "work/incidents/INC-2026-001/context-01.md" in names
    assert any("retrospectives" in name for name in names)
    assert any(name.startswith("work/signals/") for name in names)


def new_stage(folder: Path, place: Path | str | None = None) -> Stage:
    """A stage in a folder, with ledger and checkpoints in PostgreSQL if `place` is a URL."""
    make_operations(folder / "operations")
    return Stage(folder, db=place if isinstance(place, str) else None)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return new_stage(tmp_path)


def breach(stage: Stage, *, service: str = "orders", event_id: str = "breach:1") -> Event:
    return Event(
        event_id=event_id,
        kind=EventKind.BREACH,
        source="sweep",
        service=service,
        environment="lab",
        at_ms=stage.toy.clock.now_ms(),
        correlation=f"lab/{service}",
        labels={"target": f"{service}-availability"},
    )
