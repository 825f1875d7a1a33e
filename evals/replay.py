"""Decide a recorded incident again: the same graph on the recorded world, in recorded time,
offline.

The recording is the only input beside the policies: its ticks wake the fleet, its people answer,
its samples are what the fleet sees. So the decisions are the same, byte for byte, on every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from loop4.agents.planner.port import Planner
from loop4.canonical import digest
from loop4.domain import Json
from loop4.evals.model_share import ModelShare, model_share
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, open_session
from loop4.ledger import approvals, evidence, incidents
from loop4.ledger.approvals import Request
from loop4.policies.people import People
from loop4.tools.backends.recorded import RecordedClock, RecordedWorld
from loop4.tools.backends.recorded_writer import RecordedWriter
from loop4.tools.backends.recording import Answer, Recording, Write

AFTERWARDS_MS = 1_000


@dataclass(frozen=True, slots=True)
class Replay:
    """What the fleet decided on the recorded world. Holds only what the recording and the policies
    determine, and beside it, outside the digest, what a model did and which writes reached the
    world.
    """

    incidents: tuple[Mapping[str, Json], ...]
    decisions: tuple[Mapping[str, Json], ...]
    outcomes: tuple[Mapping[str, Json], ...]
    verifications: tuple[Mapping[str, Json], ...]
    model: ModelShare | None = None
    writes: tuple[Write, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over everything that is decided."""
        return digest(self._body())

    def to_json(self) -> dict[str, Json]:
        """For `--json`; without a model the same bytes on every run."""
        body = {**self._body(), "digest": self.digest}
        return body if self.model is None else {**body, "model": self.model.to_json()}

    def _body(self) -> dict[str, Json]:
        return {
            "incidents": list(self.incidents),
            "decisions": list(self.decisions),
            "outcomes": list(self.outcomes),
            "verifications": list(self.verifications),
        }


async def replay(
    recording: Recording,
    *,
    operations: Path,
    data: Path,
    rules: Path | None = None,
    planner: Planner | None = None,
    arriving: Callable[[Session], Awaitable[None]] | None = None,
) -> Replay:
    """Run the fleet over the recording. `data` takes the ledger of this replay; `operations` is
    written to; without a `planner` no model is asked. `arriving` is called before each beat: what
    comes from outside then.

    Raises PolicyError for policies that cannot be loaded, LedgerError if `data` cannot be written.
    """
    clock = RecordedClock(recording.started_ms)
    world = RecordedWorld(recording, clock)
    people = People.load(operations / "policies" / "people.yaml")
    async with open_session(
        data=data,
        operations=operations,
        world=world.world(),
        writer=RecordedWriter(world),
        clock=clock,
        rules=rules,
        planner=planner,
    ) as session:
        patrol = Patrol(session.fleet, session.runner)
        left = list(recording.answers)
        ticks = [*recording.ticks, recording.ended_ms + AFTERWARDS_MS]
        for tick, following in zip(ticks, [*ticks[1:], ticks[-1] + AFTERWARDS_MS], strict=True):
            clock.advance_to(tick)
            if arriving is not None:
                await arriving(session)
            await patrol.beat()
            await _answer(session, clock, people, left, before_ms=following)
        replayed = replace(read_replay(session), writes=tuple(world.made))
        return replayed if planner is None else replace(replayed, model=_share(session))


async def _answer(
    session: Session,
    clock: RecordedClock,
    people: People,
    left: list[Answer],
    *,
    before_ms: int,
) -> None:
    """Cast the recorded answers that fall before the next tick, each bound to the request as it is
    now.
    """
    with session.ledger.read() as tx:
        pending = approvals.pending(tx)
    for request in pending:
        answer = _answer_to(request, left)
        if answer is None or request.approval.requested_ms + answer.delay_ms > before_ms:
            continue
        left.remove(answer)
        clock.advance_to(request.approval.requested_ms + answer.delay_ms)
        roles = next((p.roles for p in people.persons if p.name == answer.person), ())
        with session.ledger.transaction() as tx:
            approvals.vote(
                tx,
                request.approval.approval_id,
                answer.person,
                roles,
                answer.approve,
                clock.now_ms(),
            )
        await session.runner.resume()


