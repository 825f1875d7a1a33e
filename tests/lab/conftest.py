"""One running lab for the tests that only look, and the tools to wait for a condition."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from loop4.lab.lab import Lab
from loop4.tools.backends.lab import LabConnection


def processes_of(directory: Path) -> set[int]:
    """Process ids whose command line names the lab's folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(directory).encode() in command and b"-m" in command:
                found.add(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail the test after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {within_s} s"
        time.sleep(0.05)


async def wait_until(condition: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    """As `wait_for`, for a coroutine function."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"not so within {within_s} s"
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of its own for one test module."""
    with Lab.start(tmp_path_factory.mktemp("lab"), seed=7) as running:
        yield running


@pytest.fixture
def connection(lab: Lab) -> LabConnection:
    """The outsider's way into the lab."""
    return LabConnection.read(lab.connection)
