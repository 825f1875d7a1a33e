"""Two `loop4 worker` processes over one PostgreSQL database, on the lab: one is stopped in the
middle of an incident, the other finishes it, once.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop4.lab.duty import Duty
from loop4.lab.folder import make_operations
from loop4.lab.lab import Lab
from loop4.ledger import evidence, incidents, runs
from loop4.ledger.ledger import Ledger
from tests.postgresql import Server

pytestmark = pytest.mark.live


def until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.25)


def test_a_stopped_worker_is_overtaken_and_the_fault_is_mended_once(
    tmp_path: Path, postgresql: Server
) -> None:
    copy = make_operations(tmp_path / "operations")
    db = postgresql.url(postgresql.database())
    with Lab.start(tmp_path / "lab", 1) as lab:
        workers = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            arguments = ("worker", "--db", db, "--worker-id", name, "--port", "0", "--json")
            workers.append(
                Duty(tmp_path / name, copy.root, f"lab:{lab.connection}", arguments=arguments)
            )
        a, b = workers
        try:
            a.start()
            b.start()
            lab.inject("bad-deploy", 1, warm_up_s=5.0)

            def waiting() -> list[str]:
                status, text = b.call("GET", "/v1/approvals", copy.token)
                found = json.loads(text)["approvals"] if status == 200 else []
                return [str(r["approval_id"]) for r in found]

            until(lambda: bool(waiting()), 60, "nobody was asked")
            assert a.process is not None
            os.kill(a.process.pid, signal.SIGSTOP)
            path = f"/v1/approvals/{waiting()[0]}/votes"
            status, text = b.call("POST", path, copy.token, {"decision": "approve"})
            assert status == 200, text
            with Ledger.open(db, create=False) as ledger:

                def resolved() -> bool:
                    with ledger.read() as tx:
                        states = [i.state for i in incidents.list_all(tx)]
                        return states == ["resolved"] and not runs.list_open(tx)

                until(resolved, 90, "the other worker did not finish it")
                os.kill(a.process.pid, signal.SIGCONT)
                with ledger.read() as tx:
                    assert evidence.verify(tx).ok
            marks = [
                line["mark"]
                for line in map(json.loads, lab.effects_log.read_text("utf-8").splitlines())
                if line["mark"]
            ]
            assert len(marks) == 1
        finally:
            codes = [worker.stop() for worker in workers]
        assert codes == [0, 0], [(tmp_path / n / "duty.err").read_text() for n in ("a", "b")]
