from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop4.engine import Engine, QueueLimits, Schedule, cron, limits_from
from loop4.errors import EngineError
from tests.postgresql import Server

QUEUE = QueueLimits("work", per_worker=8, poll_s=0.05)


class Seen:
    """What was performed, and how much of it at a time."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.done: list[str] = []
        self.ticks: list[int] = []
        self.now = self.most = 0
        self.takes_s = takes_s

    async def perform(self, what: str, subject: str) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.takes_s)
        self.now -= 1
        self.done.append(f"{what} {subject}")
        return "done"

    async def tick(self, name: str, at_ms: int) -> str:
        self.ticks.append(at_ms)
        return name


@pytest.fixture
def url(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> str:
    """Where the engine keeps its records, in either kind of database."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'engine.db'}"
    server: Server = request.getfixturevalue("postgresql")
    return server.url(server.database())


async def until(holds: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        await asyncio.sleep(0.02)


def test_work_is_done_once_for_one_key_even_when_it_is_promised_again_later(url: str) -> None:
    async def play() -> None:
        seen = Seen()
        async with Engine(url, "w", perform=seen.perform, tick=seen.tick) as engine:
            await engine.start([QUEUE], [Schedule("beat", 1, "work")])
            if url.startswith("sqlite:"):
                opened = sqlite3.connect(url.removeprefix("sqlite:///"))
                assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
                opened.close()
            for _ in range(5):
                await engine.enqueue("work", "leg", "run-1", "leg:run-1:1")
            await until(lambda: bool(seen.done))
            await engine.enqueue("work", "leg", "run-1", "leg:run-1:1")
            await engine.enqueue("work", "leg", "run-2", "leg:run-2:1")
            await engine.enqueue("work", "leg", "late", "late", delay_s=600)
            await until(lambda: len(seen.done) == 2)
            assert seen.done == ["leg run-1", "leg run-2"]
            assert [w.key for w in await engine.list_open() if w.key == "late"] == ["late"]
            await engine.cancel("late")
            await until(lambda: len(seen.ticks) >= 2)
            assert len(seen.ticks) == len(set(seen.ticks)), "a tick of a schedule comes once"

    asyncio.run(play())


def test_a_queue_holds_its_limits_and_takes_new_ones_while_it_runs(url: str) -> None:
    async def play() -> None:
        seen = Seen(takes_s=0.1)
        async with Engine(url, "w", perform=seen.perform, tick=seen.tick) as engine:
            await engine.start([QueueLimits("work", 1, 1, poll_s=0.05)], [])
            for n in range(4):
                await engine.enqueue("work", "leg", str(n), f"k{n}")
            await until(lambda: len(seen.done) == 4)
            assert seen.most == 1
            await engine.set_limits([QueueLimits("work", 4, poll_s=0.05)])
            for n in range(8):
                await engine.enqueue("work", "leg", str(n), f"again{n}")
            await until(lambda: len(seen.done) == 12)
            assert 1 < seen.most <= 4

    asyncio.run(play())


def test_a_piece_of_work_whose_process_was_killed_is_done_by_the_next(url: str) -> None:
    script = (
        "import asyncio, os, signal, sys\n"
        "from loop4.engine import Engine, QueueLimits\n"
        "async def perform(what, subject):\n"
        "    print('began', flush=True); await asyncio.sleep(60); return ''\n"
        "async def tick(name, at): return ''\n"
        "async def main():\n"
        "    engine = Engine(sys.argv[1], 'w', perform=perform, tick=tick)\n"
        "    await engine.start([QueueLimits('work', 8, poll_s=0.05)], [])\n"
        "    await engine.enqueue('work', 'leg', 'run-1', 'leg:1')\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "began\n"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()

    async def play() -> None:
        seen = Seen()
        async with Engine(url, "w", perform=seen.perform, tick=seen.tick) as engine:
            await engine.start([QUEUE], [])
            await until(lambda: seen.done == ["leg run-1"])

    asyncio.run(play())


def test_the_work_of_a_dead_worker_goes_to_another(url: str) -> None:
    async def play() -> None:
        held = Seen(takes_s=0.0)
        gate = asyncio.Event()

        async def stuck(what: str, subject: str) -> str:
            await gate.wait()
            return "never counted"

        dead = Engine(url, "dead", perform=stuck, tick=held.tick)
        await dead.start([QUEUE], [])
        await dead.enqueue("work", "leg", "run-1", "leg:1")
        for _ in range(200):
            if any(w.state == "PENDING" for w in await dead.list_open()):
                break
            await asyncio.sleep(0.02)
        await dead.stop(within_s=0)
        async with Engine(url, "other", perform=held.perform, tick=held.tick) as engine:
            await engine.start([QUEUE], [])
            assert await engine.resume_orphans("dead") == ("leg:1",)
            await until(lambda: held.done == ["leg run-1"])
        gate.set()

    asyncio.run(play())


@pytest.mark.parametrize(
    "place",
    [
        "sqlite:////nowhere/at/all/engine.db",
        "postgresql+psycopg://loop4:hunter2@127.0.0.1:1/loop4?connect_timeout=2",
    ],
)
def test_a_database_that_cannot_be_opened_is_one_line_without_its_password(place: str) -> None:
    async def play() -> str:
        seen = Seen()
        engine = Engine(place, "w", perform=seen.perform, tick=seen.tick)
        with pytest.raises(EngineError) as caught:
            await engine.start([QUEUE], [])
        return str(caught.value)

    told = asyncio.run(play())
    assert "cannot be opened" in told
    assert "hunter2" not in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("every_s", "expected"),
    [
        (1, "* * * * * *"),
        (2, "*/2 * * * * *"),
        (60, "0 * * * * *"),
        (300, "0 */5 * * * *"),
        (3600, "0 0 * * * *"),
        (14_400, "0 0 */4 * * *"),
        (86_400, "0 0 0 * * *"),
    ],
)
def test_what_divides_a_minute_an_hour_or_a_day_is_a_cron_expression(
    every_s: int, expected: str
) -> None:
    assert cron(every_s) == expected


@pytest.mark.parametrize("every_s", [7, 8, 90, 61, 3601, 5 * 3600, 0, -1])
def test_what_no_clock_can_tell_is_refused(every_s: int) -> None:
    with pytest.raises(EngineError, match="divide"):
        cron(every_s)


def test_limits_that_people_set_come_over_those_of_the_file() -> None:
    (limits,) = limits_from([QUEUE], {"queue.work.per_worker": 2, "queue.other.in_all": 9})
    assert (limits.per_worker, limits.in_all, limits.poll_s) == (2, 0, QUEUE.poll_s)