def _answer_to(request: Request, left: Sequence[Answer]) -> Answer | None:
    asked = cast("Sequence[Mapping[str, Json]]", request.payload["action_requests"])[0]
    extra = cast("Mapping[str, Json]", request.payload["loop4"])
    return next((a for a in left if a.tool == asked["name"] and a.target == extra["target"]), None)


def _share(session: Session) -> ModelShare:
    with session.ledger.read() as tx:
        return model_share(evidence.list_records(tx))


def read_replay(session: Session) -> Replay:
    """The decisions of a ledger, without trace ids, permits, paths and wall times."""
    with session.ledger.read() as tx:
        records = evidence.list_records(tx)
        known = incidents.list_all(tx)
    return Replay(
        incidents=tuple(
            {
                "incident": i.incident_id,
                "service": i.service,
                "severity": i.severity.value,
                "state": i.state,
                "cause": i.cause or "none",
                "detected_ms": i.detected_ms,
                "mitigated_ms": i.mitigated_ms,
                "resolved_ms": i.resolved_ms,
            }
            for i in known
        ),
        decisions=tuple(_decision(r.body) for r in records if r.kind == "decision"),
        outcomes=tuple(
            {k: r.body[k] for k in ("tool", "target", "state")}
            for r in records
            if r.kind == "outcome"
        ),
        verifications=tuple(dict(r.body) for r in records if r.kind == "verification"),
    )


def _decision(body: Mapping[str, Json]) -> dict[str, Json]:
    kept = (
        "tool",
        "target",
        "arguments",
        "agent",
        "requester",
        "facts",
        "effect",
        "decided",
        "rules",
        "reasons",
        "mode",
        "policy_version",
    )
    return {k: body[k] for k in kept}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two replays side by side. `changed`: other verdicts up to and with the first one that
    differs; what comes after it stands in `following`, since it follows from it.
    """

    same: int
    changed: tuple[Mapping[str, Json], ...]
    following: tuple[Mapping[str, Json], ...]

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "same": self.same,
            "changed": [dict(c) for c in self.changed],
            "following": [dict(f) for f in self.following],
        }


def compare(
    before: Sequence[Mapping[str, Json]], after: Sequence[Mapping[str, Json]]
) -> Comparison:
    """Compare the decisions of two replays in order, by tool, target and verdict."""
    same = 0
    for old, new in zip(before, after, strict=False):
        if _verdict(old) != _verdict(new):
            break
        same += 1
    if same == len(before) == len(after):
        return Comparison(same, (), ())
    changed: list[Mapping[str, Json]] = []
    rest_old, rest_new = list(before[same:]), list(after[same:])
    if rest_old and rest_new and _act(rest_old[0]) == _act(rest_new[0]):
        changed.append(_difference(rest_old.pop(0), rest_new.pop(0)))
    gone = Counter(map(_short, rest_old))
    come = Counter(map(_short, rest_new))
    following: list[Mapping[str, Json]] = [{"was": d, "is": None} for d in (gone - come).elements()]
    following += [{"was": None, "is": d} for d in (come - gone).elements()]
    if not changed and not following:
        following = [{"was": "the same decisions", "is": "in another order"}]
    return Comparison(same, tuple(changed), tuple(following))


def _act(decision: Mapping[str, Json]) -> tuple[Json, Json]:
    return decision["tool"], decision["target"]


def _verdict(decision: Mapping[str, Json]) -> tuple[Json, ...]:
    return (*_act(decision), decision["effect"], decision["decided"])


def _short(decision: Mapping[str, Json]) -> str:
    return f"{decision['tool']} on {decision['target']}: {decision['effect']}"


def _difference(old: Mapping[str, Json], new: Mapping[str, Json]) -> dict[str, Json]:
    was = cast("Mapping[str, Mapping[str, Json]]", old["facts"])
    now = cast("Mapping[str, Mapping[str, Json]]", new["facts"])
    facts = {
        name: {"was": was.get(name, {}).get("value"), "is": now.get(name, {}).get("value")}
        for name in sorted({*was, *now})
        if was.get(name, {}).get("value") != now.get(name, {}).get("value")
    }
    return {
        "tool": old["tool"],
        "target": old["target"],
        "was": old["effect"],
        "is": new["effect"],
        "facts": facts,
    }
