from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from loop4.errors import LedgerError, RunnerBusy
from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner import RunnerLock

Start: TypeAlias = "Callable[..., subprocess.Popen[str]]"


def test_a_second_runner_is_refused_while_the_first_lives_and_takes_over_after_its_death(
    tmp_path: Path, start: Start
) -> None:
    first = start("hold", tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    with pytest.raises(RunnerBusy, match=f"process {first.pid} runs ") as caught:
        RunnerLock(tmp_path).acquire()
    assert str(tmp_path / "runner.lock") in str(caught.value)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with RunnerLock(tmp_path):
        assert (tmp_path / "runner.lock").read_text() == f"{os.getpid()}\n"


def test_readers_and_voters_work_beside_a_runner(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with RunnerLock(tmp_path), Ledger.open(path) as runner, runner.read() as reading:
        assert evidence.verify(reading).records == 0
        with Ledger.open(path) as voter, voter.transaction() as tx:
            evidence.append(tx, "vote", "", "", {}, at_ms=1)
        with Ledger.open(path, read_only=True) as reader, reader.read() as tx:
            assert evidence.verify(tx).records == 1
        assert evidence.verify(reading).records == 0  # a read is one snapshot


def test_a_runner_that_ended_frees_the_folder_and_the_same_object_cannot_run_twice(
    tmp_path: Path,
) -> None:
    lock = RunnerLock(tmp_path)
    for _ in range(2):
        with lock:
            with pytest.raises(RunnerBusy, match="this process runs"):
                lock.acquire()
            with pytest.raises(RunnerBusy, match=f"process {os.getpid()} runs"):
                RunnerLock(tmp_path).acquire()
    lock.release()


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened: No such file or directory; name a"):
        RunnerLock(tmp_path / "nowhere").acquire()
