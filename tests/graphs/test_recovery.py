"""When is what was wrong right again: windows after the act, objectives, noise, and instances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Event, EventKind, Reading, Severity
from loop4.errors import QueryError, Unreachable
from loop4.graphs.assemble import assemble
from loop4.graphs.fleet import Fleet
from loop4.graphs.recovery import Check, breached_targets, check_recovery, overall
from loop4.lab.folder import make_operations
from loop4.ledger import events, evidence, incidents
from loop4.ledger.ledger import Ledger
from loop4.tools.backends.ports import Inventory, Series, World
from loop4.tools.backends.promql import EmbeddedMetrics
from loop4.tools.backends.series import SeriesStore
from tests.graphs.conftest import Stage, breach
from tests.graphs.toy import START_MS, ToyClock, ToyWorld

ORDERS = ("orders-availability",)
ALL = (
    "gateway-availability",
    "gateway-latency",
    "orders-availability",
    "payments-availability",
)


@pytest.fixture(scope="module")
def assembled(
    tmp_path_factory: pytest.TempPathFactory, new_place: Callable[[], Path | str]
) -> Iterator[Fleet]:
    """The lab's policies, loaded once: targets verify over 15 s and burn over 60 s and 10 s."""
    folder = tmp_path_factory.mktemp("fleet")
    make_operations(folder / "operations")
    with Ledger.open(new_place()) as ledger:
        yield assemble(
            operations=folder / "operations", ledger=ledger, world=World(), clock=ToyClock()
        )


@pytest.fixture
def fleet(assembled: Fleet, stage: Stage) -> Fleet:
    """A fleet that sees the stage's world."""
    return replace(assembled, world=stage.toy.world(), clock=stage.toy.clock)


def failing(toy: ToyWorld, share_bp: int, seconds: int) -> None:
    """Time passes while this share of the requests to orders, and so to gateway, fails."""
    if not toy.deployed_ms:
        toy.deploy()
    toy.failing_bp = share_bp * 2  # its version takes half of the traffic
    toy.run(seconds)


def checked(
    fleet: Fleet,
    stage: Stage,
    *,
    since_ms: int,
    breached: Collection[str] = ORDERS,
    event: Event | None = None,
) -> dict[str, Reading]:
    happened = event if event is not None else breach(stage)
    checks = asyncio.run(check_recovery(fleet, happened, breached, since_ms=since_ms))
    return {c.target: c.reading for c in checks}


def test_every_target_of_the_affected_services_is_looked_at(fleet: Fleet, stage: Stage) -> None:
    stage.toy.run(90)
    found = checked(fleet, stage, since_ms=START_MS)
    assert found == dict.fromkeys(ALL, Reading.PASS)


def test_a_target_that_still_fails_is_not_well_whatever_was_done(
    fleet: Fleet, stage: Stage
) -> None:
    failing(stage.toy, 3_000, 90)
    checks = asyncio.run(check_recovery(fleet, breach(stage), ORDERS, since_ms=START_MS))
    found = {c.target: (c.reading, c.failing_bp) for c in checks}
    assert found["orders-availability"] == (Reading.FAIL, 3_000)
    assert found["payments-availability"] == (Reading.PASS, 0)


def test_failures_that_ended_with_the_act_are_well_one_window_after_it(
    fleet: Fleet, stage: Stage
) -> None:
    stage.toy.run(60)
    failing(stage.toy, 3_000, 30)
    acted_ms = stage.toy.clock.now_ms()
    failing(stage.toy, 0, 16)
    assert checked(fleet, stage, since_ms=acted_ms) == dict.fromkeys(ALL, Reading.PASS)


@pytest.mark.parametrize(("after_s", "reading"), [(14, Reading.NO_DATA), (15, Reading.PASS)])
def test_the_window_must_lie_after_the_act(
    fleet: Fleet, stage: Stage, after_s: int, reading: Reading
) -> None:
    stage.toy.run(60)
    acted_ms = stage.toy.clock.now_ms()
    stage.toy.run(after_s)
    assert set(checked(fleet, stage, since_ms=acted_ms).values()) == {reading}


