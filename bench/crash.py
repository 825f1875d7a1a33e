"""kill -9 at each point of no return, on both databases, with one worker and with two.

    python bench/crash.py [--repeat N] [--points a,b] [--databases sqlite,postgresql]
                          [--workers 1,2] [--folder DIR] [--json]

Each cell is one incident of its own: the workers are real processes of the real command line
(`loop4 run`, `loop4 worker`) over the real engine, the vote comes over HTTP, and one process is
killed with SIGKILL at the point. One worker: it is started again. Two on PostgreSQL: the other goes
on. Two on SQLite: the second, which was refused while the first lived, takes over. The effect is
counted in the log of the target, which is a process that outlives them all. A cell holds with
exactly one effect, the incident resolved, nothing left open and a whole chain of evidence.

Beside the matrix: `ledger_alone` also deletes the engine's and the checkpoints' databases in the
middle of the incident; in `in_the_call` the worker dies while the target still works on its call.
Without --databases PostgreSQL is left out where its server is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.crash_cells import (  # noqa: E402
    BESIDE,
    POINTS,
    Cell,
    Outcome,
    play,
    wipe_files,
)
from loop4.domain import Json  # noqa: E402
from tests.postgresql import INSTALL, Server, binaries, prepare, remove  # noqa: E402

DATABASES = ("sqlite", "postgresql")
WORKERS = ("1", "2")
WIPE = "DROP SCHEMA dbos, loop4_graph CASCADE"
WIDTH = 16


def main() -> int:
    """Play the matrix; 0 when every cell has exactly one effect and nothing is lost."""
    parser = argparse.ArgumentParser(description="kill -9 at each point of no return")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--points", help=f"of {', '.join((*POINTS, *BESIDE))}")
    parser.add_argument("--databases", help=f"of {', '.join(DATABASES)}")
    parser.add_argument("--workers", help="of 1, 2")
    parser.add_argument("--at-once", type=int, default=2, help="cells that are played together")
    parser.add_argument("--folder", type=Path, help="work here and keep everything")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    points = _chosen(parser, given.points, (*POINTS, *BESIDE))
    databases = _chosen(parser, given.databases, DATABASES)
    if "postgresql" in databases and binaries() is None:
        if given.databases:
            parser.error(INSTALL)
        print(f"only SQLite is tried: {INSTALL}", file=sys.stderr)
        databases = ["sqlite"]
    cells = cells_of(points, databases, _chosen(parser, given.workers, WORKERS))
    report = run(cells, given.repeat, given.at_once, given.folder, say=not given.json)
    if given.json:
        print(json.dumps(report, indent=2))
    return 0 if report["holds"] else 1


def _chosen(parser: argparse.ArgumentParser, text: str | None, known: Sequence[str]) -> list[str]:
    names = text.split(",") if text else list(known)
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is not known; expected {', '.join(known)}")
    return names


def cells_of(
    points: Sequence[str], databases: Sequence[str], workers: Sequence[str]
) -> tuple[Cell, ...]:
    """The cells in reading order; the rows beside the matrix need no second worker."""
    return tuple(
        Cell(point, database, int(count))
        for point in points
        for database in databases
        for count in (workers if point in POINTS else workers[:1])
    )


def run(
    cells: Sequence[Cell], repeat: int, at_once: int, folder: Path | None, *, say: bool
) -> dict[str, Json]:
    """Play every cell so many times; the report. A cell mostly waits: some are played at once."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="loop4-crash-") as temporary,
        _server(needed=any(c.database == "postgresql" for c in cells)) as server,
    ):
        root = folder.resolve() if folder else Path(temporary)
        if say:
            print(_row("point", "database", "workers", "effects", "incident", "died after", "took"))
        wanted = [(root / f"{n + 1}-{cell.name}", cell) for n in range(repeat) for cell in cells]
        with ThreadPoolExecutor(at_once) as pool:
            for outcome in pool.map(lambda one: _cell(one[0], one[1], server), wanted):
                outcomes.append(outcome)
                if say:
                    print(_line(outcome), flush=True)
    report = _report(outcomes, time.monotonic() - began)
    if say:
        print(_summary(report, outcomes))
    return report


def _report(outcomes: Sequence[Outcome], took_s: float) -> dict[str, Json]:
    matrix = [o for o in outcomes if o.cell.point in POINTS]
    beside = [o for o in outcomes if o.cell.point not in POINTS]
    return {
        **_counts(matrix),
        "beside": _counts(beside),
        "holds": all(o.is_exactly_one for o in outcomes),
        "took_s": round(took_s, 1),
        "rows": [o.to_json() for o in outcomes],
    }


def _counts(outcomes: Sequence[Outcome]) -> dict[str, Json]:
    return {
        "cells": len(outcomes),
        "exactly_one": sum(o.is_exactly_one for o in outcomes),
        "lost": sum(o.is_lost for o in outcomes),
        "doubled": sum(o.effects > 1 for o in outcomes),
    }


def _cell(root: Path, cell: Cell, server: Server | None) -> Outcome:
    if cell.database == "sqlite":
        return play(root, cell, "", lambda: wipe_files(root / "a" / "data"))
    if server is None:
        raise RuntimeError(INSTALL)
    name = server.database("ready")
    return play(root, cell, server.url(name), lambda: _wipe(server, name))


def _wipe(server: Server, name: str) -> None:
    server.sql(WIPE, name)


@contextmanager
def _server(*, needed: bool) -> Iterator[Server | None]:
    """A throw-away server with empty tables to copy from."""
    folder = binaries()
    if not needed or folder is None:
        yield None
        return
    server = Server(Path(tempfile.mkdtemp(prefix="loop4-pg-")), folder)
    server.make()
    try:
        server.start()
        prepare(server)
        yield server
    finally:
        remove(server)


def _row(*words: str) -> str:
    return "".join(word.ljust(WIDTH) for word in words).rstrip()


def _line(outcome: Outcome) -> str:
    cell = outcome.cell
    told = _row(
        cell.point,
        cell.database,
        str(cell.workers),
        str(outcome.effects),
        outcome.incident,
        f"{outcome.death_s:.1f} s",
        f"{outcome.took_s:.1f} s",
    )
    return told if outcome.is_exactly_one else f"{told}  WRONG: {'; '.join(outcome.problems)}"


def _summary(report: Mapping[str, Json], outcomes: Sequence[Outcome]) -> str:
    """How many of each cell's repetitions hold, and the sums."""
    columns = sorted({(o.cell.database, o.cell.workers) for o in outcomes}, reverse=True)
    lines = ["", _row("held of tried", *(f"{name} {count}" for name, count in columns))]
    for point in dict.fromkeys(o.cell.point for o in outcomes):
        held = []
        for column in columns:
            of = [
                o
                for o in outcomes
                if o.cell.point == point and (o.cell.database, o.cell.workers) == column
            ]
            held.append(f"{sum(o.is_exactly_one for o in of)} of {len(of)}" if of else "-")
        lines.append(_row(point, *held))
    beside = cast("Mapping[str, Json]", report["beside"])
    lines.append(
        f"{report['exactly_one']} of {report['cells']} cells with exactly one effect, "
        f"{report['lost']} lost, {report['doubled']} doubled; beside the matrix "
        f"{beside['exactly_one']} of {beside['cells']}; {report['took_s']} s"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
