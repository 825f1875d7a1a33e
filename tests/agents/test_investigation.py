"""What is read for a diagnosis, what it stands on, and what is said when something is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loop4.agents.agent import Brief
from loop4.agents.investigation import investigate, related_services
from loop4.agents.versions import availability_target
from loop4.domain import SourceKind
from loop4.policies.load import load_policy
from loop4.policies.targets import Target
from loop4.tools.analysis.diagnosis.causes import CauseKind
from loop4.tools.backends.ports import World
from loop4.tools.reader import Reader, Scope
from tests.agents.conftest import Case, make_case, run
from tests.agents.worlds import BACK_ENDS, bank_outage, with_an_innocent_change, without

KINDS = {
    "metrics": SourceKind.METRICS,
    "traces": SourceKind.TRACES,
    "logs": SourceKind.LOGS,
    "changes": SourceKind.CHANGES,
    "workloads": SourceKind.TOPOLOGY,
}


def for_service(brief: Brief, service: str) -> Brief:
    return replace(brief, event=replace(brief.event, service=service))


def test_a_bad_deploy_is_found_from_five_kinds_of_evidence(case: Case) -> None:
    found = run(investigate(case.brief))
    assert found.diagnosis.best is not None
    assert (found.diagnosis.best.kind, found.diagnosis.best.subject) == (
        CauseKind.GUILTY_CHANGE,
        "chg-42",
    )
    assert set(found.evidence) == set(KINDS.values())
    assert found.missing == ()


def test_every_cited_id_was_handed_out_by_the_reader_with_that_kind(case: Case) -> None:
    found = run(investigate(case.brief))
    records = case.brief.reader.records
    for kind, cited in found.evidence.items():
        assert len(set(cited)) == len(cited)
        assert all(records[e].source is kind for e in cited)
    assert found.cite([SourceKind.CHANGES, SourceKind.EVENTS]) == found.evidence[SourceKind.CHANGES]


def test_a_second_investigation_of_the_same_moment_reads_nothing_new(case: Case) -> None:
    first = run(investigate(case.brief))
    asked = set(case.brief.reader.records)
    assert run(investigate(case.brief)) == first
    assert set(case.brief.reader.records) == asked


def test_an_event_of_the_edge_leads_to_the_change_below_it(case: Case) -> None:
    found = run(investigate(for_service(case.brief, "gateway")))
    assert found.diagnosis.best is not None
    assert found.diagnosis.best.service == "orders"


def test_the_services_of_an_event_are_its_callers_and_what_it_depends_on(case: Case) -> None:
    assert related_services(case.brief) == {"gateway", "orders", "payments", "bank"}
    alone = replace(case.brief, catalogue=replace(case.brief.catalogue, services=()))
    assert related_services(alone) == {"orders"}


def test_an_innocent_change_is_acquitted_beside_the_guilty_one() -> None:
    found = run(investigate(make_case(change=with_an_innocent_change).brief)).diagnosis
    assert [h.subject for h in found.hypotheses] == ["chg-42"]
    assert [a.change.change_id for a in found.acquitted] == ["chg-7"]


def test_a_dependency_of_others_is_named_from_its_probe() -> None:
    best = run(investigate(bank_outage().brief)).diagnosis.best
    assert best is not None
    assert (best.kind, best.subject) == (CauseKind.EXTERNAL_DEPENDENCY, "bank")


def test_a_dependency_that_answers_its_probes_is_not_named() -> None:
    best = run(investigate(bank_outage(answering=1.0).brief)).diagnosis.best
    assert best is not None
    assert (best.kind, best.subject) == (CauseKind.UNKNOWN, "payments")


def test_nothing_is_claimed_where_nothing_is_wrong() -> None:
    found = run(investigate(make_case(deploy=False).brief))
    assert found.diagnosis.hypotheses == ()
    assert found.diagnosis.acquitted == ()


@pytest.mark.parametrize("name", [n for n in BACK_ENDS if n != "logs"])
def test_a_missing_back_end_is_named_as_missing_and_gives_no_evidence(name: str) -> None:
    found = run(investigate(make_case(change=without(name)).brief))
    assert found.missing == (f"{KINDS[name].value}: no back end is configured",)
    assert KINDS[name] not in found.evidence


@pytest.mark.parametrize("name", ["metrics", "traces", "changes"])
def test_without_metrics_traces_or_changes_no_change_is_blamed(name: str) -> None:
    found = run(investigate(make_case(change=without(name)).brief)).diagnosis
    assert all(h.kind is not CauseKind.GUILTY_CHANGE for h in found.hypotheses)


def test_without_any_back_end_there_is_no_evidence_and_no_cause() -> None:
    found = run(investigate(make_case(change=lambda _: World()).brief))
    assert (found.diagnosis.best, found.evidence, found.inventory) == (None, {}, None)
    for kind in ("traces", "changes", "topology"):
        assert f"{kind}: no back end is configured" in found.missing


def test_what_the_gate_denies_is_missing_with_its_reason(case: Case) -> None:
    scope = Scope("INC-2026-001", "lab", frozenset({"orders"}), case.brief.now_ms - 5_000)
    brief = replace(
        case.brief, reader=Reader(case.toy.world(), load_policy(), case.toy.clock, scope)
    )
    found = run(investigate(brief))
    denied = {r.denied for r in brief.reader.records.values() if r.denied}
    assert denied
    assert denied & set(found.missing)
    assert found.evidence.keys() == {SourceKind.TOPOLOGY}


def test_the_availability_target_is_the_one_that_counts_failures(case: Case) -> None:
    latency = Target("late", "orders", 9_900, 'x_bucket{le="0.3"}', "", "x_count")
    counted = Target("well", "orders", 9_950, 'x_total{outcome="ok"}', "", "x_total")
    assert availability_target([latency, counted], "orders") is counted
    assert availability_target([latency], "orders") is None
    assert availability_target([counted], "payments") is None