def test_a_breached_target_must_be_inside_its_objective_and_the_others_must_not_breach(
    fleet: Fleet, stage: Stage
) -> None:
    stage.toy.run(60)
    failing(stage.toy, 100, 90)  # 1 %: outside the objective (0.5 %), below the alert line (2 %)
    found = checked(fleet, stage, since_ms=START_MS)
    assert found["orders-availability"] is Reading.FAIL
    assert found["gateway-availability"] is Reading.PASS
    both = checked(fleet, stage, since_ms=START_MS, breached=ALL)
    assert both["gateway-availability"] is Reading.FAIL


def test_another_target_that_breaches_now_is_not_well(fleet: Fleet, stage: Stage) -> None:
    stage.toy.run(60)
    failing(stage.toy, 300, 60)
    found = checked(fleet, stage, since_ms=START_MS, breached=("payments-availability",))
    assert found["gateway-availability"] is Reading.FAIL


@pytest.mark.parametrize(
    ("noisy_s", "after_s", "reading"),
    [
        (10, 15, Reading.FAIL),
        (10, 29, Reading.FAIL),
        (10, 30, Reading.PASS),  # 0.67 % of the latest window, 0.33 % of two
        (25, 59, Reading.FAIL),
        (25, 60, Reading.PASS),  # 1 % of the latest window, 0.42 % of four
    ],
)
def test_noise_in_the_latest_window_is_well_when_two_or_four_windows_after_the_act_are_inside(
    fleet: Fleet, stage: Stage, noisy_s: int, after_s: int, reading: Reading
) -> None:
    stage.toy.run(60)
    acted_ms = stage.toy.clock.now_ms()
    stage.toy.run(after_s - noisy_s)
    failing(stage.toy, 100, noisy_s)
    assert checked(fleet, stage, since_ms=acted_ms)["orders-availability"] is reading


def test_a_bad_start_is_well_once_the_latest_window_is_inside(fleet: Fleet, stage: Stage) -> None:
    stage.toy.run(60)
    acted_ms = stage.toy.clock.now_ms()
    failing(stage.toy, 3_000, 20)
    failing(stage.toy, 0, 16)
    assert checked(fleet, stage, since_ms=acted_ms)["orders-availability"] is Reading.PASS


def test_a_new_breach_is_not_hidden_by_a_long_good_time(fleet: Fleet, stage: Stage) -> None:
    stage.toy.run(60)
    acted_ms = stage.toy.clock.now_ms()
    stage.toy.run(58)
    failing(stage.toy, 1_500, 2)  # 2 % of the latest window and more, 0.5 % since the act
    assert checked(fleet, stage, since_ms=acted_ms)["orders-availability"] is Reading.FAIL


@pytest.mark.parametrize(("a_second", "reading"), [(0.5, Reading.NO_DATA), (1.0, Reading.PASS)])
def test_too_few_requests_prove_nothing(
    fleet: Fleet, stage: Stage, a_second: float, reading: Reading
) -> None:
    stage.toy.run(90)
    thin = SeriesStore()
    for second in range(1, 91):
        for name, labels in (
            ("http_requests_total", {"service": "orders", "outcome": "ok"}),
            ("http_requests_total", {"service": "orders", "outcome": "error"}),
        ):
            count = second * a_second if labels["outcome"] == "ok" else 0.0
            thin.append(name, labels, START_MS + second * 1000, count)
    quiet = replace(fleet, world=replace(fleet.world, metrics=EmbeddedMetrics(thin)))
    found = checked(quiet, stage, since_ms=START_MS)
    assert found["orders-availability"] is reading
    assert found["payments-availability"] is Reading.NO_DATA


@dataclass
class Broken:
    """Metrics that cannot answer."""

    error: Exception

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        raise self.error

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        raise self.error


@pytest.mark.parametrize("metrics", [None, Broken(Unreachable("x")), Broken(QueryError("x"))])
def test_metrics_that_cannot_be_read_prove_nothing(
    fleet: Fleet, stage: Stage, metrics: Broken | None
) -> None:
    stage.toy.run(90)
    blind = replace(fleet, world=replace(fleet.world, metrics=metrics))
    found = checked(blind, stage, since_ms=START_MS)
    assert found == dict.fromkeys(ALL, Reading.NO_DATA)


