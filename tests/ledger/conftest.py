from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from loop4.ledger.ledger import Ledger

WORKERS = Path(__file__).with_name("workers.py")


@pytest.fixture
def ledger(place: Path | str) -> Iterator[Ledger]:
    with Ledger.open(place) as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `workers.py` in a process of its own that waits, ready, for a line on stdin."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(WORKERS), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def race(
    start: Callable[..., subprocess.Popen[str]],
) -> Callable[[Sequence[Sequence[object]]], list[list[str]]]:
    """Runs several workers, lets them go at the same moment, and returns the words they printed."""

    def run(calls: Sequence[Sequence[object]]) -> list[list[str]]:
        workers = [start(*call) for call in calls]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        words = []
        for worker in workers:
            out, _ = worker.communicate(timeout=20)
            assert worker.returncode == 0
            words.append(out.split())
        return words

    return run
