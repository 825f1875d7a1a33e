"""`loop4 run` as a process: one a folder, drained by SIGTERM, and kill -9 loses nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop4.lab.duty import Duty, clients_file
from loop4.lab.folder import make_operations
from loop4.ledger import events, evidence, runs
from loop4.ledger.ledger import Ledger
from tests.api.test_front_door import EVENTS, webhook

NOBODY = "http://127.0.0.1:9"  # no Prometheus answers there: every reading is no data


@pytest.fixture
def duty(tmp_path: Path) -> Duty:
    copy = make_operations(tmp_path / "operations")
    return Duty(tmp_path, copy.root, metrics_url=NOBODY)


def started_runs(duty: Duty) -> int:
    with Ledger.open(duty.root / "data" / "ledger.db", read_only=True) as ledger:
        with ledger.read() as tx:
            return len(runs.list_open(tx)) + len(events.unassigned(tx))


def test_events_outlive_two_kills_and_a_drain_ends_with_zero(duty: Duty) -> None:
    token = clients_file(duty.operations)
    duty.start()
    try:
        second = Duty(duty.root, duty.operations, metrics_url=NOBODY)
        command = [sys.executable, "-m", "loop4.cli.main", "run", "--port", "0"]
        command += ["--data", str(second.root / "data"), "--operations", str(second.operations)]
        refused = subprocess.run(
            command,
            env={**os.environ, "LOOP4_METRICS_URL": NOBODY},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "stop it, or name another data folder" in refused.stderr
        for n, service in enumerate(("gateway", "orders", "payments")):
            body = webhook(n + 1, service=service)
            status, text = duty.call("POST", EVENTS, token, body)
            assert status == 202, text
            if n < 2:
                duty.kill()
                duty.start()
        assert json.loads(duty.call("GET", "/healthz", "")[1]) == {"status": "ok"}
        deadline = time.monotonic() + 30
        while started_runs(duty) != 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert started_runs(duty) == 1, "three alerts of services that depend on each other"
    finally:
        code = duty.stop()
    assert code == 0
    errors = (duty.root / "duty.err").read_text()
    assert "Traceback" not in errors, errors
    with Ledger.open(duty.root / "data" / "ledger.db", read_only=True) as ledger:
        with ledger.read() as tx:
            assert evidence.verify(tx).ok
            (live,) = runs.list_open(tx)
            assert len(events.of_incident(tx, live.incident_id)) == 3


def test_a_port_in_use_is_one_line_and_leaves_no_data(duty: Duty, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "loop4.cli.main", "run", "--port", port]
        command += ["--data", str(tmp_path / "data"), "--operations", str(duty.operations)]
        done = subprocess.run(
            command,
            env={**os.environ, "LOOP4_METRICS_URL": NOBODY},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_ctrl_c_drains_as_well(duty: Duty) -> None:
    duty.start()
    assert duty.process is not None
    duty.process.send_signal(signal.SIGINT)
    duty.process.communicate(timeout=30)
    assert duty.process.returncode == 0
