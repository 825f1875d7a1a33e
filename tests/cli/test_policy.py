"""`loop4 policy check | test`: exit codes, one-line errors, JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loop4.cli.main import main
from loop4.policies.load import SHIPPED


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A copy of the shipped rules to spoil."""
    return Path(shutil.copytree(SHIPPED / "rules", tmp_path / "rules"))


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_check_counts_what_was_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("policy ok: ")
    assert "binding production: suggest" in out


def test_check_prints_json(capsys: pytest.CaptureFixture[str], rules: Path) -> None:
    assert main(["policy", "check", "--rules", str(rules), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rules"] == sum(found["by_effect"].values())
    assert found["bindings"] == {"production": "suggest", "staging": "suggest"}
    assert len(found["version"]) == 64


@pytest.mark.parametrize("command", ["check", "test"])
def test_a_spoiled_rule_is_one_line_and_exit_code_2(
    command: str, capsys: pytest.CaptureFixture[str], rules: Path
) -> None:
    spoil(rules / "boundaries.yaml", "facts.fleet_paused", "facts.fleet_pause")
    assert main(["policy", command, "--rules", str(rules)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "boundaries.yaml:" in captured.err
    assert "did you mean 'fleet_paused'?" in captured.err


def test_broken_yaml_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], rules: Path
) -> None:
    (rules / "broken.yaml").write_text("a: [1, 2\nb: 3\n", encoding="utf-8")
    assert main(["policy", "check", "--rules", str(rules)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "broken.yaml:2:" in err
    assert "broken YAML" in err


def test_a_folder_that_is_not_there_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["policy", "test", "--rules", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_the_shipped_cases_pass_and_no_mutant_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", "--mutants", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == []
    assert found["survivors"] == []
    assert found["mutants"] > 500


def test_a_wider_limit_fails_its_case_with_expected_and_got(
    capsys: pytest.CaptureFixture[str], rules: Path
) -> None:
    spoil(
        rules / "boundaries.yaml", "facts.traffic_share_bp > 2500", "facts.traffic_share_bp > 9000"
    )
    assert main(["policy", "test", "--rules", str(rules)]) == 1
    out = capsys.readouterr().out
    assert "FAILED just above a quarter needs on-call (workloads.restart)" in out
    assert "expected: effect require_approval" in out
    assert "got:      effect allow" in out


def test_a_surviving_mutant_is_named_and_fails(
    capsys: pytest.CaptureFixture[str], rules: Path
) -> None:
    spoil(rules / "reads_test.yaml", "range_s: 604800}", "range_s: 604700}")
    assert main(["policy", "test", "--rules", str(rules), "--mutants"]) == 1
    out = capsys.readouterr().out
    assert "SURVIVED read-too-long: when: facts.range_s >= 604800" in out
    assert "mutants survived" in out


def test_rules_without_cases_fail_the_test(capsys: pytest.CaptureFixture[str], rules: Path) -> None:
    for path in rules.glob("*_test.yaml"):
        path.unlink()
    assert main(["policy", "test", "--rules", str(rules)]) == 1
    assert "no test case found" in capsys.readouterr().out


def test_bindings_can_be_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bindings.yaml"
    path.write_text(
        "apiVersion: loop4/v1\nkind: PolicyBinding\nmetadata: {name: mine}\n"
        "spec: {match: {environment: lab}, mode: act}\n",
        encoding="utf-8",
    )
    assert main(["policy", "check", "--bindings", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bindings"] == {"mine": "act"}


SHOP = Path(__file__).parents[1] / "policies" / "organisation" / "shop"


def test_an_organisations_policies_are_imported_and_held(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "import", str(SHOP), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "traffic_share_bp: 1000 bp holds" in told
    assert "CONFLICTS" in told
    assert "UNRESOLVED (grants nothing)" in told
    assert (tmp_path / "organisation.yaml").is_file()
    assert main(["policy", "import", str(SHOP), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["import", "nowhere"], 2, "nowhere"),
        (["import", str(SHOP), "--rules", "nowhere"], 2, "nowhere"),
        (["explain"], 2, "expected ACTION.json"),
        (["explain", "a.json", "--agent", "health"], 2, "not both"),
        (["explain", "--agent", "remediatoin"], 2, "remediation"),
    ],
)
def test_what_cannot_be_imported_or_explained_is_one_line(
    arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", *arguments]) == code
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_what_an_agent_may_run_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", "--agent", "remediation"]) == 0
    out = capsys.readouterr().out
    assert "workloads.restart" in out
    assert "a person is asked" in out
    assert main(["policy", "explain", "--agent", "remediation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
