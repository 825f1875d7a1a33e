"""Bad input through the real command line: one line, code 1 or 2, no traceback, nothing
half-written, the ledger as it was.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.domain import Approval, ApprovalState
from loop4.lab.folder import make_operations
from loop4.ledger import approvals
from loop4.ledger.ledger import Ledger
from loop4.ledger.runner import RunnerLock
from loop4.policies.people import Person, render, token_digest
from loop4.tools.backends.recorded import RecordedClock
from loop4.tools.backends.recording_file import capture
from tests.cli.conftest import Desk, alert, webhook
from tests.cli.test_handle import event
from tests.graphs.toy import START_MS, ToyWorld

Damage = Callable[[str], str]
BROKEN_YAML = "spec: [unclosed\n  - {"


def replaced(old: str, new: str) -> Damage:
    """A copy of a text in which something that stands there is changed."""

    def damage(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return damage


def recorded(path: Path) -> Path:
    """A short recording of a healthy world."""
    toy = ToyWorld()
    toy.run(5)
    with capture(path, "lab", RecordedClock(START_MS)) as recorder:
        recorder.store(toy.store)
        recorder.tick(START_MS + 4000)
    return path


def broken(text: str) -> str:
    return BROKEN_YAML


DOCUMENTS: list[tuple[str, Damage]] = [
    ("services.yaml", broken),
    ("services.yaml", replaced("tier: 1", "tier: 9")),
    ("services.yaml", replaced("depends_on: [orders]", "depends_on: [nowhere]")),
    ("services.yaml", replaced("owner: team-orders", "owner: team-orders\n    ownr: x")),
    ("targets/orders.yaml", broken),
    ("targets/orders.yaml", replaced("  objectives:\n  - target: 0.995", "")),
    ("targets/orders.yaml", replaced("target: 0.995", "target: 1.5")),
    ("targets/orders.yaml", replaced("http_requests_total{", "sum(rate(http_requests_total{")),
    ("targets/orders.yaml", replaced("openslo/v1", "openslo/v9")),
    ("runbooks/bad-deploy-rollback.yaml", broken),
    ("runbooks/bad-deploy-rollback.yaml", replaced("deployments.roll_back", "deployments.explode")),
    ("bindings.yaml", broken),
    ("bindings.yaml", replaced("mode: act", "mode: always")),
    ("people.yaml", broken),
    ("people.yaml", replaced("token_sha256:", "token:")),
]


@pytest.mark.parametrize(("name", "damage"), DOCUMENTS)
def test_a_broken_document_of_the_organisation_stops_every_command_that_runs_the_fleet(
    watched: Desk, name: str, damage: Damage
) -> None:
    path = watched.policy(name)
    path.write_text(damage(path.read_text()))
    file = watched.write("e.json", event())
    alerts = watched.write("w.json", webhook([alert("orders")]))
    code, err = watched.refused("handle", file)
    assert code == 2
    assert f"{path}:" in err
    assert watched.refused("ingest", "alertmanager", alerts) == (code, err)
    look = ("investigate", "--alert", alerts, "--operations", watched.operations)
    assert watched.refused(*look) == (code, err)


def test_a_broken_document_leaves_an_open_run_as_it_is(watched: Desk) -> None:
    watched.json("handle", watched.write("e.json", event()))
    watched.policy("targets/orders.yaml").write_text(BROKEN_YAML)
    assert watched.refused("resume")[0] == 2


RULE = """apiVersion: loop4/v1
kind: ActionPolicy
metadata: {name: ours, owner: operations-policy-author}
spec:
  rules:
  - id: only
    match: {class: read}
    when: facts.in_scope
    effect: allow
