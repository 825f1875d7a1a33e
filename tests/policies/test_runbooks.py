"""Typed runbooks: matching, filling in arguments, and mistakes with their places."""

from __future__ import annotations

from pathlib import Path

import pytest

import loop4.policies
from loop4.errors import PolicyError
from loop4.policies.runbooks import NamedFact, Runbook, Step, fill, load_runbooks, match_runbook

SHIPPED = Path(loop4.policies.__path__[0]) / "runbooks"
TOOLS = ("deployments.roll_back", "workloads.restart")


def runbook(name: str, *services: str, finding: str = "guilty_change") -> Runbook:
    return Runbook(name, "owner", (finding,), services, (Step("workloads.restart", {}),), 60)


def test_the_shipped_runbooks_load_and_each_has_a_page_for_people() -> None:
    runbooks = load_runbooks(SHIPPED, tools=TOOLS)
    assert [book.name for book in runbooks] == ["bad-deploy-rollback", "replica-crash-loop"]
    for book in runbooks:
        page = Path(book.path).with_suffix(".md").read_text(encoding="utf-8")
        assert all(step.tool in page for step in book.steps)


def test_a_finding_without_a_runbook_matches_none() -> None:
    runbooks = load_runbooks(SHIPPED)
    assert match_runbook(runbooks, "external_dependency", "orders") is None
    found = match_runbook(runbooks, "instance_fault", "orders")
    assert found is not None
    assert found.name == "replica-crash-loop"


def test_a_runbook_that_names_the_service_wins_in_any_order() -> None:
    books = [runbook("a"), runbook("b", "orders"), runbook("c", "payments")]
    for order in (books, books[::-1]):
        found = match_runbook(order, "guilty_change", "orders")
        assert found is not None
        assert found.name == "b"
        other = match_runbook(order, "guilty_change", "gateway")
        assert other is not None
        assert other.name == "a"


def test_a_missing_fact_is_named_and_never_guessed() -> None:
    step = Step(
        "deployments.roll_back",
        {"service": NamedFact.SERVICE, "to_revision": NamedFact.PREVIOUS_GOOD_REVISION, "n": 3},
    )
    assert fill(step, {"service": "orders"}) == (
        {"service": "orders", "n": 3},
        ("previous_good_revision",),
    )
    assert fill(step, {"service": "orders", "previous_good_revision": 41}) == (
        {"service": "orders", "to_revision": 41, "n": 3},
        (),
    )


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("deployments.roll_back", "deployments.rollback", "did you mean 'deployments.roll_back'"),
        ("previous_good_revision", "previous_revision", r":11:48: unknown fact"),
        ("verify_window_s: 300", "verify_window_s: 0", "expected 1 to"),
        ("verify_window_s: 300", "verify_windows: 300", "did you mean 'verify_window_s'"),
        ("findings: [guilty_change]", "findings: []", "empty list"),
        ("tool: deployments.roll_back", "tool: rm -rf /", "expected a word like"),
        ("{service: service", "{service: {{SERVICE}}", "nobody filled in"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, good: str, bad: str, message: str
) -> None:
    right = (SHIPPED / "bad-deploy-rollback.yaml").read_text(encoding="utf-8")
    assert good in right
    (tmp_path / "book.yaml").write_text(right.replace(good, bad, 1), encoding="utf-8")
    with pytest.raises(PolicyError, match=message) as caught:
        load_runbooks(tmp_path, tools=TOOLS)
    assert "book.yaml:" in str(caught.value)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    text = (SHIPPED / "bad-deploy-rollback.yaml").read_text(encoding="utf-8")
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=r"b\.yaml.*stands in .*a\.yaml already"):
        load_runbooks(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not a folder"):
        load_runbooks(tmp_path / "gone")
