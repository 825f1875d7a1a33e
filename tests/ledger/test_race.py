"""Four processes race for the same approvals and budgets: as many effects as were allowed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from loop4.domain import Approval, ApprovalState, IntentState
from loop4.ledger import approvals, evidence, intents
from loop4.ledger.ledger import Ledger
from tests.ledger.racers import APPROVALS, BUDGET, NOW_MS, SERVICES
from tests.postgresql import Server

RACERS = Path(__file__).with_name("racers.py")
PROCESSES = 4
OPEN = 10  # of them nobody approved: no effect for those, and 200 for the others


def asked(number: int) -> Approval:
    return Approval(
        approval_id=f"ap-{number}",
        action_id=f"act-of-ap-{number}",
        action_digest="digest",
        policy_version="policy",
        state=ApprovalState.PENDING,
        requester="remediation",
        role="on-call",
        need=1,
        requested_ms=1,
        expires_ms=NOW_MS + 1,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "ledger.db"
    server: Server = request.getfixturevalue("postgresql")
    return server.url(server.database())


def test_four_processes_that_race_have_as_many_effects_as_were_allowed(
    place: Path | str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects.log"
    with Ledger.open(place) as ledger, ledger.transaction() as tx:
        for number in range(APPROVALS):
            approvals.request(tx, asked(number), incident_id="", run_id="", payload={})
            if number >= OPEN:
                approvals.vote(tx, f"ap-{number}", "dana", ["on-call"], True, 2)
    run_together(place, effects)
    lines = [line.split() for line in effects.read_text().splitlines()]
    approved = [words[0] for words in lines if len(words) == 1]
    restarted = Counter(words[1] for words in lines if len(words) == 2)
    assert sorted(approved) == sorted(f"act-of-ap-{n}" for n in range(OPEN, APPROVALS))
    assert restarted == {f"restarts/service-{number}": BUDGET for number in range(SERVICES)}
    with Ledger.open(place) as ledger, ledger.read() as tx:
        states = Counter(known.approval.state for known in approvals.list_all(tx))
        assert states[ApprovalState.CONSUMED] == APPROVALS - OPEN
        assert {intent.state for intent in intents.list_all(tx)} == {IntentState.DONE}
        assert len(intents.list_all(tx)) == len(lines)
        assert len(evidence.list_records(tx, kinds={"decision"})) == len(lines)
        assert evidence.verify(tx).ok


def run_together(place: Path | str, effects: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, str(RACERS), str(place), str(effects), f"racer-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for racer in racers:
            racer.communicate(timeout=60)
            assert racer.returncode == 0
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
