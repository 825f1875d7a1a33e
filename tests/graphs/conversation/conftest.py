"""A conversation on a recorded incident whose clock stands still while a person is asked, and one
on the toy world.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import pytest

from loop4.graphs.conversation.answerer import Answerer
from loop4.graphs.conversation.conversation import Conversation
from loop4.graphs.conversation.desk import Desk
from loop4.graphs.conversation.lookout import open_lookout
from loop4.graphs.conversation.sheet import Answer
from loop4.graphs.observe import read_documents
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, open_session
from loop4.lab.folder import make_operations
from loop4.ledger import approvals, evidence
from loop4.policies.people import Person
from loop4.tools.backends.recorded import RecordedClock, RecordedWorld
from loop4.tools.backends.recorded_writer import RecordedWriter
from loop4.tools.backends.recording import Recording
from loop4.tools.backends.recording_file import read_recording
from tests.graphs.conftest import Play

T = TypeVar("T")
INCIDENT = "INC-2026-001"


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


@dataclass
class Talk:
    """A conversation with what it said, and a look at the chain behind it."""

    conversation: Conversation
    session: Session

    async def ask(self, question: str) -> Answer:
        told: list[str] = []
        answer = await self.conversation.ask(question, told.append)
        if answer.understood:
            assert told[0] == f"I understood: {answer.understood}."
            told = told[1:]
        prose = len(answer.lines)
        assert tuple(told[:prose]) == answer.lines, "what is streamed is what is answered"
        return answer

    async def text(self, question: str) -> str:
        return "\n".join((await self.ask(question)).lines)

    def chain(self) -> tuple[int, str]:
        with self.session.ledger.read() as tx:
            report = evidence.verify(tx)
        assert report.ok
        return report.records, report.head

    def pending(self) -> tuple[approvals.Request, ...]:
        with self.session.ledger.read() as tx:
            return approvals.pending(tx)


@pytest.fixture(scope="session")
def recording() -> Recording:
    folder = Path(str(files("loop4.evals") / "incidents"))
    return read_recording(folder / "dependency-change-5.jsonl.gz")


@asynccontextmanager
async def stopped_in_the_middle(recording: Recording, root: Path) -> AsyncIterator[Talk]:
    """The fleet on the recording up to its question; nobody has answered, nobody is signed in."""
    make_operations(root / "operations")
    clock = RecordedClock(recording.started_ms)
    world = RecordedWorld(recording, clock)
    async with open_session(
        data=root / "data",
        operations=root / "operations",
        world=world.world(),
        writer=RecordedWriter(world),
        clock=clock,
    ) as session:
        patrol = Patrol(session.fleet, session.runner)
        talk = Talk.__new__(Talk)
        talk.session = session
        for tick in recording.ticks:
            clock.advance_to(tick)
            await patrol.beat()
            if talk.pending():
                break
        documents = read_documents(root / "operations")
        async with open_lookout(
            documents,
            operations=root / "operations",
            ledger=root / "data" / "ledger.db",
            world=world.world(),
            clock=clock,
        ) as lookout:
            talk.conversation = Conversation(lookout)
            yield talk


@asynccontextmanager
async def talking(
    play: Play, *, person: str = "", answerer: Answerer | None = None
) -> AsyncIterator[Talk]:
    """A conversation beside a live runner on the toy world."""
    stage = play.stage

    def runner() -> AbstractAsyncContextManager[Session]:
        return open_session(
            data=stage.data,
            operations=stage.operations,
            world=stage.toy.world(),
            writer=stage.toy,
            clock=stage.toy.clock,
        )

    async with open_lookout(
        read_documents(stage.operations),
        operations=stage.operations,
        ledger=stage.data / "ledger.db",
        world=stage.toy.world(),
        clock=stage.toy.clock,
    ) as lookout:
        named: Person | None = next((p for p in lookout.people.persons if p.name == person), None)
        assert bool(named) == bool(person)
        desk = Desk(stage.data / "ledger.db", named, runner, patience_s=0)
        yield Talk(Conversation(lookout, named, desk, answerer), play.session)
