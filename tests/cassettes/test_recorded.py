"""Real answers of a small real model, from cassettes: the decisions are those without a model, and
the twelve questions keep their right answers.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from loop4.evals.replay import Replay
from loop4.evals.with_model import Pair, table
from tests.cassettes.readable import deserialize, serialize
from tests.cassettes.stories import (
    KEY,
    NOWHERE,
    QUESTIONS,
    RECORDINGS,
    chat_story,
    planner_at,
    replay_story,
)
from tests.cassettes.tape import KEPT, RECORD, RECORDED, SYNTHETIC, tape

STALE = "a prompt is not the recorded one; record anew with tests/cassettes/record.py"
CHAT = RECORDED / "chat.json"
CASSETTES = sorted([*RECORDED.glob("*.json"), *SYNTHETIC.glob("*.json")])
SECRETS = re.compile(
    r"sk-[A-Za-z0-9_-]{8,}|(?i:bearer )\S{8,}|AKIA[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|"
    r"-----BEGIN|eyJ[A-Za-z0-9_-]{8,}\.|://[^\s/@\"]+:[^\s/@\"]+@|[\w.+-]+@[\w-]+\.[a-z]{2,}"
)


@pytest.fixture(autouse=True)
def not_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RECORD, raising=False)


def aided(name: str, root: Path) -> Replay:
    """The recording decided with the model of its cassette, all of which is played."""
    with tape(RECORDED / f"{name.removesuffix('.jsonl.gz')}.json") as played:
        replayed = asyncio.run(replay_story(name, root, planner_at(NOWHERE)))
    assert played.left == 0, STALE
    assert (played.played > 0) == bool(replayed.incidents), "in quiet times no model is asked"
    return replayed


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_model_changes_no_severity_act_or_effect(name: str, tmp_path: Path) -> None:
    without = asyncio.run(replay_story(name, tmp_path / "without", None))
    pair = Pair(name, without, aided(name, tmp_path / "aided"), 0.0, 0.0)
    assert pair.is_same
    assert (pair.share.tokens > 0) == bool(without.incidents)
    assert not any(why.startswith("raised") for why, _ in pair.share.fallbacks), pair.share
    shown = table([pair])
    assert "the same severity, acts and effects" in shown
    assert all(f.claim in shown for f in pair.share.findings)


def test_twelve_questions_are_answered_the_same_with_the_model(tmp_path: Path) -> None:
    without = asyncio.run(chat_story(tmp_path / "without", None))
    with tape(CHAT) as played:
        retold = asyncio.run(chat_story(tmp_path / "aided", planner_at(NOWHERE)))
    assert len(retold) == len(QUESTIONS) == 12
    assert played.left == 0, STALE
    assert played.played > 0
    for bare, told in zip(without, retold, strict=True):
        assert (bare.kind, bare.understood, bare.lines) == (told.kind, told.understood, told.lines)


def test_what_is_not_on_the_cassette_is_not_answered(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"version": 1, "interactions": []}), encoding="utf-8")
    with tape(path) as played:
        replayed = asyncio.run(replay_story(RECORDINGS[0], tmp_path, planner_at(NOWHERE)))
    assert played.played == 0
    assert replayed.model is not None
    assert all(why.startswith("raised CannotOverwrite") for why, _ in replayed.model.fallbacks)
    assert replayed.incidents, "without its answers the playbook decides"


@pytest.mark.parametrize("path", CASSETTES, ids=lambda p: p.stem)
def test_no_cassette_holds_a_secret_or_a_header_that_is_not_on_the_list(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert KEY not in text
    assert SECRETS.search(text) is None
    assert not re.search(r'"/(?!v1/)[\w.-]+/', text), "a path of the machine it was recorded on"
    assert not re.search("authori[sz]ation|api[_-]key", text, re.IGNORECASE)
    for interaction in json.loads(text)["interactions"]:
        assert SECRETS.search(said(interaction["response"])) is None
        for side in (interaction["request"], interaction["response"]):
            assert {k.lower() for k in side.get("headers", {})} <= KEPT


def said(response: dict[str, list[object]]) -> str:
    """A streamed answer in one piece: a secret may lie across events."""
    return "".join(
        str(e["+"]) for e in response.get("events", []) if isinstance(e, dict) and "+" in e
    )


def test_the_search_for_secrets_finds_them() -> None:
    for secret in (KEY, "AKIA0123456789ABCDEF", "https://a:b@c.example", "mira@example.org"):
        assert SECRETS.search(f'"content": "it is {secret}"')


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda p: p.stem)
def test_a_cassette_is_the_same_after_reading_and_writing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert serialize(deserialize(text)) == text
