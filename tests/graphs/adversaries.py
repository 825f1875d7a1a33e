"""A stage for adversaries: the real gate, act node, permits, executors and ledger over a toy world
whose writer watches each effect as it happens.

The graph between the nodes is left out: whoever drives may call the nodes in any order, with any
plan under any approval, and stop the process at any point of no return.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from loop4.domain import (
    Action,
    ApprovalState,
    Effect,
    IntentState,
    Json,
    Outcome,
    Permit,
    RequesterKind,
    Severity,
)
from loop4.errors import PermitError
from loop4.graphs import gate
from loop4.graphs.act import Actor
from loop4.graphs.drafts import Drafts
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import GRAPH_VERSION, RunState
from loop4.graphs.steps import WRITE, Item, Step, put_steps
from loop4.ledger import approvals, evidence, incidents, intents, runner, runs
from loop4.ledger.ledger import Ledger
from loop4.policies.policy import Policy
from loop4.tools.backends.ports import Workload, World, WriteResult
from loop4.tools.tool import Hands
from tests.graphs.toy import ToyWorld

T = TypeVar("T")
INCIDENT = "INC-2026-001"
RUN = "run-1"
SOURCES = ("metrics", "traces")
WIDE_BP = 2500


HAPPENED: Counter[str] = Counter()  # over all arenas: a test in which nothing happens shows nothing


class Crash(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Seen:
    """One effect, with the judgement that stood in the ledger when it happened."""

    action_id: str
    what: str
    share_bp: int
    at_ms: int


@dataclass
class WatchedWorld(ToyWorld):
    """Instances carry their own marks; `on_effect` is told of each effect before it answers."""

    marks: dict[str, str] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    on_effect: Callable[[Seen], None] = print

    def _workload(self, service: str) -> Workload:
        workload = super()._workload(service)
        marked = tuple(
            replace(one, mark=self.marks.get(one.instance, "")) for one in workload.instances
        )
        return replace(workload, instances=marked)

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        share = self.weight_bp if self._bad_share() else 0
        result = await super().roll_back(service, to_revision, expected=expected, mark=mark)
        self._watch(mark, f"roll_back {service} {to_revision}", share)
        return result

    async def restart(
        self, instance: str, restarted_at_ms: int, *, expected: str, mark: str
    ) -> WriteResult:
        result = await super().restart(instance, restarted_at_ms, expected=expected, mark=mark)
        self.marks[instance] = mark
        self._watch(mark, f"restart {instance}", 0)
        return result

    def _watch(self, mark: str, what: str, share_bp: int) -> None:
        one = Seen(mark, what, share_bp, self.clock.at_ms)
        self.seen.append(one)
        self.on_effect(one)


@dataclass
class Ticket:
    """What an agent or a person wants, and where its run stands."""

    item: Item
    state: RunState

    @property
    def action_id(self) -> str:
        return self.item.action_id(INCIDENT)


class Arena:
    """One incident with a ledger of its own. `crash_at` is the point where the next drive ends."""

    def __init__(
        self, base: Fleet, policies: Sequence[Policy], folder: Path, weight_bp: int
    ) -> None:
        self.toy = WatchedWorld(weight_bp=weight_bp, on_effect=self._on_effect)
        self.toy.run(60)
        self.toy.deploy()
        self.toy.run(15)
        self.ledger = Ledger.open(folder / "ledger.db")
        self._loop = asyncio.new_event_loop()
        self._base, self._policies, self._policy = base, policies, 0
        self.crash_at = ""
        self.tickets: list[Ticket] = []
        self.permits: list[tuple[Permit, Action]] = []
        self.lost: Counter[str] = Counter()  # acts whose process died between intent and effect
        self.moved_on: set[str] = set()  # digests under which an effect was seen
        self._open_incident()
        self.reopen()

    def close(self) -> None:
        self.ledger.close()
        self._loop.close()

    def _open_incident(self) -> None:
        now_ms = self.toy.clock.at_ms
        with self.ledger.transaction() as tx:
            incident, _ = incidents.open_or_find(
                tx,
                "lab/orders",
                service="orders",
                environment="lab",
                severity=Severity.SEV2,
                detected_ms=now_ms,
                now_ms=now_ms,
            )
            assert incident.incident_id == INCIDENT
            runs.start(tx, RUN, INCIDENT, GRAPH_VERSION, now_ms=now_ms)
            for source in SOURCES:
                body: dict[str, Json] = {"source": source, "evidence": f"seen-{source}"}
                evidence.append(tx, "read", INCIDENT, RUN, body, at_ms=now_ms)

    def reopen(self, *, change_policy: bool = False) -> None:
        """A new process: another fence, other permits, no drafts; perhaps other rules."""
        self._policy = (self._policy + change_policy) % len(self._policies)
        self.crash_at = ""
        with self.ledger.transaction() as tx:
            fence = runner.next_fence(tx)
        self.fleet = replace(
            self._base,
            world=World(
                metrics=self.toy.world().metrics,
                traces=self.toy,
                logs=self.toy,
                changes=self.toy,
                workloads=self.toy,
            ),
            hands=Hands(self.toy, self.toy, None),
            policy=self._policies[self._policy],
            ledger=self.ledger,
            drafts=Drafts(self.ledger),
            clock=self.toy.clock,
            fence=fence,
            passing=self._passing,
        )
        self.actor = Actor(self.fleet)
        self.actor._executors = Spy(self.actor._executors, self.permits)  # type: ignore[assignment]
        for ticket in self.tickets:
            self.plan(ticket, ticket.item)

    def plan(self, ticket: Ticket, item: Item) -> None:
        """Put a plan under a ticket: its own again after a crash, or another under its approval."""
        ticket.item = item
        ticket.state["plan"] = put_steps(self.fleet, [Step(WRITE, (item,))])
        ticket.state["step"] = 0

    def propose(self, item: Item) -> Ticket:
        state: RunState = {
            "run_id": RUN,
            "incident_id": INCIDENT,
            "phase": "act",
            "context": "complete",
            "approval": "",
            "step": 0,
        }
        ticket = Ticket(item, state)
        self.plan(ticket, item)
        self.tickets.append(ticket)
        return ticket

    def drive(self, ticket: Ticket, *, straight_to_act: bool = False) -> None:
        """From the gate on, as the graph does; or the act node without the gate's node."""
        try:
            if not straight_to_act:
                ticket.state.update(self.run(gate.decide(self.fleet, ticket.state)))
                if ticket.state["next"] != "act":
                    return
            ticket.state.update(self.run(self.actor.act(ticket.state)))
        except Crash:
            if self._is_in_flight(ticket):
                self.lost[ticket.action_id] += 1
            self.reopen()

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self._loop.run_until_complete(work)

    def execute(self, permit: Permit, action: Action) -> Outcome:
        """Straight to the executor, past every node."""
        inner = self.actor._executors
        assert isinstance(inner, Spy)
        return self.run(inner.real.execute(permit, action, now_ms=self.toy.clock.at_ms))

    def vote(
        self, approval_id: str, person: str, roles: Sequence[str], kind: RequesterKind, yes: bool
    ) -> bool:
        with self.ledger.transaction() as tx:
            cast = approvals.vote(
                tx, approval_id, person, roles, yes, self.toy.clock.at_ms, kind=kind
            )
        return cast.accepted

    def requests(self) -> tuple[approvals.Request, ...]:
        with self.ledger.read() as tx:
            return approvals.list_all(tx)

    def _passing(self, point: str) -> None:
        if point == self.crash_at:
            raise Crash

    def _is_in_flight(self, ticket: Ticket) -> bool:
        with self.ledger.read() as tx:
            known = intents.get(tx, ticket.action_id)
        has_effect = any(one.action_id == ticket.action_id for one in self.toy.seen)
        return known is not None and known.state is IntentState.INTENDED and not has_effect

    def _on_effect(self, one: Seen) -> None:
        """At the moment of the effect: exactly one allow of its digest that was not lost."""
        with self.ledger.read() as tx:
            intent = intents.get(tx, one.action_id)
            assert intent is not None, one
            decisions = evidence.list_records(tx, INCIDENT, kinds=("decision",))
        assert intent.state is IntentState.INTENDED, one
        allowed = [
            record.body
            for record in decisions
            if record.body["effect"] == Effect.ALLOW.value
            and record.body["action_digest"] == intent.action_digest
        ]
        # A crash between intent and effect leaves an allow behind that no effect came of; recovery
        # asks the target, and judges again before it tries again.
        assert len(allowed) == 1 + self.lost[one.action_id], (one, allowed)
        assert intent.action_digest not in self.moved_on, one
        self.moved_on.add(intent.action_digest)
        approval_id = str(allowed[-1]["approval_id"])
        HAPPENED["retried" if self.lost[one.action_id] else "done"] += 1
        HAPPENED["approved" if approval_id else "without approval"] += 1
        assert approval_id == intent.approval_id
        assert approval_id or one.share_bp <= WIDE_BP, (one, "a wide act that nobody approved")
        if approval_id:
            self._was_approved(approval_id, intent)

    def _was_approved(self, approval_id: str, intent: intents.Intent) -> None:
        with self.ledger.read() as tx:
            known = approvals.get(tx, approval_id)
        assert known is not None
        one = known.approval
        assert one.state is ApprovalState.CONSUMED
        assert (one.action_digest, one.policy_version) == (
            intent.action_digest,
            intent.policy_version,
        )
        assert known.closed_ms < one.expires_ms
        people = {vote.person.strip().casefold() for vote in one.votes}
        assert len(people) == len(one.votes) >= one.need
        for vote in one.votes:
            assert vote.approve
            assert one.role in vote.roles
            assert vote.at_ms < one.expires_ms
            assert vote.person.strip().casefold() != one.requester.casefold()

    def settle_all(self) -> None:
        """A last process finishes what earlier ones left, and everything must add up."""
        self.reopen()
        self.toy.run(5)
        for ticket in self.tickets:
            self.drive(ticket, straight_to_act=self._is_intended(ticket))
        with self.ledger.read() as tx:
            known = intents.list_all(tx)
            assert evidence.verify(tx).ok
        effects = Counter(one.action_id for one in self.toy.seen)
        assert set(effects) <= {intent.action_id for intent in known}
        for intent in known:
            possible: Mapping[IntentState, set[int]] = {
                IntentState.DONE: {1},
                IntentState.FAILED: {0},
                IntentState.UNKNOWN: {0, 1},
                IntentState.INTENDED: {0, 1},
            }
            assert effects[intent.action_id] in possible[intent.state], intent

    def _is_intended(self, ticket: Ticket) -> bool:
        with self.ledger.read() as tx:
            known = intents.get(tx, ticket.action_id)
        return known is not None and known.state is IntentState.INTENDED


class Spy:
    """Sits between act node and executors: tries each new permit on another action before it is
    used, and keeps it for whoever wants to use it again.
    """

    def __init__(self, real: object, permits: list[tuple[Permit, Action]]) -> None:
        from loop4.tools.executors import Executors

        assert isinstance(real, Executors)
        self.real, self._permits = real, permits
        self.probe = real.probe

    async def execute(self, permit: Permit, action: Action, *, now_ms: int) -> Outcome:
        self._permits.append((permit, action))
        for other in (
            replace(action, arguments={**action.arguments, "to_revision": 40}),
            replace(action, target_revision="another"),
            replace(action, action_id="a" * 64),
        ):
            with pytest.raises(PermitError):
                await self.real.execute(permit, other, now_ms=now_ms)
        return await self.real.execute(permit, action, now_ms=now_ms)
