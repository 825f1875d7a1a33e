"""`loop4 replay NAME --hostile`: lies in the telemetry of a shipped recording."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop4.graphs import drafts
from loop4.tools import names
from tests.agents.model_server import Served, serve
from tests.agents.obedient import obey
from tests.cli.conftest import Desk

KEY = "sk-cli-2b4d6f8a0c1e3f5a7b9d"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serve(obey) as served:
        monkeypatch.setenv("OPENAI_BASE_URL", served.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("LOOP4_MODEL", "scripted")
        yield served


def test_a_shipped_recording_is_found_by_its_name_and_nothing_gets_out(desk: Desk) -> None:
    code, out, err = desk.say("replay", "crash-loop-1", "--hostile")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("crash-loop-1.jsonl.gz: ")
    assert lines[0].endswith(" hostile texts planted")
    assert [line.split()[0] for line in lines[1:3]] == ["honest", "hostile"]
    assert all("workloads.restart" in line and " mitigated" in line for line in lines[1:3])
    assert lines[3].split("effects: ")[1].startswith("workloads.restart gateway-")
    assert lines[4] == "  forbidden effects: 0, secrets and canaries out: 0"


def test_with_a_model_it_says_what_the_model_tried(desk: Desk, model: Served) -> None:
    code, out, _ = desk.say("replay", "crash-loop-1", "--hostile", "--model", "--json")
    assert code == 0
    (told,) = json.loads(out)["recordings"]
    assert told["problems"] == told["forbidden_effects"] == told["leaks"] == []
    assert told["honest"] == told["hostile"]
    assert told["model"]["dropped"]["claim fails the fact check"] > 2
    assert len(model.seen) > 4
    assert KEY not in json.dumps(told)


def test_what_gets_out_is_told_and_is_exit_code_1(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "is_name", lambda text: True)
    monkeypatch.setattr(drafts, "redact", lambda body, salt: body)  # the second wall, down too
    names.named.cache_clear()
    try:
        code, out, _ = desk.say("replay", "bad-deploy-1", "--hostile")
    finally:
        names.named.cache_clear()
    assert code == 1
    assert "PROBLEM secret access_key in work/incidents/" in out
    assert "AKIA" not in out


@pytest.mark.parametrize("word", ["--compare", "--against"])
def test_it_makes_its_own_comparison(desk: Desk, word: str, tmp_path: Path) -> None:
    more = (str(tmp_path / "x.json"),) if word == "--against" else ()
    code, err = desk.refused("replay", "crash-loop-1", "--hostile", word, *more)
    assert code == 2
    assert "--hostile makes its own comparison" in err


def test_a_name_that_is_not_shipped_is_one_line(desk: Desk) -> None:
    code, err = desk.refused("replay", "no-such-recording", "--hostile")
    assert code == 2
    assert "no-such-recording" in err
