"""`loop4 policy prove | diff | lint | explain | replay`: exit codes, one-line errors, JSON."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.domain import Json
from loop4.ledger import evidence
from loop4.ledger.ledger import Ledger
from loop4.policies.cases import NOW_MS, safe_action, safe_facts
from loop4.policies.load import SHIPPED, load_policy
from loop4.policies.situation import Situation
from tests.policies.situations import random_situation
from tests.policies.test_replay import recorded

Capture = pytest.CaptureFixture[str]
OWN = """
apiVersion: loop4/v1
kind: Invariant
metadata: {name: ours}
spec:
  invariants:
  - {name: ours, says: Nothing is ever paged., match: {tools: [oncall.page]}, never: allow}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A copy of the shipped rules to spoil."""
    return Path(shutil.copytree(SHIPPED / "rules", tmp_path / "rules"))


@pytest.fixture
def wider(rules: Path) -> Path:
    """The shipped rules with a traffic limit that is too high."""
    path = rules / "boundaries.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("share_bp > 2500", "share_bp > 3000"), encoding="utf-8")
    return rules


def action_file(tmp_path: Path, **fields: Json) -> str:
    body = {"tool": "workloads.restart", "service": "orders", "environment": "lab", **fields}
    path = tmp_path / "action.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    return str(path)


def test_the_shipped_rules_are_proved_and_the_time_is_printed(capsys: Capture) -> None:
    assert main(["policy", "prove"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("proved ") for line in lines[:-1])
    assert lines[-1].startswith(f"{len(lines) - 1} of {len(lines) - 1} invariants proved over ")
    assert lines[-1].endswith(" ms")


def test_prove_prints_json(capsys: Capture) -> None:
    assert main(["policy", "prove", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) >= 15
    assert {proof["status"] for proof in found} == {"proved"}
    assert all(set(proof) == {"name", "status", "ms"} for proof in found)


def test_a_violated_invariant_is_told_and_fails(capsys: Capture, wider: Path) -> None:
    assert main(["policy", "prove", "--rules", str(wider)]) == 1
    out = capsys.readouterr().out
    assert "violated wide-writes-ask" in out
    assert "traffic_share_bp is 2501 bp (25.01 %): the gate says allow (by " in out


def test_a_counterexample_can_be_explained(capsys: Capture, wider: Path, tmp_path: Path) -> None:
    main(["policy", "prove", "--rules", str(wider), "--json"])
    proofs = json.loads(capsys.readouterr().out)
    (example,) = (p["counterexample"] for p in proofs if p["status"] == "violated")
    path = tmp_path / "example.json"
    path.write_text(json.dumps(example), encoding="utf-8")
    assert main(["policy", "explain", str(path), "--rules", str(wider), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["effect"] == example["effect"] == "allow"
    assert main(["policy", "explain", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["effect"] == "require_approval"


def test_an_organisations_own_invariant_is_proved_too(capsys: Capture, rules: Path) -> None:
    (rules / "own_invariants.yaml").write_text(OWN, encoding="utf-8")
    assert main(["policy", "prove", "--rules", str(rules)]) == 1
    assert "violated ours" in capsys.readouterr().out
    assert main(["policy", "check", "--rules", str(rules), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["invariants"] > 15


def test_no_invariant_at_all_is_no_proof(capsys: Capture, tmp_path: Path) -> None:
    assert main(["policy", "prove", "--invariants", str(tmp_path)]) == 1
    assert "0 of 0" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prove", "lint"])
def test_a_spoiled_invariant_or_rule_is_one_line(
    command: str, capsys: Capture, rules: Path
) -> None:
    (rules / "own.yaml").write_text(OWN.replace("kind: Invariant", "kind: Invariants"), "utf-8")
    assert main(["policy", command, "--rules", str(rules)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "own.yaml:3:7: unknown kind 'Invariants'; did you mean 'Invariant'?" in captured.err


def test_diff_tells_what_is_newly_allowed(capsys: Capture, wider: Path) -> None:
    shipped = str(SHIPPED / "rules")
    assert main(["policy", "diff", shipped, str(wider)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("rules edited: wide-blast-radius\nnewly allowed:\n")
    assert main(["policy", "diff", str(wider), shipped, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {change["kind"] for change in found["changes"]} == {"newly_needs_approval"}
    assert main(["policy", "diff", shipped, shipped]) == 0
    assert capsys.readouterr().out == "every action gets the same effect as before\n"


def test_lint_names_a_rule_that_does_nothing_and_fails(capsys: Capture, rules: Path) -> None:
    assert main(["policy", "lint", "--rules", str(rules)]) == 0
    capsys.readouterr()
    path = rules / "reads.yaml"
    text = path.read_text(encoding="utf-8")
    dead = "  - {id: dead, match: {class: read}, when: facts.range_s < 0, effect: deny}\n"
    path.write_text(f"{text.rstrip()}\n{dead}", encoding="utf-8")
    assert main(["policy", "lint", "--rules", str(rules)]) == 1
    assert capsys.readouterr().out == "NEVER_MATCHES dead: its condition can never hold\n"


def test_explain_tells_matched_and_lifting(capsys: Capture, tmp_path: Path) -> None:
    file = action_file(tmp_path, facts={"restarts_1h": 3})
    assert main(["policy", "explain", file, "--assume-safe", "--mode", "act"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("escalate: workloads.restart on orders in lab")
    assert "  restart-over-budget (escalate)" in out
    assert "  allow if restarts_1h were 2" in out
    assert "escalates to on-call" in out


def test_explain_names_the_people_who_could_approve(capsys: Capture, tmp_path: Path) -> None:
    operations = Path(__file__).parents[2] / "lab" / "operations"
    file = action_file(tmp_path, facts={"traffic_share_bp": 5000})
    arguments = ["policy", "explain", file, "--assume-safe", "--mode", "act"]
    assert main([*arguments, "--operations", str(operations), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["approval"] == {"role": "on-call", "need": 1, "ttl_s": 900}
    assert found["approvers"] == ["mira", "jonas"]


def test_facts_that_are_left_out_deny_by_name(capsys: Capture, tmp_path: Path) -> None:
    assert main(["policy", "explain", action_file(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["effect"] == "deny"
    assert "fact 'tier' is missing" in found["reasons"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tool": "workloads.restrt"}, "unknown tool 'workloads.restrt'; did you mean"),
        ({"tool": 7}, "unknown tool '7'"),
        ({"facts": {"teir": 1}}, "unknown fact 'teir'; did you mean 'tier'?"),
        ({"facts": []}, "facts is not an object"),
        ({"facts": {"tier": {"value": 1, "age_s": "old"}}}, "expected one of age_s"),
        ({"fact": {}}, "unknown key 'fact'; did you mean 'facts'?"),
        ({"service": 3}, "service is not a string"),
        ({"requester_kind": "robot"}, "unknown requester_kind 'robot'"),
        ({"arguments": [1]}, "arguments is not an object"),
    ],
)
def test_a_slip_in_an_action_is_one_line_and_exit_code_2(
    capsys: Capture, tmp_path: Path, fields: dict[str, Json], message: str
) -> None:
    assert main(["policy", "explain", action_file(tmp_path, **fields)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("content", ["", "[1]", "{", "nul", "[" * 100_000])
def test_what_is_no_action_is_one_line_and_exit_code_2(
    capsys: Capture, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "action.json"
    path.write_text(content, encoding="utf-8")
    assert main(["policy", "explain", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A ledger with decisions of the shipped rules."""
    policy, draw = load_policy(), random.Random(3)  # noqa: S311
    folder = tmp_path / "data"
    folder.mkdir()
    tools = [name for name, tool in policy.tools.items() if tool.tool_class == "write"]
    with Ledger.open(folder / "ledger.db") as ledger, ledger.transaction() as tx:
        evidence.append(tx, "context", "inc", "run", {"sources": []}, at_ms=NOW_MS)
        wide = safe_facts(policy, "workloads.restart")
        wide["traffic_share_bp"] = replace(wide["traffic_share_bp"], value=2501)
        action = safe_action(policy, "workloads.restart", wide)
        situations = [random_situation(policy, tool, draw) for tool in tools * 10]
        for situation in (*situations, Situation(action, wide)):
            body = recorded(policy, situation)
            evidence.append(tx, "decision", "inc", "run", body, at_ms=NOW_MS)
    return folder


