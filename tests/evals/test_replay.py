"""Recorded incidents decided again: the right answers, the same bytes, no socket, and one
verdict at a time.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socket
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from loop4.canonical import canonical_bytes
from loop4.evals.incidents import decided_in_replay, problems, truths
from loop4.evals.replay import Comparison, Replay, compare, replay
from loop4.lab.folder import make_operations
from loop4.lab.scenarios import Plan
from loop4.tools.backends.recording import Recording, edit_samples
from loop4.tools.backends.recording_file import read_recording

INCIDENTS = Path(str(files("loop4.evals") / "incidents"))
RULES = Path(str(files("loop4.policies") / "rules"))
CASES = truths()
WIDE = "dependency-change-5.jsonl.gz"  # recorded with the guilty version at a weight of 2,600 bp


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Any attempt to connect fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    return iter((None,))


def replayed(recording: Recording, folder: Path, rules: Path | None = None) -> Replay:
    copy = make_operations(folder / "operations")
    return asyncio.run(replay(recording, operations=copy.root, data=folder / "data", rules=rules))


@cache
def recording_of(name: str) -> Recording:
    return read_recording(INCIDENTS / name)


@pytest.mark.parametrize(("name", "plan"), CASES, ids=[name for name, _ in CASES])
def test_each_recorded_incident_is_decided_rightly(name: str, plan: Plan, tmp_path: Path) -> None:
    decided = decided_in_replay(replayed(recording_of(name), tmp_path))
    assert problems(plan, decided) == ()


def test_two_replays_give_the_same_bytes_without_a_socket(tmp_path: Path, no_sockets: None) -> None:
    first = replayed(recording_of(WIDE), tmp_path / "first")
    second = replayed(recording_of(WIDE), tmp_path / "second")
    assert canonical_bytes(first.to_json()) == canonical_bytes(second.to_json())


def test_a_replay_prints_nothing_that_the_recording_does_not_determine(tmp_path: Path) -> None:
    text = json.dumps(replayed(recording_of(WIDE), tmp_path).to_json())
    assert str(tmp_path) not in text
    for word in ("trace_id", "permit", "nonce", "mac", "run_id"):
        assert f'"{word}"' not in text


@pytest.mark.parametrize("name", [name for name, _ in CASES])
def test_recordings_hold_no_judgement(name: str) -> None:
    forbidden = {"severity", "cause", "proposal", "verdict", "effect", "finding", "scenario"}
    with gzip.open(INCIDENTS / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            assert not forbidden & keys_of(json.loads(line))


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {k for v in value.values() for k in keys_of(v)}
    if isinstance(value, list):
        return {k for v in value for k in keys_of(v)}
    return set()


def test_a_smaller_share_in_the_samples_changes_that_verdict_alone(tmp_path: Path) -> None:
    recording = recording_of(WIDE)
    before = replayed(recording, tmp_path / "before")
    narrow = edit_samples(
        recording,
        "router_weight_bp",
        {"service": "payments", "version": guilty_version(recording)},
        lambda _, value: 2_400.0 if value == 2_600.0 else value,
    )
    compared = compare(before.decisions, replayed(narrow, tmp_path / "after").decisions)
    assert_only_the_rollback_changed(compared)
    facts = compared.changed[0]["facts"]
    assert facts == {"traffic_share_bp": {"was": 2_600, "is": 2_400}}


def test_a_higher_limit_in_the_rules_changes_that_verdict_alone(tmp_path: Path) -> None:
    recording = recording_of(WIDE)
    before = replayed(recording, tmp_path / "before")
    shutil.copytree(RULES, tmp_path / "rules")
    for file in (tmp_path / "rules").glob("*.yaml"):
        if file.name.endswith("_test.yaml"):
            file.unlink()
        else:
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace("traffic_share_bp > 2500", "traffic_share_bp > 2700"))
    after = replayed(recording, tmp_path / "after", tmp_path / "rules")
    compared = compare(before.decisions, after.decisions)
    assert_only_the_rollback_changed(compared)
    assert compared.changed[0]["facts"] == {}


def assert_only_the_rollback_changed(compared: Comparison) -> None:
    assert [(c["tool"], c["target"], c["was"], c["is"]) for c in compared.changed] == [
        ("deployments.roll_back", "payments", "require_approval", "allow")
    ]


def guilty_version(recording: Recording) -> str:
    weights = [
        dict(s.labels)
        for s in recording.series
        if dict(s.labels).get("__name__") == "router_weight_bp" and 2_600.0 in s.values
    ]
    return next(w["version"] for w in weights if w["service"] == "payments")
