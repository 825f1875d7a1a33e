"""What the incident agent says went wrong, and how it says that no change of ours did."""

from __future__ import annotations

import pytest

from loop4.domain import SourceKind
from loop4.tools.backends.ports import World
from tests.agents.conftest import Case, make_case, run
from tests.agents.histories import Past, payments_breaks
from tests.agents.worlds import (
    BACK_ENDS,
    assert_grounded,
    bank_outage,
    crash_loop,
    with_an_innocent_change,
    without,
)


def test_the_guilty_change_is_named_on_several_kinds_of_evidence(case: Case) -> None:
    report = run(case.playbook("incident"))
    (found,) = report.findings
    assert (found.kind, found.subject, found.service) == ("guilty_change", "chg-42", "orders")
    assert len(set(found.sources)) == 5
    assert found.counter_evidence == ()
    assert report.proposals == ()
    assert_grounded(case, report)


def test_the_acquitted_change_stands_beside_it_with_the_reason() -> None:
    case = make_case(change=with_an_innocent_change)
    (found,) = run(case.playbook("incident")).findings
    assert found.subject == "chg-42"
    assert found.counter_evidence == (
        "gateway v9 (revision 12): no failing trace begins in gateway",
    )


def test_an_outage_of_somebody_else_is_named_and_all_changes_are_acquitted() -> None:
    case = bank_outage()
    report = run(case.playbook("incident"))
    cause, none = report.findings
    assert (cause.kind, cause.subject, cause.service) == ("external_dependency", "bank", "payments")
    assert (none.kind, none.subject) == ("no_guilty_change", "orders")
    assert none.claim == "no change of ours explains this"
    assert_grounded(case, report)


def test_a_replica_that_keeps_dying_is_named() -> None:
    case = crash_loop()
    report = run(case.playbook("incident"))
    cause, innocent = report.findings
    assert (cause.kind, cause.subject, cause.service) == ("instance_fault", "orders-1", "orders")
    assert {SourceKind.TOPOLOGY, SourceKind.LOGS} <= set(cause.sources)
    assert (innocent.kind, innocent.subject) == ("no_guilty_change", "orders")
    assert_grounded(case, report)


def test_failures_that_nothing_explains_are_called_unknown() -> None:
    case = bank_outage(answering=1.0)  # its probe says that the bank is well
    report = run(case.playbook("incident"))
    unknown, none = report.findings
    assert (unknown.kind, unknown.subject) == ("unknown", "payments")
    assert none.kind == "no_guilty_change"
    assert_grounded(case, report)


def test_where_nothing_is_wrong_it_acquits_with_less_confidence() -> None:
    case = make_case(deploy=False, change=with_an_innocent_change)
    report = run(case.playbook("incident"))
    (found,) = report.findings
    assert (found.kind, found.confidence_bp) == ("no_guilty_change", 4_000)
    assert "gateway v9: no failing trace begins in gateway" in found.claim
    assert_grounded(case, report)


@pytest.mark.parametrize("name", BACK_ENDS)
def test_with_one_back_end_less_everything_said_still_stands_on_what_was_read(name: str) -> None:
    case = make_case(change=without(name))
    assert_grounded(case, run(case.playbook("incident")))


@pytest.mark.parametrize("name", ["metrics", "traces", "changes"])
def test_without_the_needed_evidence_it_abstains_and_says_what_is_missing(name: str) -> None:
    report = run(make_case(change=without(name)).playbook("incident"))
    assert "guilty_change" not in {f.kind for f in report.findings}
    assert [m for m in report.missing if m.startswith(f"{name}: no back end")]


def test_without_any_evidence_it_says_nothing() -> None:
    report = run(make_case(change=lambda _: World()).playbook("incident"))
    assert (report.findings, report.proposals) == ((), ())
    assert report.missing


def test_a_cause_that_is_named_comes_before_the_word_that_no_change_is_guilty() -> None:
    case = payments_breaks([Past(200, "v0", "v1")], since_s=6, probed=None)
    calls = {"service": "payments", "dependency": "bank"}
    for version in ("v1", "v3"):
        for ago_s in (10, 0):
            for outcome in ("ok", "error"):
                case.toy.store.append(
                    "dependency_requests_total",
                    {**calls, "version": version, "outcome": outcome},
                    case.brief.now_ms - ago_s * 1000,
                    500.0 - 20 * ago_s,
                )
    report = run(case.playbook("incident"))
    surest = max(report.findings, key=lambda f: f.confidence_bp)
    assert (surest.kind, surest.subject) == ("external_dependency", "bank")
    (acquittal,) = (f for f in report.findings if f.kind == "no_guilty_change")
    assert acquittal.confidence_bp == surest.confidence_bp == 6_500
    assert acquittal.kind > surest.kind  # what orders findings that are equally sure