def test_a_recorded_decision_can_be_explained(capsys: Capture, data: Path, tmp_path: Path) -> None:
    assert main(["evidence", "show", "--data", str(data), "--kind", "decision", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    for record in records[:10]:
        path = tmp_path / "record.json"
        path.write_text(json.dumps(record), encoding="utf-8")
        assert main(["policy", "explain", str(path), "--mode", "act", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["decided"] == record["body"]["decided"]
        assert [note["rule"] for note in found["matched"]] == record["body"]["rules"]


def test_replay_finds_nothing_under_the_same_rules(capsys: Capture, data: Path) -> None:
    assert main(["policy", "replay", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "131 past decisions judged again" in out
    assert "0 would change, 0 keep their effect by other rules" in out


def test_replay_lists_what_other_rules_would_change(
    capsys: Capture, data: Path, wider: Path
) -> None:
    assert main(["policy", "replay", "--data", str(data), "--rules", str(wider), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["judged"] == 131
    assert found["changed"]
    for change in found["changed"]:
        assert "wide-blast-radius" in change["rules_then"]
        assert "wide-blast-radius" not in change["rules_now"]
    assert main(["policy", "replay", "--data", str(data), "--rules", str(wider)]) == 0
    assert "from require_approval to allow" in capsys.readouterr().out


def test_replay_of_a_recording_decides_it_first(capsys: Capture) -> None:
    recording = Path(__file__).parents[2] / "evals" / "incidents" / "bad-deploy-1.jsonl.gz"
    assert main(["policy", "replay", "--data", str(recording), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["judged"] > 0
    assert found["changed"] == []


def test_replay_of_a_record_that_is_no_decision_is_one_line(
    capsys: Capture, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger, ledger.transaction() as tx:
        evidence.append(tx, "decision", "inc", "run", {"tool": "x"}, at_ms=NOW_MS)
    assert main(["policy", "replay", "--data", str(tmp_path)]) == 2
    assert "evidence record 1 is no decision" in capsys.readouterr().err


def test_replay_without_a_ledger_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    assert main(["policy", "replay", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [["check"], ["explain", "--help"], ["prove", "--help"]])
def test_only_proofs_load_the_solver(words: list[str]) -> None:
    script = (
        "import sys\nfrom loop4.cli.main import main\n"
        f"main(['policy', *{words!r}])\nassert 'z3' not in sys.modules\n"
        "assert 'langgraph' not in sys.modules\nassert 'sqlalchemy' not in sys.modules\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()
