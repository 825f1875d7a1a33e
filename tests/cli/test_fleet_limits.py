"""`loop4 fleet limits`: what is set comes over fleet.yaml, inside bounds, with a name."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from loop4.ledger.ledger import Ledger
from loop4.ledger.schema import parameters
from loop4.policies.people import Person
from tests.cli.conftest import Desk
from tests.tokens import give_tokens, token_of

LIMITS = ("fleet", "limits")
WHY = ("--reason", "fewer at a time")


@pytest.fixture
def signed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    give_tokens(desk.operations, Person("lee", ("developer",), ""))
    monkeypatch.setenv("LOOP4_TOKEN", token_of("mira"))
    desk.data.mkdir()
    Ledger.open(desk.data / "ledger.db").close()
    return desk


def queue(desk: Desk, name: str) -> dict[str, object]:
    queues = desk.json(*LIMITS)["queues"]
    assert isinstance(queues, dict)
    found = queues[name]
    assert isinstance(found, dict)
    return found


def test_what_is_set_comes_over_the_file_and_goes_again(signed: Desk) -> None:
    file = queue(signed, "runs")["file"]
    assert isinstance(file, dict)
    code, out, _ = signed.say(*LIMITS, "set", "runs", "--per-worker", "1", *WHY)
    assert code == 0
    assert out.startswith(f"runs: per_worker 1 (fleet.yaml: {file['per_worker']})")
    signed.say(*LIMITS, "set", "runs", "--in-all", "5", "--starts-per-s", "9", *WHY)
    found = queue(signed, "runs")
    assert (found["per_worker"], found["in_all"], found["starts_per_s"]) == (1, 5, 9)
    assert found["file"] == file
    rows = [(r.body["parameter"], r.body["value"]) for r in signed.records("parameter")]
    assert rows == [
        ("queue.runs.per_worker", "1"),
        ("queue.runs.in_all", "5"),
        ("queue.runs.starts_per_s", "9"),
    ]
    assert {str(r.body["person"]) for r in signed.records("parameter")} == {"mira"}
    signed.say(*LIMITS, "set", "runs", "--in-all", "5", *WHY)
    assert len(signed.records("parameter")) == 3  # it stood so already
    code, out, _ = signed.say(*LIMITS, "clear", "runs", *WHY)
    assert code == 0
    found = queue(signed, "runs")
    assert {k: found[k] for k in file} == file
    assert len(signed.records("parameter")) == 6


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("set", "runs", *WHY), 2, "nothing to set"),
        (("set", "runs", "--per-worker", "1"), 2, "--reason"),
        (("set", "runs", "--per-worker", "1", "--reason", ""), 2, "say why"),
        (("set", "runs", "--per-worker", "-1", *WHY), 2, "expected 0 (no limit) to 100000"),
        (("set", "runs", "--in-all", "100001", *WHY), 2, "expected 0 (no limit) to 100000"),
        (("set", "runs", "--in-all", "many", *WHY), 2, "Invalid value for '--in-all'"),
        (("set", "run", "--in-all", "3", *WHY), 2, "did you mean 'runs'?"),
        (("set", "runs", "--per-worker", "4", "--in-all", "3", *WHY), 2, "is above in_all 3"),
        (("set", "runs", "--in-all", "1", *WHY), 2, "is above in_all 1; set both"),
        (("clear", "nothing", *WHY), 2, "unknown queue 'nothing'"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    signed: Desk, words: tuple[str, ...], code: int, told: str
) -> None:
    found, said = signed.refused(*LIMITS, *words)
    assert (found, told in said) == (code, True), said


def test_who_has_no_role_of_the_fleet_sets_nothing(
    signed: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", token_of("lee"))
    _, said = signed.refused(*LIMITS, "set", "runs", "--per-worker", "1", *WHY)
    assert "'lee' needs one of the roles" in said


def test_a_row_that_is_no_limit_is_told_and_the_files_holds(signed: Desk) -> None:
    with Ledger.open(signed.data / "ledger.db") as ledger, ledger.transaction() as tx:
        for field, value in (("per_worker", "x"), ("in_all", "9" * 40), ("starts_per_s", "²")):
            name = f"queue.runs.{field}"
            tx.change(insert(parameters).values(name=name, value=value, set_by="x"))
    found = queue(signed, "runs")
    assert {k: found[k] for k in ("per_worker", "in_all", "starts_per_s")} == found["file"]
    _, out, _ = signed.say(*LIMITS)
    assert out.count("no limit that counts, the file's holds") == 3
