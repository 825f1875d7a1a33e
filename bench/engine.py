"""The durable engine: how soon enqueued work starts, and what an idle worker costs.

    python bench/engine.py [--jobs 300] [--idle-s 20] [--postgresql URL] [--json]

Work is enqueued one by one while a worker of its own process runs; `start_ms` is from the promise
to the first line of the work. `idle_share` is the processor time of that worker while nothing is
due but the housekeeping of the shipped fleet.yaml, as a share of one core. Without a URL a
throw-away PostgreSQL server is started, where Debian's package is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loop4.domain import Json
from loop4.engine import Engine, QueueLimits, Schedule
from loop4.policies.fleet_schedule import load_fleet_schedule
from loop4.service import SWEEPS, poll_s

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"p99_ms": 500.0, "idle_share": 0.10}
PACE_S = 0.02


def main() -> int:
    """Measure both databases; 0 when PostgreSQL holds the limits and no idle worker is busy."""
    parser = argparse.ArgumentParser(description="the durable engine")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--postgresql", default="")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.worker:
        asyncio.run(_worker(given.worker))
        return 0
    rows: list[dict[str, Json]] = []
    with tempfile.TemporaryDirectory(prefix="loop4-bench-") as folder:
        path = Path(folder) / "engine.db"
        rows.append(_measure("sqlite", f"sqlite:///{path}", given.jobs, given.idle_s))
    with _postgresql(given.postgresql) as url:
        if url:
            rows.append(_measure("postgresql", url, given.jobs, given.idle_s))
    holds = all(_holds(row) for row in rows)
    if given.json:
        print(json.dumps({"rows": rows, "limits": LIMITS, "holds": holds}, indent=2))
    else:
        for row in rows:
            print(
                f"{row['database']!s:<11} enqueue to start p50 {row['p50_ms']} ms, "
                f"p99 {row['p99_ms']} ms ({row['jobs']} jobs); idle worker {row['idle_share']} "
                "of a core"
            )
    return 0 if holds else 1


def _holds(row: dict[str, Json]) -> bool:
    p99, idle = row["p99_ms"], row["idle_share"]
    is_fast = isinstance(p99, float) and p99 < LIMITS["p99_ms"]
    is_calm = isinstance(idle, float) and idle < LIMITS["idle_share"]
    return is_calm and (is_fast or row["database"] != "postgresql")


def _measure(database: str, url: str, jobs: int, idle_s: float) -> dict[str, Json]:
    child = subprocess.Popen(
        [sys.executable, __file__, "--worker", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the worker has no pipes")
    try:
        if child.stdout.readline().strip() != "ready":
            raise RuntimeError("the worker did not start")
        time.sleep(3.0)  # its first looks are over
        before, began = _cpu_s(child.pid), time.monotonic()
        time.sleep(idle_s)
        idle = (_cpu_s(child.pid) - before) / (time.monotonic() - began)
        print(jobs, file=child.stdin, flush=True)
        took_ms = sorted(float(x) for x in json.loads(child.stdout.readline()))
    finally:
        child.kill()
        child.communicate()
    return {
        "database": database,
        "jobs": len(took_ms),
        "p50_ms": round(statistics.median(took_ms), 1),
        "p99_ms": round(took_ms[int(len(took_ms) * 0.99)], 1),
        "idle_share": round(idle, 3),
    }


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _worker(url: str) -> None:
    """An engine with the shipped schedules, whose work is to note when it began."""
    promised: dict[str, float] = {}
    began: asyncio.Queue[float] = asyncio.Queue()

    async def perform(what: str, subject: str) -> str:
        began.put_nowait((time.monotonic() - promised[subject]) * 1000)
        return what

    async def tick(name: str, at_ms: int) -> str:
        return name

    schedule = load_fleet_schedule(Path(), sweeping=tuple(SWEEPS))
    queues = [QueueLimits(q.name, q.per_worker, poll_s=poll_s(q.name)) for q in schedule.queues]
    duties = [Schedule(d.name, d.every_s, "housekeeping") for d in schedule.duties]
    async with Engine(url, "bench", perform=perform, tick=tick) as engine:
        await engine.start(queues, duties)
        print("ready", flush=True)
        jobs = int(await asyncio.to_thread(sys.stdin.readline) or 0)
        for n in range(jobs):
            promised[str(n)] = time.monotonic()
            await engine.enqueue("runs", "leg", str(n), f"leg:{n}")
            await asyncio.sleep(PACE_S)
        print(json.dumps([await began.get() for _ in range(jobs)]), flush=True)
        await asyncio.sleep(60)


@contextmanager
def _postgresql(url: str) -> Iterator[str]:
    """The URL that is given, or that of a throw-away server; empty where none can be had."""
    if url:
        yield url
        return
    sys.path.insert(0, str(ROOT))
    from tests.postgresql import Server, binaries, remove

    folder = binaries()
    if folder is None:
        print("PostgreSQL's server is not installed; only SQLite is measured", file=sys.stderr)
        yield ""
        return
    server = Server(Path(tempfile.mkdtemp(prefix="loop4-pg-")), folder)
    server.make()
    try:
        server.start()
        server.sql("CREATE DATABASE bench TEMPLATE template0")
        yield server.url("bench")
    finally:
        remove(server)


if __name__ == "__main__":
    sys.exit(main())