"""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (broken, "ours.yaml"),
        (replaced("effect: allow", "efect: allow"), "efect"),
        (replaced("effect: allow", "effect: maybe"), "maybe"),
        (replaced("facts.in_scope", "facts.in_scop"), "in_scop"),
        (replaced("facts.in_scope", "facts.in_scope &&"), "ours.yaml"),
        (replaced("class: read", "tools: [metrics.qury]"), "metrics.qury"),
        (replaced("class: read", "clas: read"), "clas"),
        (replaced("facts.in_scope", "facts.range_s > {{LIMIT}}"), "LIMIT"),
        (lambda text: text + text[text.index("  - id") :], "only"),
    ],
)
def test_a_broken_rule_stops_handle_replay_and_policy_check(
    watched: Desk, damage: Damage, said: str
) -> None:
    rules = watched.root / "rules"
    rules.mkdir()
    (rules / "ours.yaml").write_text(damage(RULE))
    recording = recorded(watched.root / "world.l4")
    for words in (
        ("handle", watched.write("e.json", event())),
        ("replay", recording),
        ("policy", "check"),
    ):
        code, err = watched.refused(*words, "--rules", rules)
        assert code == 2
        assert "ours.yaml:" in err
        assert said in err


@pytest.mark.parametrize("words", [("handle", "e.json"), ("replay", "world.l4")])
def test_a_rules_folder_that_is_empty_or_missing_is_refused(
    watched: Desk, words: tuple[str, ...]
) -> None:
    watched.write("e.json", event())
    recorded(watched.root / "world.l4")
    (watched.root / "empty").mkdir()
    assert watched.refused(*words, "--rules", watched.root / "empty")[0] == 2
    assert watched.refused(*words, "--rules", watched.root / "missing")[0] == 2


def lines_of(recording: Path) -> list[bytes]:
    return gzip.decompress(recording.read_bytes()).splitlines(keepends=True)


def repacked(lines: list[bytes]) -> bytes:
    return gzip.compress(b"".join(lines))


RECORDINGS: dict[str, Callable[[Path], bytes]] = {
    "cut in the middle": lambda p: p.read_bytes()[: len(p.read_bytes()) // 2],
    "cut by a line": lambda p: repacked(lines_of(p)[:-1]),
    "without a line": lambda p: repacked(lines_of(p)[:3] + lines_of(p)[4:]),
    "empty": lambda p: b"",
    "no gzip": lambda p: b"once upon a time\n",
    "another gzip": lambda p: gzip.compress(b"once upon a time\n"),
    "other JSON": lambda p: gzip.compress(b'{"format": "har", "version": 1}\n'),
    "a list": lambda p: gzip.compress(b"[1, 2]\n"),
    "of the future": lambda p: repacked([b'{"format": "loop4-recording", "version": 99}\n']),
    "with a verdict": lambda p: repacked(
        [lines_of(p)[0], b'{"kind": "note", "severity": "SEV1"}\n', *lines_of(p)[1:]]
    ),
    "one bit flipped": lambda p: bytes(
        b ^ (1 if i == len(p.read_bytes()) // 2 else 0) for i, b in enumerate(p.read_bytes())
    ),
}


@pytest.mark.parametrize("what", RECORDINGS)
def test_a_file_that_is_no_whole_recording_is_refused(desk: Desk, what: str) -> None:
    good = recorded(desk.root / "good.l4")
    bad = desk.write("bad.l4", RECORDINGS[what](good))
    code, err = desk.refused("replay", bad)
    assert code == 2
    assert "bad.l4" in err


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"decisions": 1}', '{"decisions": [{}]}', "x"])
def test_a_comparison_with_something_else_than_a_replay_is_refused(desk: Desk, body: str) -> None:
    good = recorded(desk.root / "good.l4")
    code, err = desk.refused("replay", good, "--against", desk.write("earlier.json", body))
    assert code == 2
    assert "earlier.json" in err


def test_a_replay_by_policies_that_are_not_there_is_refused(desk: Desk) -> None:
    good = recorded(desk.root / "good.l4")
    assert desk.refused("replay", good, "--operations", desk.root / "nowhere")[0] == 2
    shutil.rmtree(desk.policy("targets"))
    assert desk.refused("replay", good, "--operations", desk.operations)[0] == 2


def one(**changes: object) -> bytes:
    return json.dumps(webhook([{**alert("orders"), **changes}])).encode()


def lacking(name: str) -> bytes:
    body = webhook([alert("orders")])
    return json.dumps({k: v for k, v in body.items() if k != name}).encode()


WEBHOOKS: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"status=firing",
    "cut": one()[:-20],
    "not UTF-8": b"\xff\xfe{}",
    "a list": b"[]",
    "null": b"null",
    "no alerts": lacking("alerts"),
    "no version": lacking("version"),
    "version 3": json.dumps({**webhook([]), "version": "3"}).encode(),
    "alerts no list": json.dumps({**webhook([]), "alerts": {}}).encode(),
    "no labels": one(labels=None),
    "labels no text": one(labels={"alertname": 1}),
    "no alertname": one(labels={"service": "orders"}),
    "no time": one(startsAt="yesterday"),
    "time without zone": one(startsAt="2026-11-25T10:00:00"),
    "year 0": one(startsAt="0000-11-25T10:00:00Z"),
    "no fingerprint": one(fingerprint="not hexadecimal"),
    "other status": one(status="smouldering"),
    "url no text": one(generatorURL=7),
    "half a character": one(labels={"alertname": "x", "service": "\ud800"}),
    "huge": one(annotations={"summary": "x" * 2_000_000}),
    "deep": b'{"alerts":' + b"[" * 100_000,
    "huge number": b'{"alerts": ' + b"9" * 5000 + b"}",
    "too many": json.dumps(webhook([alert("orders")] * 1001)).encode(),
    "a control character": b'{"version": "\x1b[2J"}',
}


@pytest.mark.parametrize("what", WEBHOOKS)
def test_a_webhook_that_is_none_is_refused_by_ingest_and_investigate(
    watched: Desk, what: str
) -> None:
    file = watched.write("w.json", WEBHOOKS[what])
    for words in (("ingest", "alertmanager", file), ("investigate", "--alert", file)):
        code, err = watched.refused(*words)
        assert code == 2
        assert "w.json" in err
        assert err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    "command", [("ingest", "alertmanager"), ("handle",), ("investigate", "--alert"), ("replay",)]
)
def test_a_file_that_is_missing_or_a_folder_is_refused(
    watched: Desk, command: tuple[str, ...]
) -> None:
    assert watched.refused(*command, watched.root / "nowhere")[0] == 2
    assert watched.refused(*command, watched.operations)[0] == 2


@pytest.mark.parametrize("name", ["event_id", "kind", "service", "environment", "at_ms", "labels"])
def test_an_event_that_is_wrong_in_a_field_is_refused(watched: Desk, name: str) -> None:
    wrongs: list[object] = [None, ["\x1b[2J"], {"a\nb": []}]
    for wrong in wrongs:
        code, err = watched.refused("handle", watched.write("e.json", event(**{name: wrong})))
        assert code == 2
        assert f"e.json: {name}" in err
        assert err.rstrip("\n").isprintable()


def test_a_world_that_is_missing_or_unknown_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = desk.write("e.json", event())
    assert desk.refused("handle", file)[0] == 2
    for world in ("lab:/nowhere/lab.json", "cluster:x", "lab"):
        monkeypatch.setenv("LOOP4_WORLD", world)
        assert desk.refused("handle", file)[0] == 2


def test_an_operations_folder_that_is_not_there_is_refused(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = watched.write("e.json", event())
    assert "nowhere" in watched.refused("handle", file, "--operations", "nowhere")[1]
    monkeypatch.delenv("LOOP4_OPERATIONS")
    assert "LOOP4_OPERATIONS" in watched.refused("handle", file)[1]


def test_an_unknown_setting_is_refused_wherever_it_stands(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = watched.write("e.json", event())
    watched.write("loop4.toml", 'metric_url = "http://127.0.0.1:9"\n')
    code, err = watched.refused("handle", file)
    assert (code, "metrics_url" in err) == (2, True)
    watched.write("loop4.toml", "= broken")
    assert watched.refused("handle", file)[0] == 2
    watched.write("loop4.toml", "")
    monkeypatch.setenv("LOOP4_DATE", "x")
    code, err = watched.refused("handle", file)
    assert (code, "LOOP4_DATA" in err) == (2, True)


def test_a_second_runner_on_the_same_data_folder_is_refused(watched: Desk) -> None:
    watched.json("handle", watched.write("1.json", event()))
    more = watched.write("2.json", event(event_id="check-2"))
    alerts = watched.write("w.json", webhook([alert("orders")]))
    with RunnerLock(watched.data):
        for words in (("handle", more), ("resume",), ("ingest", "alertmanager", alerts)):
            code, err = watched.refused(*words)
            assert code == 1
            assert f"process {os.getpid()} runs" in err


def test_a_data_folder_that_is_a_file_or_holds_a_foreign_ledger_is_refused(
    watched: Desk,
) -> None:
    file = watched.write("e.json", event())
    assert watched.refused("handle", file, "--data", file)[0] == 1
    other = watched.root / "other"
    other.mkdir()
    (other / "ledger.db").write_bytes(b"not a database" * 500)
    code, _, err = watched.say("handle", file, "--data", other)
    assert code == 1
    assert err.startswith("loop4: ledger '")
    assert (other / "ledger.db").read_bytes() == b"not a database" * 500
    assert {p.name for p in other.iterdir()} == {"ledger.db", "runner.lock"}


def test_damaged_checkpoints_are_one_line(watched: Desk) -> None:
    watched.json("handle", watched.write("e.json", event()))
    (watched.data / "checkpoints.db").write_bytes(b"not a database" * 500)
    for side in watched.data.glob("checkpoints.db-*"):
        side.unlink()
    code, out, err = watched.say("resume")
    assert (code, out) == (1, "")
    assert err.startswith("loop4: checkpoints cannot be read or written: ")
    assert err.count("\n") == 1


def pending(data: Path) -> None:
    """A request for approval that waits."""
    data.mkdir()
    now_ms = time.time_ns() // 1_000_000
    with Ledger.open(data / "ledger.db") as ledger, ledger.transaction() as tx:
        asked = Approval(
            *("ap-1", "act-1", "digest", "policy", ApprovalState.PENDING, "remediation"),
            *("on-call", 1, now_ms, now_ms + 900_000),
        )
        approvals.request(tx, asked, incident_id="INC-1", run_id="run-1", payload={})


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_vote_needs_a_token_that_is_known(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    pending(desk.data)
    code, err = desk.refused("approvals", word, "ap-1")
    assert (code, "LOOP4_TOKEN is not set" in err) == (2, True)
    monkeypatch.setenv("LOOP4_TOKEN", "of nobody")
    code, err = desk.refused("approvals", word, "ap-1")
    assert (code, "belongs to nobody" in err) == (1, True)
    desk.policy("people.yaml").write_text(BROKEN_YAML)
    assert desk.refused("approvals", word, "ap-1")[0] == 2


def test_a_vote_of_the_wrong_role_is_refused_and_kept_as_evidence(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending(desk.data)
    people = [Person("lee", ("developer",), token_digest("lee's"))]
    desk.policy("people.yaml").write_text(render(people))
    monkeypatch.setenv("LOOP4_TOKEN", "lee's")
    code, out, err = desk.say("approvals", "approve", "ap-1")
    assert (code, out) == (1, "")
    assert err.startswith("loop4: vote refused: ")
    (vote,) = desk.records("vote")
    assert vote.body["accepted"] is False
    with Ledger.open(desk.data / "ledger.db") as ledger, ledger.read() as tx:
        assert [r.approval.state for r in approvals.pending(tx)] == [ApprovalState.PENDING]


def test_a_vote_on_nothing_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = make_operations(desk.root / "ours")
    monkeypatch.setenv("LOOP4_TOKEN", copy.token)
    words = ("approvals", "approve", "ap-1", "--operations", copy.root)
    assert desk.refused(*words)[0] == 1
    pending(desk.data)
    code, out, err = desk.say(*words[:2], "ap-\x1b[2J", *words[3:])
    assert (code, out) == (1, "")
    assert err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scenario", "bad-deplo"), "bad-deploy"),
        (("--seed", "x"), "--seed"),
        (("--json", "nowhere/out.json"), "does not exist"),
        (("--json", "operations"), "is a folder"),
        (("--headles",), "--headles"),
        (("--folder", "."), "is there already"),
    ],
)
def test_a_demo_with_wrong_options_starts_nothing(
    desk: Desk, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = desk.root / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    code, err = desk.refused("demo", *words)
    assert code == (1 if "--folder" in words else 2)
    assert said in err


def test_a_busy_port_for_the_lab_is_one_line(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = desk.say("lab", "up", "--dir", desk.root / "lab", "--port", str(port))
    assert (code, out) == (1, "")
    assert err.startswith(f"loop4: port {port} is taken")
    assert err.count("\n") == 1


def test_a_lab_that_is_not_there_cannot_be_broken(desk: Desk) -> None:
    words = ("lab", "inject", "bad-deploy", "--dir", desk.root / "nowhere")
    assert desk.refused(*words)[0] == 1
    assert desk.refused("lab", "inject", "bad-deplo", *words[3:])[0] == 2
    assert desk.refused("lab", "record", "bad-deplo", "-o", desk.root / "x.l4")[0] == 2


@pytest.mark.parametrize("words", [("handle", "nowhere.json"), ("replay", "nowhere.l4")])
def test_the_installed_command_says_the_same_as_this_process(
    watched: Desk, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words)
    here = capsys.readouterr().err
    done = subprocess.run(
        [sys.executable, "-m", "loop4.cli.main", *words], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", here)
    assert here.startswith("loop4: ")
