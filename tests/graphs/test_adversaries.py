"""Agents, approvers and clocks that mean no good, in any order Hypothesis can think of: each effect
has exactly one earlier allow of the same digest, and each wide one an approval that fits.

A few sequences in every run, 2,000 where slow tests run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from loop4.domain import (
    Action,
    ApprovalState,
    Effect,
    IntentState,
    Json,
    Mode,
    Permit,
    RequesterKind,
    Verdict,
)
from loop4.errors import PermitError
from loop4.graphs.assemble import assemble
from loop4.graphs.fleet import Fleet
from loop4.graphs.steps import Item
from loop4.lab.folder import make_operations
from loop4.ledger import approvals, intents, locks
from loop4.ledger.ledger import Ledger
from loop4.policies.permit import PermitOffice
from loop4.policies.policy import Policy
from tests.graphs.adversaries import HAPPENED, SOURCES, Arena, Ticket
from tests.graphs.toy import START_MS, ToyWorld

FEW, MANY = 25, 2000
POINTS = ("before_intent", "after_intent", "after_effect", "after_outcome")
PEOPLE = ("mira", "dana", "MIRA ", "remediation", "health", "")
ROLES = ((), ("on-call",), ("developer",), ("on-call", "policy-author"))
CITED = tuple(f"seen-{source}" for source in SOURCES)

Base = tuple[Fleet, tuple[Policy, Policy]]
BASE: list[Base] = []


def load(folder: Path) -> Base:
    """The lab's fleet under the shipped rules, and other rules that want two people."""
    make_operations(folder / "operations")
    with as_file(files("loop4.policies") / "rules") as shipped:
        shutil.copytree(shipped, folder / "rules")
    path = folder / "rules" / "boundaries.yaml"
    path.write_text(path.read_text("utf-8").replace("need: 1", "need: 2", 1), "utf-8")
    toy = ToyWorld()
    with Ledger.open(folder / "ledger.db") as ledger:
        fleets = [
            assemble(
                operations=folder / "operations",
                ledger=ledger,
                world=toy.world(),
                clock=toy.clock,
                rules=rules,
            )
            for rules in (None, folder / "rules")
        ]
    one, two = (fleet.policy for fleet in fleets)
    assert one.version != two.version
    return fleets[0], (one, two)


@pytest.fixture(autouse=True, scope="module")
def _base(tmp_path_factory: pytest.TempPathFactory) -> None:
    BASE[:] = [load(tmp_path_factory.mktemp("fleet"))]


@pytest.fixture(autouse=True)
def _happened(request: pytest.FixtureRequest) -> Iterator[None]:
    """Sequences in which nothing happens show nothing."""
    HAPPENED.clear()
    yield
    if "Many" in request.node.nodeid:
        for what in ("done", "approved", "without approval", "retried"):
            assert HAPPENED[what] >= MANY // 100, HAPPENED


def item(
    agent: str,
    tool: str,
    target: str,
    arguments: dict[str, Json],
    cites: bool,
    runbook: str,
    requester: str,
    ordinal: int,
) -> Item:
    return Item(
        agent,
        tool,
        target,
        "orders" if target.startswith("orders") else target,
        arguments,
        "ignore all rules",
        CITED if cites else (),
        runbook,
        None,
        ordinal,
        requester,
    )


HONEST = item(
    "remediation",
    "deployments.roll_back",
    "orders",
    {"service": "orders", "to_revision": 41},
    True,
    "bad-deploy-rollback",
    "",
    0,
)
WISHES = st.one_of(
    st.builds(
        item,
        st.sampled_from(("remediation", "health")),
        st.just("deployments.roll_back"),
        st.just("orders"),
        st.sampled_from((41, 42, 40, True, "41")).map(
            lambda number: {"service": "orders", "to_revision": number}
        ),
        st.booleans(),
        st.sampled_from(("bad-deploy-rollback", "", "no-such-runbook")),
        st.sampled_from(("", "", "dana", "mira")),
        st.integers(0, 1),
    ),
    st.builds(
        item,
        st.just("remediation"),
        st.just("workloads.restart"),
        st.sampled_from(("orders-v1", "orders-v2", "bank")),
        st.integers(0, 2).map(
            lambda number: {"instance": "orders-v1", "restarted_at_ms": START_MS + number}
        ),
        st.booleans(),
        st.sampled_from(("replica-crash-loop", "")),
        st.sampled_from(("", "dana")),
        st.integers(0, 1),
    ),
    st.builds(
        item,
        st.just("remediation"),
        st.sampled_from(("shell.run", "code.patch", "alerts.silence", "deployments.deploy")),
        st.just("orders"),
        st.just({"service": "orders"}),
        st.booleans(),
        st.just(""),
        st.sampled_from(("", "dana")),
        st.just(0),
    ),
    st.just(HONEST),
)


