"""A failing service with a past: which of its changes are asked about, and who is to blame."""

from __future__ import annotations

import pytest

from loop4.agents.incident import incident_playbook
from loop4.agents.investigation import Investigation, investigate
from loop4.agents.remediation import remediation_playbook
from loop4.tools.analysis.diagnosis.causes import CauseKind
from tests.agents.conftest import Case, make_case, run
from tests.agents.histories import Past, payments_breaks
from tests.agents.worlds import assert_grounded

AFTER_A_ROLLBACK = (
    Past(200, "v0", "v1"),  # a canary that did well,
    Past(140, "v1", "v2", weight_bp=4_600),  # a bad version over it,
    Past(125, "v2", "v1", "rollback", 10_000),  # and the fleet's own rollback: v1 alone
)
THEN_A_DEPLOY = (*AFTER_A_ROLLBACK, Past(70, "v1", "v3"))  # that takes no traffic yet


def blamed(found: Investigation) -> tuple[str, str]:
    best = found.diagnosis.best
    return ("", "") if best is None else (best.kind.value, best.subject)


def acquitted(found: Investigation) -> dict[str, str]:
    return {a.change.change_id: a.reason for a in found.diagnosis.acquitted}


@pytest.mark.parametrize("past", [AFTER_A_ROLLBACK, THEN_A_DEPLOY])
@pytest.mark.parametrize("since_s", [1, 2, 4, 8])
@pytest.mark.parametrize("probed", [None, 0.0, 0.4])
def test_an_outage_of_the_bank_minutes_after_a_rollback_rolls_nothing_back(
    past: tuple[Past, ...], since_s: int, probed: float | None
) -> None:
    case = payments_breaks(past, since_s=since_s, probed=probed)
    found = run(investigate(case.brief))
    assert blamed(found)[0] != CauseKind.GUILTY_CHANGE.value
    assert set(acquitted(found)) == {f"chg-{n}" for n, p in enumerate(past) if p.kind == "deploy"}
    assert run(remediation_playbook(case.brief)).proposals == ()
    assert_grounded(case, run(incident_playbook(case.brief)))


def test_once_the_probes_have_seen_it_the_bank_is_named() -> None:
    found = run(investigate(payments_breaks(THEN_A_DEPLOY, since_s=6, probed=0.4).brief))
    assert blamed(found) == (CauseKind.EXTERNAL_DEPENDENCY.value, "bank")


def test_a_lone_version_is_acquitted_by_its_own_first_minute_whatever_fails_later() -> None:
    case = payments_breaks(THEN_A_DEPLOY, since_s=2, in_the_bank=False)
    found = run(investigate(case.brief))
    assert blamed(found) == (CauseKind.UNKNOWN.value, "payments")
    assert "in its first 60 s version v1 failed no more" in acquitted(found)["chg-0"]


def test_a_version_that_took_over_moments_before_its_service_broke_is_guilty() -> None:
    case = payments_breaks([Past(9, "v0", "v1", weight_bp=10_000)], since_s=5, in_the_bank=False)
    assert blamed(run(investigate(case.brief))) == (CauseKind.GUILTY_CHANGE.value, "chg-0")


def test_a_version_that_failed_from_the_beginning_is_guilty_minutes_later_too() -> None:
    case = payments_breaks(
        [Past(200, "v0", "v1", weight_bp=10_000)], since_s=198, in_the_bank=False, well_s=100
    )
    assert blamed(run(investigate(case.brief))) == (CauseKind.GUILTY_CHANGE.value, "chg-0")


@pytest.mark.parametrize(
    ("probed", "since_s", "kind"),
    [
        (None, 9, CauseKind.UNKNOWN),
        (1.0, 1, CauseKind.UNKNOWN),  # two probes show nothing
        (1.0, 20, CauseKind.GUILTY_CHANGE),
        (0.4, 9, CauseKind.EXTERNAL_DEPENDENCY),
    ],
)
def test_a_young_lone_version_whose_calls_fail_is_blamed_only_beside_a_healthy_bank(
    probed: float | None, since_s: int, kind: CauseKind
) -> None:
    past = [Past(since_s + 4, "v0", "v1", weight_bp=10_000)]
    found = run(investigate(payments_breaks(past, since_s=since_s, probed=probed).brief))
    assert blamed(found)[0] == kind.value


@pytest.mark.parametrize("since_s", [16, 37])
@pytest.mark.parametrize("recovered_s", [3, 12, 16, 18])
@pytest.mark.parametrize("ago_s", [4, 200])
def test_a_dependency_that_has_just_recovered_is_still_what_was_wrong(
    since_s: int, recovered_s: int, ago_s: int
) -> None:
    past = [Past(since_s + recovered_s + ago_s, "v0", "v1", weight_bp=10_000)]
    case = payments_breaks(past, since_s=since_s, probed=0.4, recovered_s=recovered_s)
    found = run(investigate(case.brief))
    assert blamed(found) == (CauseKind.EXTERNAL_DEPENDENCY.value, "bank")
    assert run(remediation_playbook(case.brief)).proposals == ()


def reads_of(case: Case) -> int:
    run(investigate(case.brief))
    return len(case.brief.reader.records)


def test_the_past_of_a_version_is_read_only_where_nothing_old_stands_beside_it() -> None:
    beside = reads_of(make_case())
    assert beside == reads_of(make_case())
    young = reads_of(payments_breaks([Past(20, "v0", "v1")], since_s=2))
    settled = reads_of(payments_breaks([Past(200, "v0", "v1")], since_s=2))
    assert settled == young + 2
