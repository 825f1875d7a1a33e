"""A clock that is set back must not stop the schedules for as long as it was set back by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from dbos import _scheduler

from loop4.metronome import SLACK_MS, Metronome
from loop4.policies.fleet_schedule import Duty
from loop4.service import Service
from tests.api.conftest import Door, door  # noqa: F401  (a fixture)
from tests.graphs.conftest import run

DUTIES = (Duty("pump", "pump", 1), Duty("health", "sweep", 10), Duty("heartbeat", "heartbeat", 30))
HOUR_MS = 3_600_000


@dataclass
class Clocks:
    wall_ms: int = 1_800_000_000_000
    steady: float = 0.0
    ticks: list[str] = field(default_factory=list)

    def now_ms(self) -> int:
        return self.wall_ms

    def steady_s(self) -> float:
        return self.steady

    async def tick(self, name: str, at_ms: int) -> str:
        assert at_ms == self.wall_ms
        self.ticks.append(name)
        return ""

    def second(self) -> None:
        self.wall_ms += 1000
        self.steady += 1.0


def metronome(clocks: Clocks) -> Metronome:
    return Metronome(DUTIES, clocks, clocks.tick, clocks.steady_s)


def test_while_the_clock_goes_forward_the_schedules_alone_do_the_work() -> None:
    clocks = Clocks()
    one = metronome(clocks)
    for step_ms in (0, 1000, 1000, -SLACK_MS, SLACK_MS, HOUR_MS, 1000):
        clocks.wall_ms += step_ms
        assert one.due() == ()


def test_a_clock_that_was_set_back_is_said_once_and_every_duty_keeps_its_interval(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clocks = Clocks()
    one = metronome(clocks)
    assert one.due() == ()
    clocks.wall_ms -= HOUR_MS
    done: list[str] = []
    for _ in range(60):
        done += one.due()
        clocks.second()
    assert {d.name: done.count(d.name) for d in DUTIES} == {
        "pump": 60,
        "health": 6,
        "heartbeat": 2,
    }
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "set back by 3600 s" in told


def test_once_the_clock_has_caught_up_the_schedules_have_it_back() -> None:
    clocks = Clocks()
    one = metronome(clocks)
    one.due()
    clocks.wall_ms -= 10_000
    counts = []
    for _ in range(20):
        counts.append(len(one.due()))
        clocks.second()
    assert counts[0] == 3
    assert all(counts[:8])
    assert not any(counts[8:])


class BentTime(datetime):
    """What the engine takes for the time of day."""

    back_s = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> BentTime:
        return cls.fromtimestamp((datetime.now(tz) - timedelta(seconds=cls.back_s)).timestamp(), tz)


@pytest.mark.slow
def test_with_the_real_engine_the_pump_goes_on_after_the_clock_was_set_back(
    door: Door,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(_scheduler, "datetime", BentTime)
    monkeypatch.setattr(BentTime, "back_s", 0)
    pumped: list[int] = []
    real = Service.pump

    async def counting(self: Service) -> str:
        pumped.append(1)
        return await real(self)

    monkeypatch.setattr(Service, "pump", counting)

    async def more(count: int) -> None:
        target = len(pumped) + count
        for _ in range(400):
            if len(pumped) >= target:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the pump stands still")

    async def play() -> None:
        async with door.opened(engine=True):
            assert door.service is not None
            clock, stop = door.stage.toy.clock, asyncio.Event()
            one = Metronome(door.service.schedule.duties, clock, door.service.tick)
            assert one.due() == ()
            await more(1)
            BentTime.back_s = 3600
            clock.at_ms -= HOUR_MS
            ticking = asyncio.create_task(one.keep(stop))
            await more(4)
            stop.set()
            await ticking

    run(play())
