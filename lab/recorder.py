"""Record a scenario: the raw world as its back ends knew it, the beats, the answers. No judgement
of anybody.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import httpx

from loop4.domain import Json
from loop4.errors import LabError
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, SystemClock, open_session
from loop4.lab.episode import Answer, Episode, run_episode
from loop4.lab.folder import ON_CALL, OperationsCopy, make_operations
from loop4.lab.lab import Lab
from loop4.lab.results import Result, result_of
from loop4.ledger.approvals import Request
from loop4.tools.backends.lab import LabConnection, LabSystem
from loop4.tools.backends.ports import Inventory, WorkloadsReader
from loop4.tools.backends.recording import Recorder
from loop4.tools.backends.recording_file import capture
from loop4.tools.backends.worlds import Connected, connected

SPAN_LIMIT = 100_000
LOG_LIMIT = 100_000
HISTORY_MS = 30 * 24 * 3_600_000
THINKING_MS = 2_000
TAIL_S = 12.0
_TOOLS = {"rollback": "deployments.roll_back", "restart": "workloads.restart"}


@dataclass(slots=True)
class _Tap:
    """Stands beside the fleet: notes each beat and inventory, and answers like an on-call who
    thinks a little.
    """

    recorder: Recorder
    orchestrator: WorkloadsReader
    person: str
    now: SystemClock = field(default_factory=SystemClock)
    _seen_ms: int = 0  # when the fleet first saw in this beat what runs

    async def inventory(self) -> Inventory:
        """What runs, for the fleet; what it is told is recorded."""
        told = await self.orchestrator.inventory()
        self.recorder.inventory(told)
        self._seen_ms = self._seen_ms or told.at_ms
        return told

    async def beaten(self, patrol: Patrol) -> None:
        """Note the beat: the moment by which all that its sweep saw had happened."""
        self.recorder.tick(max(patrol.began_ms, self._seen_ms))
        self._seen_ms = 0

    async def decide(self, request: Request) -> Answer | None:
        """Approve once the thinking time is over; the answer and its delay are recorded."""
        delay_ms = self.now.now_ms() - request.approval.requested_ms
        if delay_ms < THINKING_MS:
            return None
        asked = cast("list[Mapping[str, Json]]", request.payload["action_requests"])[0]
        extra = cast("Mapping[str, Json]", request.payload["loop4"])
        self.recorder.answer(
            self.person,
            str(asked["name"]),
            str(extra["target"]),
            approve=True,
            delay_ms=delay_ms,
        )
        return Answer(self.person, (ON_CALL,), True)


async def record(scenario: str, seed: int, target: Path, folder: Path) -> Result:
    """Play a scenario live, with the fleet on it, and write the recording to `target`.

    `folder` takes the lab, its operations folder and the ledger of that play. Raises LabError when
    the lab fails, Refused or Unreachable when the file cannot be written; then there is no file.
    """
    copy = make_operations(folder / "operations")
    with (
        Lab.start(folder / "lab", seed) as lab,
        capture(target, "lab", SystemClock()) as recorder,
    ):
        async with (
            connected(f"lab:{lab.connection}", "") as handles,
            _session(recorder, handles, copy, folder / "data") as (session, tap),
        ):
            await tap.inventory()
            episode = await run_episode(
                lab,
                session,
                tap,
                scenario=scenario,
                seed=seed,
                tail_s=TAIL_S,
            )
            await _collect(lab, recorder, episode)
            return result_of(lab, session, episode)


@asynccontextmanager
async def _session(
    recorder: Recorder, handles: Connected, copy: OperationsCopy, data: Path
) -> AsyncIterator[tuple[Session, _Tap]]:
    """A runner whose view of what runs goes through the tap."""
    orchestrator = handles.world.workloads
    if orchestrator is None:
        raise LabError("the lab has no orchestrator to record")
    tap = _Tap(recorder, orchestrator, copy.person)
    async with open_session(
        data=data,
        operations=copy.root,
        world=replace(handles.world, workloads=tap),
        writer=handles.writer,
    ) as session:
        yield session, tap


async def _collect(lab: Lab, recorder: Recorder, episode: Episode) -> None:
    """Everything that the lab's back ends hold of this time."""
    connection = LabConnection.read(lab.connection)
    start_ms, end_ms = recorder.started_ms - 60_000, episode.ended_ms + 1_000
    token = connection.token(connection.read_token_file)
    async with LabSystem(connection) as system:
        recorder.changes(await system.between(start_ms - HISTORY_MS, end_ms))
        recorder.spans(await system.spans(start_ms, end_ms, limit=SPAN_LIMIT))
        recorder.logs(await system.records(start_ms, end_ms, limit=LOG_LIMIT))
    async with httpx.AsyncClient(
        base_url=connection.store_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30.0,
        trust_env=False,
    ) as client:
        answer = await client.get("/api/samples", params={"start_ms": start_ms, "end_ms": end_ms})
    if answer.status_code != 200:
        raise LabError(f"the lab's store answered {answer.status_code} for its samples")
    for series in answer.json()["series"]:
        recorder.samples(series["labels"], ((int(at), value) for at, value in series["points"]))
    for line in lab.effects_log.read_text(encoding="utf-8").splitlines():
        change = json.loads(line)
        if change["mark"]:
            recorder.write(
                change["at_ms"],
                _TOOLS[change["kind"]],
                change["instance"] or change["service"],
                _arguments(change),
                mark=change["mark"],
            )


def _arguments(change: Mapping[str, Json]) -> dict[str, Json]:
    """The arguments of the write that led to a change."""
    if change["kind"] == "rollback":
        return {"service": change["service"], "to_revision": change["to_revision"]}
    return {"instance": change["instance"]}
