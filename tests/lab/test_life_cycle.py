"""The lab's processes begin and end with it, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop4.errors import LabError
from loop4.lab.lab import Lab
from loop4.lab.processes import bound_socket
from tests.lab.conftest import processes_of, wait_for

pytestmark = pytest.mark.live

HOLD = (
    "import sys, time; from pathlib import Path; from loop4.lab.lab import Lab\n"
    "with Lab.start(Path(sys.argv[1])):\n"
    "    print('up', flush=True)\n"
    "    time.sleep(60)\n"
)


def test_stop_leaves_no_process_even_when_the_block_fails(tmp_path: Path) -> None:
    def fail_inside() -> None:
        with Lab.start(tmp_path):
            seen = processes_of(tmp_path)
            assert len(seen) == 15
            with pytest.raises(LabError, match="a lab is running in"):
                Lab.start(tmp_path)
            assert processes_of(tmp_path) == seen
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert processes_of(tmp_path) == set()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_death_of_the_parent_leaves_no_process(tmp_path: Path, ending: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert len(processes_of(tmp_path)) == 15
        os.kill(parent.pid, ending)
        parent.wait(10)
        wait_for(lambda: not processes_of(tmp_path), 5)


def test_a_busy_port_is_one_clear_error_and_starts_nothing(tmp_path: Path) -> None:
    with bound_socket() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError, match=rf"^port {port} is taken"):
            Lab.start(tmp_path, port=port)
    assert processes_of(tmp_path) == set()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match="cannot use"):
        Lab.start(tmp_path / "file" / "lab")
