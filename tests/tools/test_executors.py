"""Executors: a genuine permit for exactly these arguments, once; and what a target answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from loop4.domain import Action, Effect, IntentState, JsonObject, Mode, Permit, Verdict
from loop4.errors import BackendError, Conflict, PermitError, Refused, Unreachable
from loop4.policies.permit import PermitOffice
from loop4.tools import orchestrator
from loop4.tools.backends.ports import Inventory, WriteResult
from loop4.tools.deployments import roll_back
from loop4.tools.executors import Executors, executable_tools
from loop4.tools.orchestrator import target_revision
from loop4.tools.tool import Hands, act, implementations
from tests.graphs.toy import ToyWorld

T = TypeVar("T")
ALLOW = Verdict(Effect.ALLOW, Effect.ALLOW, ("r",), (), Mode.ACT, "v1")
ARGUMENTS: JsonObject = {"service": "orders", "to_revision": 41}


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


@dataclass
class Stubborn(ToyWorld):
    """Answers writes with these errors first."""

    errors: list[BackendError] = field(default_factory=list)

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        if self.errors:
            self.version += 1  # its status moved on
            raise self.errors.pop(0)
        return await super().roll_back(service, to_revision, expected=expected, mark=mark)


@dataclass
class Late(ToyWorld):
    """Was called for the same action before, by a process that died: that call lands first, and
    shows only after so many reads.
    """

    hidden_reads: int = 0

    async def inventory(self) -> Inventory:
        seen = await super().inventory()
        if not self.rolled_back or self.hidden_reads < 1:
            return seen
        self.hidden_reads -= 1
        now = (self.rolled_back, self.version, self.generation, self.mark)
        self.rolled_back, self.version, self.generation, self.mark = False, 1, 1, ""
        seen = await super().inventory()
        self.rolled_back, self.version, self.generation, self.mark = now
        return seen

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        if not self.rolled_back:
            await super().roll_back(service, to_revision, expected=expected, mark=mark)
        return await super().roll_back(service, to_revision, expected=expected, mark=mark)


@dataclass
class Bench:
    toy: ToyWorld
    office: PermitOffice
    executors: Executors

    @property
    def now_ms(self) -> int:
        return self.toy.clock.now_ms()

    def action(self) -> Action:
        workload = run(self.toy.inventory()).workload("orders")
        assert workload is not None
        return Action(
            action_id="a1",
            incident_id="INC-2026-001",
            tool="deployments.roll_back",
            target="orders",
            service="orders",
            environment="lab",
            arguments=ARGUMENTS,
            target_revision=target_revision(workload),
            agent="remediation",
            requester="remediation",
        )

    def permit(self, action: Action) -> Permit:
        return self.office.issue(action, ALLOW, self.now_ms, 60_000)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "WAITS_S", (0.0,) * len(orchestrator.WAITS_S))


def bench_on(toy: ToyWorld) -> Bench:
    office = PermitOffice()
    toy.run(10)
    toy.deploy()
    toy.run(5)
    return Bench(toy, office, Executors(Hands(toy, toy), office, ALLOW.policy_version))


@pytest.fixture
def bench() -> Bench:
    return bench_on(ToyWorld())


def test_a_permitted_action_runs_and_says_what_it_changed(bench: Bench) -> None:
    action = bench.action()
    outcome = run(bench.executors.execute(bench.permit(action), action, now_ms=bench.now_ms))
    assert outcome.state is IntentState.DONE
    assert (outcome.before, outcome.after) == ({"revision": 42}, {"revision": 41})
    assert bench.toy.effects == ["roll_back orders 41"]
    assert run(bench.executors.probe(action)).mark


def test_a_permit_is_good_for_one_execution(bench: Bench) -> None:
    action = bench.action()
    permit = bench.permit(action)
    run(bench.executors.execute(permit, action, now_ms=bench.now_ms))
    with pytest.raises(PermitError, match="used before"):
        run(bench.executors.execute(permit, action, now_ms=bench.now_ms))
    assert bench.toy.effects == ["roll_back orders 41"]


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"service": "orders", "to_revision": 42}},
        {"arguments": {**ARGUMENTS, "force": True}},
        {"target": "payments"},
        {"service": "payments"},
        {"tool": "workloads.restart"},
        {"environment": "production"},
        {"target_revision": "another"},
        {"action_id": "a2"},
    ],
    ids=str,
)
def test_a_permit_is_for_exactly_one_action(bench: Bench, changes: dict[str, str]) -> None:
    action = bench.action()
    edited = replace(action, **changes)  # type: ignore[arg-type]  # values of several types
    with pytest.raises(PermitError):
        run(bench.executors.execute(bench.permit(action), edited, now_ms=bench.now_ms))
    assert bench.toy.effects == []


def test_a_permit_of_another_process_or_of_yesterday_opens_nothing(bench: Bench) -> None:
    action = bench.action()
    foreign = PermitOffice().issue(action, ALLOW, bench.now_ms, 60_000)
    with pytest.raises(PermitError, match="not issued"):
        run(bench.executors.execute(foreign, action, now_ms=bench.now_ms))
    late = bench.now_ms + 60_000
    with pytest.raises(PermitError, match="expired"):
        run(bench.executors.execute(bench.permit(action), action, now_ms=late))
    longer = replace(bench.permit(action), expires_ms=late + 60_000)
    with pytest.raises(PermitError, match="not issued"):
        run(bench.executors.execute(longer, action, now_ms=late))
    assert bench.toy.effects == []


@pytest.mark.parametrize("effect", [Effect.DENY, Effect.ESCALATE, Effect.REQUIRE_APPROVAL])
def test_there_is_no_permit_without_an_allow(bench: Bench, effect: Effect) -> None:
    with pytest.raises(PermitError):
        bench.office.issue(bench.action(), replace(ALLOW, effect=effect), bench.now_ms, 60_000)


def test_a_declared_tool_without_an_executor_is_refused(bench: Bench) -> None:
    action = replace(bench.action(), tool="code.patch")
    with pytest.raises(PermitError, match="no executor"):
        run(bench.executors.execute(bench.permit(action), action, now_ms=bench.now_ms))
    assert not run(bench.executors.probe(action)).answered


@pytest.mark.parametrize(
    ("errors", "state"),
    [
        ([Unreachable("no answer")], IntentState.UNKNOWN),
        ([Refused("no")], IntentState.FAILED),
        ([Conflict("changed")] * 5, IntentState.FAILED),
    ],
    ids=["no answer", "a refusal", "conflicts without end"],
)
def test_what_the_target_answers_becomes_an_outcome(
    errors: list[BackendError], state: IntentState
) -> None:
    bench = bench_on(Stubborn(errors=list(errors)))
    action = bench.action()
    outcome = run(bench.executors.execute(bench.permit(action), action, now_ms=bench.now_ms))
    assert outcome.state is state
    assert bench.toy.effects == []


def test_a_conflict_of_status_alone_is_tried_again_on_fresh_state() -> None:
    bench = bench_on(Stubborn(errors=[Conflict("status")] * 2))
    action = bench.action()
    outcome = run(bench.executors.execute(bench.permit(action), action, now_ms=bench.now_ms))
    assert outcome.state is IntentState.DONE
    assert bench.toy.effects == ["roll_back orders 41"]


@pytest.mark.parametrize("hidden_reads", [0, 1, 6])
def test_a_call_that_finds_the_effect_of_an_earlier_one_is_done(hidden_reads: int) -> None:
    late = bench_on(Late(hidden_reads=hidden_reads))
    action = late.action()
    outcome = run(late.executors.execute(late.permit(action), action, now_ms=late.now_ms))
    assert outcome.state is IntentState.DONE
    assert outcome.detail == "orders: our mark is on the target"
    assert late.toy.effects == ["roll_back orders 41"]


def test_a_target_that_shows_what_it_refuses_cannot_tell_what_was_done() -> None:
    late = bench_on(Late(hidden_reads=99))
    action = late.action()
    outcome = run(late.executors.execute(late.permit(action), action, now_ms=late.now_ms))
    assert outcome.state is IntentState.UNKNOWN
    assert late.toy.effects == ["roll_back orders 41"]


def test_a_target_that_is_no_longer_what_was_judged_is_left_alone(bench: Bench) -> None:
    action = bench.action()
    permit = bench.permit(action)
    bench.toy.generation += 1
    outcome = run(bench.executors.execute(permit, action, now_ms=bench.now_ms))
    assert outcome.state is IntentState.FAILED
    assert bench.toy.effects == []


def test_an_act_tool_is_a_value_that_nobody_can_call() -> None:
    with pytest.raises(TypeError):
        roll_back()  # type: ignore[operator]  # that is what is tested
    assert roll_back.name in executable_tools()


def test_one_name_has_one_implementation() -> None:
    _, probe = implementations()[roll_back.name]
    again = act(roll_back.name, effect="another", reversible=True, probe=probe)
    with pytest.raises(ValueError, match="implemented twice"):
        again(implementations()[roll_back.name][0])
