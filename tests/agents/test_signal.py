"""What an incident says about the product, and what the diagnosis had to do without."""

from __future__ import annotations

import pytest

from loop4.agents.agent import Report
from loop4.agents.signal import incident_signal
from loop4.domain import SignalType
from loop4.tools.analysis.diagnosis.causes import CauseKind
from loop4.tools.backends.ports import World
from tests.agents.conftest import Case, make_case, run
from tests.agents.worlds import assert_grounded, without


def test_a_diagnosis_with_all_its_evidence_leaves_no_gap(case: Case) -> None:
    assert run(case.playbook("signal")) == Report()


@pytest.mark.parametrize("name", ["metrics", "traces", "changes", "workloads"])
def test_telemetry_that_the_diagnosis_had_to_do_without_is_a_finding(name: str) -> None:
    case = make_case(change=without(name))
    report = run(case.playbook("signal"))
    (found,) = report.findings
    assert (found.kind, found.subject) == ("evidence_gap", "orders")
    assert found.claim.endswith("no back end is configured")
    assert "; ".join(report.missing) in found.claim
    assert_grounded(case, report)


def test_without_any_evidence_the_gaps_are_missing_and_no_finding() -> None:
    report = run(make_case(change=lambda _: World()).playbook("signal"))
    assert (report.findings, report.proposals) == ((), ())
    assert len(report.missing) >= 3


@pytest.mark.parametrize("kind", list(CauseKind))
def test_every_kind_of_cause_has_its_own_signal(kind: CauseKind) -> None:
    signal = incident_signal("INC-2026-007", "orders", kind.value, "6000 bp failed")
    assert signal.signal_type is SignalType.RELIABILITY
    assert signal.slug == "inc-2026-007-orders-reliability"
    assert (signal.affected, signal.reference) == (("orders",), "INC-2026-007")
    assert "Measured: 6000 bp failed." in signal.observation
    others = [
        incident_signal("INC-2026-007", "orders", other.value, "6000 bp failed").observation
        for other in CauseKind
        if other is not kind
    ]
    assert signal.observation not in others


def test_impact_and_confidence_follow_from_the_cause() -> None:
    rated = {
        kind: (signal.impact, signal.confidence)
        for kind in CauseKind
        for signal in [incident_signal("INC-2026-007", "orders", kind.value, "-")]
    }
    assert rated == {
        CauseKind.GUILTY_CHANGE: ("high", "high"),
        CauseKind.INSTANCE_FAULT: ("medium", "high"),
        CauseKind.EXTERNAL_DEPENDENCY: ("medium", "high"),
        CauseKind.UNKNOWN: ("medium", "low"),
    }


def test_a_cause_that_has_no_word_is_told_as_unknown() -> None:
    signal = incident_signal("INC-2026-007", "orders", "", "-")
    unknown = incident_signal("INC-2026-007", "orders", CauseKind.UNKNOWN.value, "-")
    assert (signal.title, signal.observation) == (unknown.title, unknown.observation)