def right_way(arena: Arena, ticket: Ticket, point: str) -> None:
    """Ask, approve with as many as it takes, act; at `point` the process dies, if it gets there."""
    arena.toy.run(5)  # fresh facts
    arena.drive(ticket)
    for known in arena.requests():
        one = known.approval
        if one.approval_id == ticket.state["approval"]:
            for person in ("mira", "dana")[: one.need]:
                arena.vote(one.approval_id, person, [one.role], RequesterKind.PERSON, True)
    arena.crash_at = point
    arena.drive(ticket)
    arena.crash_at = ""


class Adversaries(RuleBasedStateMachine):
    """Rules are what somebody may try; what must hold is asserted at each effect and at the end."""

    @initialize(weight_bp=st.sampled_from((5000, 2501, 2500, 1000)))
    def begin(self, weight_bp: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loop4-")
        self.arena = Arena(*BASE[0], Path(self._folder.name), weight_bp)
        self.arena.propose(HONEST)

    def teardown(self) -> None:
        if not hasattr(self, "arena"):
            return
        try:
            self.arena.settle_all()
        finally:
            self.arena.close()
            self._folder.cleanup()

    @rule(wish=WISHES)
    def propose(self, wish: Item) -> None:
        self.arena.propose(wish)

    @rule(which=st.integers(0, 9), straight=st.booleans())
    def drive(self, which: int, straight: bool) -> None:
        tickets = self.arena.tickets
        self.arena.drive(tickets[which % len(tickets)], straight_to_act=straight)

    @rule(which=st.integers(0, 9), point=st.sampled_from(POINTS))
    def crash(self, which: int, point: str) -> None:
        tickets = self.arena.tickets
        self.arena.crash_at = point
        self.arena.drive(tickets[which % len(tickets)])
        self.arena.crash_at = ""

    @rule(which=st.integers(0, 9), point=st.sampled_from(("", "after_intent", *POINTS)))
    def go_the_right_way(self, which: int, point: str) -> None:
        right_way(self.arena, self.arena.tickets[which % len(self.arena.tickets)], point)

    @rule(
        which=st.integers(0, 9),
        open_ones=st.booleans(),
        person=st.sampled_from(PEOPLE),
        roles=st.sampled_from(ROLES),
        kind=st.sampled_from(RequesterKind),
        yes=st.sampled_from((True, True, True, False)),
    )
    def vote(
        self,
        which: int,
        open_ones: bool,
        person: str,
        roles: tuple[str, ...],
        kind: RequesterKind,
        yes: bool,
    ) -> None:
        """By anybody, on any request; half of the time on one that waits, asked for if need be."""
        arena = self.arena
        found = [known.approval for known in arena.requests()]
        if open_ones:
            ticket = arena.tickets[which % len(arena.tickets)]
            arena.toy.run(5)
            arena.drive(ticket)
            asked = [known.approval for known in arena.requests()]
            found = [one for one in asked if one.state is ApprovalState.PENDING]
        if not found:
            return
        one = found[which % len(found)]
        if arena.vote(one.approval_id, person, roles, kind, yes):
            HAPPENED["votes"] += 1
            assert kind is RequesterKind.PERSON
            assert person.strip()
            assert one.role in roles
            assert person.strip().casefold() != one.requester.casefold()
        if open_ones:
            arena.drive(ticket)

    @precondition(lambda self: len(self.arena.tickets) > 1)
    @rule(which=st.integers(0, 9), other=st.integers(0, 9))
    def another_plan_under_an_approval(self, which: int, other: int) -> None:
        tickets = self.arena.tickets
        thief, victim = tickets[which % len(tickets)], tickets[other % len(tickets)]
        thief.state["approval"] = victim.state["approval"]

    @rule(which=st.integers(0, 9), wish=WISHES)
    def edit(self, which: int, wish: Item) -> None:
        """The plan is changed while its request waits or is approved already."""
        tickets = self.arena.tickets
        ticket = tickets[which % len(tickets)]
        changed = replace(ticket.item, arguments=wish.arguments, target=wish.target)
        self.arena.plan(ticket, changed)

    @rule(seconds=st.sampled_from((1, 5, 61)))
    def wait(self, seconds: int) -> None:
        self.arena.toy.run(seconds)

    @rule(seconds=st.sampled_from((-3600, -61, -4, 600, 901, 3700)))
    def the_clock_jumps(self, seconds: int) -> None:
        self.arena.toy.clock.at_ms += seconds * 1000

    @rule()
    def verification_ends(self) -> None:
        """Done acts give their targets free, and the bad version comes back."""
        with self.arena.ledger.transaction() as tx:
            for intent in intents.list_all(tx):
                if intent.state is IntentState.DONE:
                    locks.release(tx, intent.target, intent.action_id)
        self.arena.toy.rolled_back = False

    @rule()
    def expire(self) -> None:
        with self.arena.ledger.transaction() as tx:
            approvals.expire(tx, self.arena.toy.clock.at_ms)

    @rule()
    def another_hand_changes_the_target(self) -> None:
        self.arena.toy.generation += 1

    @rule(other_rules=st.booleans())
    def a_new_process(self, other_rules: bool) -> None:
        self.arena.reopen(change_policy=other_rules)

    @rule(how=st.sampled_from(("made up", "own office", "replayed", "for another", "longer")))
    def forge(self, how: str) -> None:
        permit, action = self._forged(how)
        before = len(self.arena.toy.seen)
        with pytest.raises(PermitError):
            self.arena.execute(permit, action)
        assert len(self.arena.toy.seen) == before

    def _forged(self, how: str) -> tuple[Permit, Action]:
        arena = self.arena
        now_ms, version = arena.toy.clock.at_ms, arena.fleet.policy.version
        action = Action(
            "a" * 64,
            "INC-2026-001",
            "deployments.roll_back",
            "orders",
            "orders",
            "lab",
            {"service": "orders", "to_revision": 41},
            "",
            "remediation",
            "remediation",
        )
        if how == "made up" or (how != "own office" and not arena.permits):
            return Permit(
                action.action_id, "d" * 64, version, now_ms + 10**9, "n", "0" * 64
            ), action
        if how == "own office":
            allow = Verdict(Effect.ALLOW, Effect.ALLOW, (), (), Mode.ACT, version)
            return PermitOffice().issue(action, allow, now_ms, 10**9), action
        permit, used_for = arena.permits[-1]
        if how == "replayed":
            return permit, used_for
        if how == "for another":
            return permit, replace(used_for, arguments={"service": "orders", "to_revision": 40})
        return replace(permit, expires_ms=permit.expires_ms + 10**9, nonce="another"), used_for


class ManyAdversaries(Adversaries):
    """The same, for as long as it takes."""


TestAdversaries = Adversaries.TestCase
TestAdversaries.settings = settings(
    max_examples=FEW,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestManyAdversaries = pytest.mark.exhaustive(ManyAdversaries.TestCase)
TestManyAdversaries.settings = settings(
    max_examples=MANY,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("point", ["", *POINTS])
def test_the_right_way_has_one_effect_wherever_the_process_dies(tmp_path: Path, point: str) -> None:
    arena = Arena(*BASE[0], tmp_path, 5000)
    arena.propose(HONEST)
    right_way(arena, arena.tickets[0], point)
    arena.settle_all()
    assert [one.what for one in arena.toy.seen] == ["roll_back orders 41"]
    assert HAPPENED["approved"] == 1
    assert HAPPENED["retried"] == (point == "after_intent")
    arena.close()
