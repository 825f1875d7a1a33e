"""The newcomer's command, live: a bad deploy mended with an approval, then a replica restarted
alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from tests.lab.conftest import processes_of

LIMIT_S = 180


@pytest.mark.live
def test_the_demo_mends_two_faults_and_denies_what_was_never_recorded(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    folder = tmp_path / "demo"
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "loop4.cli.main",
            "demo",
            "--yes",
            "--headless",
            "--json",
            str(result),
            "--folder",
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(result.read_text(encoding="utf-8"))
    then = told["then"][0]

    assert told["scenario"] == "bad-deploy"
    assert told["severity"] in ("SEV1", "SEV2")
    assert told["cause"].startswith("guilty_change:")
    assert [(a["tool"], a["effect"], a["outcome"]) for a in told["actions"]] == [
        ("deployments.roll_back", "require_approval", "done")
    ]
    assert told["actions"][0]["approved_by"]
    assert [d["tool"] for d in told["denied"]] == ["deployments.deploy"]
    assert "unrecorded-artefact" in told["denied"][0]["rules"]
    assert told["detected_s"] < 15
    assert told["verified_s"] < 60

    assert (then["scenario"], then["severity"]) == ("crash-loop", "SEV3")
    assert [(a["tool"], a["effect"], a["approved_by"]) for a in then["actions"]] == [
        ("workloads.restart", "allow", "")
    ]

    written = [Path(p) for p in (*told["paths"]["postmortem"], *told["paths"]["signal"])]
    assert len(written) >= 2
    assert all(p.is_relative_to(folder) and p.read_text(encoding="utf-8") for p in written)
    with Ledger.open(folder / "data" / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        assert evidence.verify(tx).ok
    assert told["evidence_ok"] is True
    assert processes_of(folder / "lab") == set()