@dataclass
class Orchestrator:
    """Orders' only replica as given; or an orchestrator that is away."""

    inner: ToyWorld
    state: str = "ready"
    ejected: bool = False
    restarts: int = 0
    away: bool = False

    async def inventory(self) -> Inventory:
        if self.away:
            raise Unreachable("no answer")
        seen = await self.inner.inventory()
        return replace(
            seen,
            workloads=tuple(
                replace(
                    w,
                    instances=tuple(
                        replace(i, state=self.state, ejected=self.ejected, restarts=self.restarts)
                        for i in w.instances
                    ),
                )
                for w in seen.workloads
            ),
        )


def odd(stage: Stage, instance: str = "orders-v1") -> Event:
    return replace(breach(stage), kind=EventKind.ANOMALY, labels={"instance": instance})


@pytest.mark.parametrize(
    ("shown", "reading"),
    [
        ({}, Reading.PASS),
        ({"state": "starting"}, Reading.FAIL),
        ({"state": "backoff"}, Reading.FAIL),
        ({"ejected": True}, Reading.FAIL),
        ({"restarts": 1}, Reading.FAIL),
        ({"away": True}, Reading.NO_DATA),
    ],
)
def test_an_odd_instance_must_be_ready_take_traffic_and_not_have_died_again(
    fleet: Fleet, stage: Stage, shown: dict[str, str | bool | int], reading: Reading
) -> None:
    stage.toy.run(90)
    orchestrator = replace(Orchestrator(stage.toy), **shown)  # type: ignore[arg-type]  # checked
    seeing = replace(fleet, world=replace(fleet.world, workloads=orchestrator))
    found = checked(seeing, stage, since_ms=START_MS, breached=(), event=odd(stage))
    assert found == {**dict.fromkeys(ALL, Reading.PASS), "orders-v1": reading}


@pytest.mark.parametrize("instance", ["orders-v7", ""])
def test_an_instance_that_nobody_knows_proves_nothing(
    fleet: Fleet, stage: Stage, instance: str
) -> None:
    stage.toy.run(90)
    found = checked(fleet, stage, since_ms=START_MS, breached=(), event=odd(stage, instance))
    assert found[instance] is Reading.NO_DATA


def test_without_an_orchestrator_an_instance_proves_nothing(fleet: Fleet, stage: Stage) -> None:
    stage.toy.run(90)
    blind = replace(fleet, world=replace(fleet.world, workloads=None))
    found = checked(blind, stage, since_ms=START_MS, breached=(), event=odd(stage))
    assert found["orders-v1"] is Reading.NO_DATA


def test_an_incident_is_about_the_targets_of_its_events_and_of_its_triage(
    fleet: Fleet, stage: Stage
) -> None:
    happened = breach(stage)
    with fleet.ledger.transaction() as tx:
        incident, _ = incidents.open_or_find(
            tx,
            happened.correlation,
            service="orders",
            environment="lab",
            severity=Severity.SEV2,
            detected_ms=START_MS,
            now_ms=START_MS,
        )
        assert events.accept(tx, happened, now_ms=START_MS)
        events.assign(tx, happened.event_id, incident.incident_id)
        evidence.append(
            tx,
            "triage",
            incident.incident_id,
            "run-1",
            {
                "targets": [
                    {"target": "gateway-availability", "reading": "fail"},
                    {"target": "gateway-latency", "reading": "pass"},
                    {"target": "payments-availability", "reading": "no_data"},
                ]
            },
            at_ms=START_MS,
        )
    found = breached_targets(fleet, incident.incident_id)
    assert found == {"orders-availability", "gateway-availability"}
    assert breached_targets(fleet, "INC-2026-999") == frozenset()


@given(readings=st.lists(st.sampled_from(list(Reading)), max_size=6))
def test_all_together_are_as_well_as_the_worst_of_them(readings: list[Reading]) -> None:
    checks = tuple(Check(f"t{n}", reading, 0) for n, reading in enumerate(readings))
    if Reading.FAIL in readings:
        assert overall(checks) is Reading.FAIL
    elif readings and set(readings) == {Reading.PASS}:
        assert overall(checks) is Reading.PASS
    else:
        assert overall(checks) is Reading.NO_DATA
