"""Hand-made cassettes for what the small real model does not say: each through the real adapter,
and each leaves the playbook's report standing.

A time-out is not on a cassette, since a cassette answers: a silent server is in
`tests/agents/planner/test_bad_endpoint.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loop4.agents.planner.endpoint import ModelSettings
from loop4.agents.planner.model_planner import ModelPlanner
from loop4.settings import Secret
from tests.agents.conftest import Case, make_case, refine
from tests.cassettes.tape import SYNTHETIC, tape

KEY = "sk-synthetic-1f2e3d4c5b6a79880716"
HELPS = {"native-calls": 1, "parallel-calls": 2, "rate-limit": 0, "lying-usage": 0}  # reads
FAILS = {
    "refusal": "it was empty",
    "malformed-json": "expected an object",
    "unknown-tool": "there is no tool 'workloads_delete'",
    "empty-answer": "it was empty",
    "server-error": "failed (500)",
    "gateway-timeout": "failed (504)",
    "cut-stream": "cut in the middle",
}


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case()


def planner() -> ModelPlanner:
    return ModelPlanner(
        ModelSettings("synthetic", "http://127.0.0.1:9/v1", Secret(KEY), max_retries=1)
    )


def test_each_is_labelled_and_tried() -> None:
    assert {p.stem for p in SYNTHETIC.glob("*.json")} == {*HELPS, *FAILS}
    for path in SYNTHETIC.glob("*.json"):
        body = json.loads(path.read_text(encoding="utf-8"))
        assert "made by hand" in body["synthetic"]
        assert body["what"]


@pytest.mark.parametrize("name", HELPS)
def test_what_the_model_says_rightly_is_added(name: str, case: Case) -> None:
    with tape(SYNTHETIC / f"{name}.json", any_body=True) as played:
        before, refined = refine(planner(), case)
    assert played.left == 0
    assert refined.note is not None
    assert (refined.note.fallback, refined.note.rung) == ("", "native")
    assert refined.note.calls == HELPS[name]
    assert refined.note.added["findings"] == 1
    assert refined.report.findings[: len(before.findings)] == before.findings
    assert refined.note.usage.is_doubtful is (name == "lying-usage")
    assert refined.note.usage.prompt_tokens >= 900


@pytest.mark.parametrize("name", FAILS)
def test_what_cannot_be_used_leaves_the_playbook_standing(name: str, case: Case) -> None:
    with tape(SYNTHETIC / f"{name}.json", any_body=True) as played:
        before, refined = refine(planner(), case)
    assert played.left == 0
    assert refined.report == before
    assert refined.note is not None
    assert FAILS[name] in refined.note.fallback
    assert "\n" not in refined.note.fallback
    assert KEY not in json.dumps(refined.note.to_json())


def test_playing_changes_no_cassette(case: Case, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes((SYNTHETIC / "refusal.json").read_bytes())
    with tape(copy, any_body=True) as played:
        pass
    assert played.left == 3
    assert copy.read_bytes() == (SYNTHETIC / "refusal.json").read_bytes()
