"""`loop4 demo --model`, live: the model of the configured endpoint helps, and changes no act."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from tests.agents.model_server import Body, Say, natively, report_of, serve, text_of
from tests.lab.conftest import processes_of

LIMIT_S = 180
KEY = "sk-test-4d0c8f2b7a615e39"


def observer(body: Body) -> Say:
    """Reads the spans once, then reports what they show; repeats true sentences."""
    if "tools" not in body:
        own = [line[2:] for line in text_of(body).splitlines() if line.startswith("- ")]
        return Say(f"{own[0]} It failed 999999 requests.")
    if not any(m["role"] == "tool" for m in body["messages"]):
        return Say(calls=(("traces_spans", {"seconds_back": 60, "errors_only": "yes"}),))
    finding = {
        "evidence": ["E1"],
        "kind": "observation",
        "subject": "gateway",
        "claim": "The requests of gateway fail.",
        "confidence": 60,
    }
    return report_of(findings=[finding, {**finding, "evidence": []}])


@pytest.mark.live
def test_the_demo_asks_the_configured_model_and_acts_as_without(tmp_path: Path) -> None:
    result, folder = tmp_path / "result.json", tmp_path / "demo"
    with serve(natively(observer)) as model:
        asked = {
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": KEY,
            "LOOP4_MODEL": "watcher",
        }
        command = ["demo", "--model", "--yes", "--headless", "--scenario", "bad-deploy"]
        command += ["--json", str(result), "--folder", str(folder)]
        ran = subprocess.run(
            [sys.executable, "-m", "loop4.cli.main", *command],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env={**os.environ, **asked},
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert {body["model"] for body in model.seen} == {"watcher"}
        assert len(model.keys) > 0
    told = json.loads(result.read_text(encoding="utf-8"))
    assert [(a["tool"], a["effect"], a["outcome"]) for a in told["actions"]] == [
        ("deployments.roll_back", "require_approval", "done")
    ]
    assert told["evidence_ok"] is True
    with Ledger.open(folder / "data" / "ledger.db", read_only=True) as ledger, ledger.read() as tx:
        assert evidence.verify(tx).ok
        records = evidence.list_records(tx)
    notes = [r.body for r in records if r.kind == "model"]
    refined = [n for n in notes if str(n["task"]).startswith("refine")]
    assert refined
    assert {n["fallback"] for n in refined} == {""}
    assert any(n["dropped"] == {"finding cites no evidence": 1} for n in refined)
    page = next(r.seq for r in records if r.body.get("tool") == "oncall.page")
    assert page < min(r.seq for r in records if r.kind == "model")
    written = "".join(p.read_text(encoding="utf-8") for p in folder.rglob("*.md"))
    assert "999999" not in written
    assert KEY not in written + ran.stdout + ran.stderr + json.dumps([str(r.body) for r in records])
    assert processes_of(folder / "lab") == set()
