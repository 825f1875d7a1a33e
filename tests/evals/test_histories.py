"""Recorded courses of several faults in one lab: what came before must not mislead what comes now.

`outage-after-rollback`: a canary of payments, a bad version over it that the fleet rolled back, a
second canary, and then an outage of the bank. The canary that the rollback left alone had done well
for two minutes.

`five-faults`: a crash loop, a bad bank configuration, an outage of the bank, a bad deploy of
payments and another outage, 40 s after each other.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import pytest

from loop4.evals.replay import Replay, replay
from loop4.lab.folder import make_operations
from loop4.tools.backends.recording import Recording, edit_samples
from loop4.tools.backends.recording_file import read_recording

HISTORIES = Path(__file__).parent / "histories"
OUTAGE_MS = 1_795_603_365_253  # by the injector's log of that course


@cache
def recorded(name: str) -> Recording:
    return read_recording(HISTORIES / f"{name}.jsonl.gz")


def with_lucky_probes(lucky_s: int) -> Recording:
    """The same course in which the bank answers every probe of the outage's first seconds."""
    until_ms = OUTAGE_MS + lucky_s * 1000

    def lucky(at_ms: int, value: float) -> float:
        return 1.0 if OUTAGE_MS - 1_000 <= at_ms < until_ms else value

    return edit_samples(
        recorded("outage-after-rollback"), "probe_success", {"dependency": "bank"}, lucky
    )


def replayed(recording: Recording, folder: Path) -> Replay:
    copy = make_operations(folder / "operations")
    return asyncio.run(replay(recording, operations=copy.root, data=folder / "data"))


@pytest.mark.parametrize("lucky_s", [0, 2, 6, 20, 60])
def test_an_outage_after_a_rollback_is_the_banks_however_late_its_probes_see_it(
    lucky_s: int, tmp_path: Path
) -> None:
    decided = replayed(with_lucky_probes(lucky_s), tmp_path)
    assert [i["cause"] for i in decided.incidents] == [
        "guilty_change:payments",
        "external_dependency:bank",
    ]
    assert {i["state"] for i in decided.incidents} == {"resolved"}
    writes = [d for d in decided.decisions if d["tool"] == "deployments.roll_back"]
    assert {d["target"] for d in writes} == {"payments"}
    assert len({str(d["arguments"]) for d in writes}) == 1  # the one of the bad version
    told = {o["tool"] for o in decided.outcomes}
    assert {"oncall.page", "incidents.draft_customer_update"} <= told


def test_each_of_five_faults_in_one_lab_has_its_own_cause(tmp_path: Path) -> None:
    decided = replayed(recorded("five-faults"), tmp_path)
    assert [(i["cause"], i["state"]) for i in decided.incidents] == [
        ("instance_fault:orders-1", "resolved"),
        ("guilty_change:payments", "resolved"),
        ("external_dependency:bank", "resolved"),
        ("guilty_change:payments", "resolved"),
        ("external_dependency:bank", "resolved"),
    ]
    back = [d for d in decided.decisions if d["tool"] == "deployments.roll_back"]
    assert len({str(d["arguments"]) for d in back}) == 1  # the canary under both bad versions
