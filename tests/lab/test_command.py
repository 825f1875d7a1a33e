"""`loop4 lab` as a person uses it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.lab.processes import bound_socket
from tests.lab.conftest import processes_of, wait_for


def test_scenarios_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "scenarios", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in rows]
    assert names == ["bad-deploy", "crash-loop", "dependency-down", "dependency-change", "quiet"]
    assert all(row["description"] and row["steps"] for row in rows)


def test_a_scenario_for_no_lab_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "inject", "quiet", "--dir", str(tmp_path)]) == 1
    assert "no lab runs in" in capsys.readouterr().err


def test_an_unknown_scenario_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "inject", "quite", "--dir", str(tmp_path)]) == 2
    assert "there is no scenario 'quite'" in capsys.readouterr().err


def test_a_busy_port_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with bound_socket() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["lab", "up", "--dir", str(tmp_path), "--port", str(port)]) == 1
    assert f"port {port} is taken" in capsys.readouterr().err


@pytest.mark.live
def test_up_runs_until_it_is_told_to_end(tmp_path: Path) -> None:
    code = "from loop4.cli.main import main; raise SystemExit(main())"
    arguments = ["lab", "up", "--json", "--dir", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, start_new_session=True
    )
    with running:
        assert running.stdout is not None
        found = json.loads(running.stdout.readline())
        assert Path(found["lab"]) == tmp_path / "lab.json"
        assert main(["lab", "inject", "quiet", "--dir", str(tmp_path)]) == 0
        log = tmp_path / "injector.jsonl"
        wait_for(lambda: '"done"' in log.read_text("utf-8"), 20)
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 130
    assert processes_of(tmp_path) == set()
