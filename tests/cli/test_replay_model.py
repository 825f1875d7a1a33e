"""`loop4 replay --model` and `--compare`, with a scripted model on the real wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import cast

import pytest

from tests.agents.model_server import Body, Say, Served, natively, report_of, serve, tools_of
from tests.cli.conftest import Desk

KEY = "sk-cli-2b4d6f8a0c1e3f5a7b9d"
RECORDING = Path(str(files("loop4.evals") / "incidents")) / "dependency-change-5.jsonl.gz"


def finding(**changes: object) -> dict[str, object]:
    return {
        "evidence": ["E1"],
        "kind": "observation",
        "subject": "payments",
        "claim": "The requests of payments fail.",
        "confidence": 70,
        **changes,
    }


def helpful(body: Body) -> Say:
    if not tools_of(body):
        return Say("The moon fails 12 requests.")
    return report_of(findings=[finding(), finding(evidence=[]), finding(evidence=["E77"])])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serve(natively(helpful)) as served:
        monkeypatch.setenv("OPENAI_BASE_URL", served.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("LOOP4_MODEL", "scripted")
        yield served


def test_a_model_leaves_the_decisions_as_they_are_and_says_what_it_added(
    desk: Desk, model: Served
) -> None:
    bare, aided = desk.json("replay", RECORDING), desk.json("replay", RECORDING, "--model")
    assert "model" not in bare
    share = cast("dict[str, object]", aided.pop("model"))
    assert aided == bare, "the digest and every decision"
    assert share["fallbacks"] == {"no sentence passed the fact check": 3}
    assert share["uncited"] == 8
    found = cast("list[dict[str, str]]", share["findings"])
    assert {f["agent"] for f in found} >= {"incident/model", "health/model"}
    assert {f["claim"] for f in found} == {"The requests of payments fail."}
    assert share["cost_microusd"] == "unknown"
    assert KEY not in json.dumps(share)


def test_the_comparison_is_a_table_with_what_was_added_and_dropped(
    desk: Desk, model: Served
) -> None:
    code, out, err = desk.say("replay", RECORDING, RECORDING, "--compare")
    assert (code, err) == (0, "")
    assert out.count("the same severity, acts and effects") == 2
    head, without, aided, *_ = out.splitlines()
    assert head.split()[:5] == ["recording", "severity", "cause", "act", "effect"]
    for line, word in ((without, "without"), (aided, "with")):
        assert word in line.split()
        assert "SEV2" in line
        assert "deployments.roll_back payments" in line
        assert "require_approval" in line
    assert "8 of them findings without evidence" in out
    assert "incident/model: observation payments: The requests of payments fail." in out


def test_a_model_that_is_not_there_is_one_line_and_the_same_decisions(
    desk: Desk, model: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    code, out, err = desk.say("replay", RECORDING, "--compare", "--json")
    assert code == 0
    (pair,) = json.loads(out)["recordings"]
    assert pair["same"]
    assert pair["with"]["acts"] == pair["without"]["acts"] != []
    assert err.count("\n") == 1
    assert "cannot be reached; is it running?; the playbook goes on without it" in err
    assert KEY not in out + err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model",), "no model is set up; set LOOP4_MODEL"),
        (("--compare",), "no model is set up; set LOOP4_MODEL"),
        ((str(RECORDING),), "2 recordings, expected one"),
        (("--compare", "--against", "x.json"), "cannot be used together"),
    ],
    ids=["model", "compare", "several", "against"],
)
def test_what_cannot_be_done_is_one_line(
    desk: Desk, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOOP4_MODEL", raising=False)
    code, err = desk.refused("replay", RECORDING, *words)
    assert code == 2
    assert told in err


def test_a_demo_without_a_model_set_up_starts_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOOP4_MODEL", raising=False)
    code, err = desk.refused("demo", "--model", "--headless", "--yes")
    assert code == 2
    assert "no model is set up" in err
