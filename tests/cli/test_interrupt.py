"""Ctrl-C and SIGTERM at any moment of a demo: it ends, with every process that it started."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.conftest import processes_of, wait_for

PATIENCE_S = 40.0


def demo(folder: Path) -> subprocess.Popen[str]:
    words = ["demo", "--headless", "--scenario", "quiet", "--folder", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "loop4.cli.main", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_line(process: subprocess.Popen[str], word: str) -> None:
    """Read its output until a line holds the word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"the demo ended before it said {word!r}")


def ended(process: subprocess.Popen[str], number: signal.Signals, lab: Path) -> None:
    """Send the signal to the demo alone; nothing of the lab is left when it is gone."""
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE_S)
    left = processes_of(lab)
    assert left == set()
    assert (process.returncode, err) == (130, "")


@pytest.mark.live
@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "start"), (signal.SIGTERM, "run")])
def test_an_interrupted_demo_leaves_no_process(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    folder, lab = tmp_path / "demo", tmp_path / "demo" / "lab"
    pause_s = random.uniform(0.0, 2.0)  # noqa: S311  (any moment will do)
    with demo(folder) as process:
        try:
            if moment == "start":
                wait_for_line(process, "starting the lab")
                wait_for(lambda: bool(processes_of(lab)), PATIENCE_S)
            else:
                wait_for_line(process, "scenario quiet")
            time.sleep(pause_s)  # not waiting for anything: this is the random moment
            ended(process, number, lab)
        finally:
            process.kill()


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_is_an_interrupt_even_where_a_shell_ignores_those(ignored: bool) -> None:
    program = (
        "import asyncio, os, signal, sys\nfrom loop4.cli.termination import terminable\n"
        "async def work():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "try:\n"
        "    with terminable():\n"
        "        asyncio.run(work())\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    if ignored:
        program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + program
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "")
