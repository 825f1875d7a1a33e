"""From what was seen to who is to blame: guilt, acquittal, and "nothing known"."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import SourceKind
from loop4.tools.analysis.diagnosis.causes import (
    CauseKind,
    Hypothesis,
    diagnose,
    stands_alone,
)
from loop4.tools.analysis.diagnosis.observations import Counts, FirstStretch, Observations
from loop4.tools.analysis.diagnosis.origin import Origin
from loop4.tools.backends.ports import Change, Instance

T = TypeVar("T")
ONSET_MS = 1_790_000_000_000
LOOKBACK_MS = 900_000
ILL, WELL = Counts(60, 100), Counts(0, 100)


def change(service: str = "orders", *, ago_s: int = 20, kind: str = "deploy") -> Change:
    return Change(
        f"chg-{service}",
        ONSET_MS - ago_s * 1000,
        kind,
        service,
        "",
        41,
        42,
        "v1",
        "v2",
        "d41",
        "d42",
        5_000,
        "dana",
    )


def began_in(service: str, *, traces: int = 40, external: str = "") -> Origin:
    return Origin(service, "v2", f"{service}-4", external, traces)


def replica(
    number: int, *, state: str = "ready", restarts: int = 0, version: str = "v1"
) -> Instance:
    return Instance(f"orders-{number}", "orders", 41, version, state, False, restarts, 0, 3_333, "")


def seen(**parts: object) -> Observations:
    """Observations around a bad deploy of orders, with some parts replaced."""
    usual = Observations(
        onset_ms=ONSET_MS,
        lookback_ms=LOOKBACK_MS,
        changes=(change(),),
        origins=(began_in("orders"),),
        by_version={("orders", "v2"): ILL, ("orders", "v1"): WELL},
    )
    return replace(usual, **parts)  # type: ignore[arg-type]  # names are checked by replace


def best(observations: Observations) -> Hypothesis:
    found = diagnose(observations).best
    assert found is not None
    return found


def acquittals(observations: Observations) -> dict[str, str]:
    return {a.change.service: a.reason for a in diagnose(observations).acquitted}


def test_a_version_that_fails_beside_a_healthy_old_one_is_guilty() -> None:
    found = best(seen())
    assert (found.kind, found.subject, found.service) == (
        CauseKind.GUILTY_CHANGE,
        "chg-orders",
        "orders",
    )
    assert found.change == change()
    assert found.difference is not None
    assert found.difference.difference_bp == 6_000
    assert found.reason == "orders v2 fails 6000 bp of its requests, version v1 beside it 0 bp"
    assert set(found.sources) == {SourceKind.METRICS, SourceKind.TRACES, SourceKind.CHANGES}
    assert acquittals(seen()) == {}


def test_when_nothing_old_is_left_a_version_is_compared_with_its_services_past() -> None:
    alone = {("orders", "v2"): ILL, ("orders", "v1"): Counts(0, 3)}
    found = best(seen(by_version=alone, before_change={"chg-orders": WELL}))
    assert found.kind is CauseKind.GUILTY_CHANGE
    assert "the service before the change 0 bp" in found.reason


def test_a_service_that_failed_just_as_much_before_acquits_its_change() -> None:
    observations = seen(by_version={("orders", "v2"): ILL}, before_change={"chg-orders": ILL})
    assert best(observations).kind is CauseKind.UNKNOWN
    assert acquittals(observations) == {
        "orders": "version v2 fails no more than the service before the change (6000 against "
        "6000 bp)"
    }


def test_the_old_version_beside_it_counts_more_than_the_past() -> None:
    both = {("orders", "v2"): ILL, ("orders", "v1"): Counts(59, 100)}
    observations = seen(by_version=both, before_change={"chg-orders": WELL})
    assert best(observations).kind is CauseKind.UNKNOWN
    assert "version v1 beside it" in acquittals(observations)["orders"]


@pytest.mark.parametrize("past", [{}, {"chg-orders": Counts(0, 9)}])
def test_too_few_requests_on_either_side_acquit_and_say_so(past: dict[str, Counts]) -> None:
    observations = seen(by_version={("orders", "v2"): ILL}, before_change=past)
    assert "too few requests" in acquittals(observations)["orders"]
    assert best(observations).kind is CauseKind.UNKNOWN


def test_a_change_of_a_service_where_nothing_begins_is_acquitted() -> None:
    innocent = change("gateway", ago_s=5)
    observations = seen(
        changes=(change(), innocent),
        by_version={
            ("orders", "v2"): ILL,
            ("orders", "v1"): WELL,
            ("gateway", "v2"): ILL,  # its failures are those of orders, handed through
            ("gateway", "v1"): WELL,
        },
    )
    assert best(observations).subject == "chg-orders"
    assert acquittals(observations) == {"gateway": "no failing trace begins in gateway"}


def test_a_service_where_hardly_any_trace_fails_is_not_blamed() -> None:
    few = (began_in("gateway", traces=81), began_in("orders", traces=19))
    assert acquittals(seen(origins=few)) == {"orders": "no failing trace begins in orders"}
    more = (began_in("gateway", traces=80), began_in("orders", traces=20))
    assert best(seen(origins=more)).subject == "chg-orders"


def alone(**parts: object) -> Observations:
    """A version of orders with nothing old beside it, whose service did well before it came."""
    usual = seen(
        by_version={("orders", "v2"): ILL},
        before_change={"chg-orders": WELL},
        first_stretches={"chg-orders": FirstStretch(60, new=ILL)},
    )
    return replace(usual, **parts)  # type: ignore[arg-type]  # names are checked by replace


def stretch(new: Counts, old: Counts = Counts()) -> dict[str, FirstStretch]:  # noqa: B008  (frozen)
    return {"chg-orders": FirstStretch(60, new, old)}


@pytest.mark.parametrize("stretches", [{}, stretch(ILL), stretch(ILL, WELL)])
def test_a_lone_version_is_guilty_of_failures_that_came_with_it(
    stretches: dict[str, FirstStretch],
) -> None:
    assert best(alone(first_stretches=stretches)).kind is CauseKind.GUILTY_CHANGE


def test_a_lone_version_that_did_well_at_first_is_not_what_broke_later() -> None:
    observations = alone(first_stretches=stretch(WELL))
    assert best(observations).kind is CauseKind.UNKNOWN
    assert acquittals(observations)["orders"] == (
        "the failures did not come with it: in its first 60 s version v2 failed no more than the "
        "service before the change (0 against 0 bp)"
    )


def test_a_first_stretch_inside_another_incident_is_judged_beside_the_old_version() -> None:
    observations = alone(first_stretches=stretch(ILL, Counts(61, 100)))
    assert best(observations).kind is CauseKind.UNKNOWN
    assert "version v1 beside it (6000 against 6100 bp)" in acquittals(observations)["orders"]


def test_a_first_stretch_with_too_few_requests_blames_nobody_and_says_so() -> None:
    observations = alone(first_stretches=stretch(Counts(0, 9)))
    assert best(observations).kind is CauseKind.UNKNOWN
    assert acquittals(observations)["orders"] == (
        "too few requests in the first 60 s of version v2 to say that the failures came with it"
    )


def test_beside_a_healthy_old_version_a_late_failure_is_still_the_new_ones() -> None:
    both = {("orders", "v2"): ILL, ("orders", "v1"): WELL}
    assert best(alone(by_version=both, first_stretches=stretch(WELL))).subject == "chg-orders"


def test_each_change_is_held_against_the_time_before_itself() -> None:
    observations = alone(before_change={"chg-other": WELL})
    assert "too few requests on either side" in acquittals(observations)["orders"]


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ({}, "too few probes of bank since its calls fail to know whether it is well"),
        ({"bank": Counts(0, 4)}, "too few probes of bank"),
        ({"bank": Counts(2, 10)}, "bank answered only 8000 bp of its probes since its calls fail"),
        ({"bank": Counts(0, 5)}, ""),
    ],
)
@pytest.mark.parametrize("probes_bp", [{}, {"bank": 9_400}])
def test_a_lone_version_whose_calls_fail_is_guilty_only_if_the_dependency_is_seen_to_be_well(
    since: dict[str, Counts], told: str, probes_bp: dict[str, int]
) -> None:
    observations = alone(
        origins=(began_in("orders", external="bank"),), probes_bp=probes_bp, probes_since=since
    )
    if told:
        assert best(observations).kind is not CauseKind.GUILTY_CHANGE
        assert told in acquittals(observations)["orders"]
    else:
        assert best(observations).kind is CauseKind.GUILTY_CHANGE


def test_nothing_is_said_of_probes_that_nobody_made() -> None:
    observations = seen(origins=(began_in("orders", external="bank"),))
    assert best(observations).kind is CauseKind.GUILTY_CHANGE
    assert "probes" not in best(observations).reason


def test_failures_spread_over_many_replicas_still_begin_in_their_service() -> None:
    places = tuple(Origin("orders", "v2", f"orders-{n}", "", 5) for n in range(8))
    assert best(seen(origins=places)).subject == "chg-orders"
    assert "40 of 40" in best(seen(origins=places, changes=(), by_version={})).reason


@pytest.mark.parametrize("kind", ["rollback", "restart", "scale"])
def test_what_brings_nothing_new_is_no_candidate(kind: str) -> None:
    found = diagnose(seen(changes=(change(kind=kind),)))
    assert found.acquitted == ()
    assert [h.kind for h in found.hypotheses] == [CauseKind.UNKNOWN]


@pytest.mark.parametrize("kind", ["deploy", "config", "flag", "weight"])
def test_every_forward_change_can_be_guilty(kind: str) -> None:
    assert best(seen(changes=(change(kind=kind),))).kind is CauseKind.GUILTY_CHANGE


@pytest.mark.parametrize(("ago_s", "guilty"), [(900, True), (901, False), (-2, True), (-3, False)])
def test_only_changes_between_lookback_and_onset_are_candidates(ago_s: int, guilty: bool) -> None:
    found = best(seen(changes=(change(ago_s=ago_s),)))
    assert (found.kind is CauseKind.GUILTY_CHANGE) is guilty


def test_a_wide_gap_is_more_certain_than_a_narrow_one() -> None:
    narrow = {("orders", "v2"): Counts(8, 100), ("orders", "v1"): Counts(0, 1_000)}
    assert best(seen(by_version=narrow)).kind is CauseKind.GUILTY_CHANGE
    assert best(seen(by_version=narrow)).confidence_bp < best(seen()).confidence_bp


BANK_CALLS = {("payments", v, "bank"): Counts(70, 100) for v in ("v1", "v2")}


def bank(**parts: object) -> Observations:
    """Failing calls to the bank, and a deploy of payments that fails as much as the old one."""
    usual = seen(
        changes=(change("payments"),),
        origins=(began_in("payments", external="bank"),),
        by_version={("payments", "v2"): ILL, ("payments", "v1"): ILL},
        calls=BANK_CALLS,
    )
    return replace(usual, **parts)  # type: ignore[arg-type]  # names are checked by replace


def test_a_dependency_that_fails_its_probes_is_the_cause_and_no_change_of_ours_is() -> None:
    found = best(bank(probes_bp={"bank": 2_000}))
    assert (found.kind, found.subject, found.service) == (
        CauseKind.EXTERNAL_DEPENDENCY,
        "bank",
        "payments",
    )
    assert "answers only 2000 bp of its probes" in found.reason
    assert found.missing == ()
    assert set(acquittals(bank(probes_bp={"bank": 2_000}))) == {"payments"}


def test_a_dependency_that_fails_its_probes_acquits_even_a_version_that_fails_more() -> None:
    unlucky = {("payments", "v2"): ILL, ("payments", "v1"): WELL}
    observations = bank(probes_bp={"bank": 2_000}, by_version=unlucky)
    assert best(observations).kind is CauseKind.EXTERNAL_DEPENDENCY
    assert acquittals(observations)["payments"] == "bank itself answers only 2000 bp of its probes"


def test_without_a_probe_calls_that_fail_from_every_version_alike_blame_the_dependency() -> None:
    found = best(bank())
    assert found.kind is CauseKind.EXTERNAL_DEPENDENCY
    assert found.missing == ("no probe of bank",)
    assert found.confidence_bp < best(bank(probes_bp={"bank": 2_000})).confidence_bp


def test_a_dependency_that_answers_again_failed_its_probes_while_calls_failed() -> None:
    past = {"probes_bp": {"bank": 10_000}, "calls": {}, "by_version": {}}
    observations = bank(**past, probes_since={"bank": Counts(14, 40)})
    found = best(observations)
    assert (found.kind, found.subject) == (CauseKind.EXTERNAL_DEPENDENCY, "bank")
    assert found.reason.endswith("bank answered only 6500 bp of its probes since then")
    for never_ill in ({}, {"bank": Counts(4, 4)}, {"bank": Counts(1, 40)}):
        assert best(bank(**past, probes_since=never_ill)).kind is CauseKind.UNKNOWN


def test_an_earlier_outage_of_a_dependency_does_not_excuse_a_new_versions_own_failures() -> None:
    places = (
        Origin("payments", "v1", "payments-1", "bank", 300),
        Origin("payments", "v2", "payments-4", "", 80),
    )
    observations = bank(
        origins=places,
        by_version={("payments", "v2"): ILL, ("payments", "v1"): WELL},
        probes_bp={"bank": 5_000},
    )
    assert best(observations).kind is CauseKind.GUILTY_CHANGE
    assert "bank" not in best(observations).reason


def test_calls_of_one_version_alone_do_not_blame_the_dependency() -> None:
    one = {("payments", "v2", "bank"): Counts(70, 100)}
    assert best(bank(calls=one)).kind is CauseKind.UNKNOWN
    split = {**one, ("payments", "v1", "bank"): Counts(1, 100)}
    assert best(bank(calls=split)).kind is CauseKind.UNKNOWN


def test_a_version_whose_calls_fail_although_the_dependency_is_well_is_guilty() -> None:
    observations = bank(
        probes_bp={"bank": 10_000},
        by_version={("payments", "v2"): ILL, ("payments", "v1"): WELL},
        calls={
            ("payments", "v2", "bank"): Counts(90, 100),
            ("payments", "v1", "bank"): Counts(0, 100),
        },
    )
    found = best(observations)
    assert (found.kind, found.subject) == (CauseKind.GUILTY_CHANGE, "chg-payments")
    assert "although bank answers its probes" in found.reason


def test_of_two_dependencies_the_one_where_most_traces_end_speaks_for_a_change() -> None:
    places = (
        began_in("payments", traces=10, external="archive"),
        began_in("payments", traces=30, external="bank"),
    )
    observations = bank(
        origins=places,
        by_version={("payments", "v2"): ILL, ("payments", "v1"): WELL},
        probes_bp={"archive": 10_000, "bank": 2_000},
    )
    assert acquittals(observations)["payments"] == "bank itself answers only 2000 bp of its probes"


def test_a_dependency_where_few_traces_end_is_not_the_cause() -> None:
    origins = (began_in("gateway", traces=60), began_in("payments", traces=40, external="bank"))
    found = diagnose(bank(origins=origins, probes_bp={"bank": 2_000}))
    assert CauseKind.EXTERNAL_DEPENDENCY not in {h.kind for h in found.hypotheses}


def replicas(*instances: Instance) -> Observations:
    return Observations(onset_ms=ONSET_MS, lookback_ms=LOOKBACK_MS, instances=instances)


@pytest.mark.parametrize(
    "sick",
    [
        replica(1, restarts=2),
        replica(1, state="crashed"),
        replica(1, state="backoff", restarts=5),
    ],
)
def test_a_replica_that_keeps_dying_beside_healthy_siblings_is_at_fault(sick: Instance) -> None:
    found = best(replicas(sick, replica(2), replica(3)))
    assert (found.kind, found.subject, found.service) == (
        CauseKind.INSTANCE_FAULT,
        "orders-1",
        "orders",
    )
    assert "2 siblings of version v1 are well" in found.reason


@pytest.mark.parametrize(
    "others",
    [
        (),
        (replica(2, restarts=1),),
        (replica(2, state="starting"), replica(3)),
        (replica(2, state="crashed"), replica(3)),
        (replica(2, version="v2"),),
        (replace(replica(2), service="gateway"),),
    ],
)
def test_without_healthy_siblings_of_its_version_no_single_replica_is_at_fault(
    others: tuple[Instance, ...],
) -> None:
    assert diagnose(replicas(replica(1, state="crashed", restarts=4), *others)).best is None


def test_a_single_respawn_is_not_a_fault() -> None:
    assert diagnose(replicas(replica(1, restarts=1), replica(2))).best is None


def test_a_guilty_change_ranks_above_a_sick_replica() -> None:
    sick = (replica(1, state="crashed"), replica(2))
    found = diagnose(seen(instances=sick)).hypotheses
    assert [h.kind for h in found] == [CauseKind.GUILTY_CHANGE, CauseKind.INSTANCE_FAULT]


def test_failing_traces_that_nothing_explains_are_unknown() -> None:
    found = best(seen(changes=(), by_version={}))
    assert (found.kind, found.subject, found.confidence_bp) == (CauseKind.UNKNOWN, "orders", 3_000)
    assert "40 of 40 failing traces begin in orders" in found.reason


def test_where_nothing_was_seen_nothing_is_claimed() -> None:
    found = diagnose(replicas())
    assert (found.best, found.hypotheses, found.acquitted) == (None, (), ())


counts = st.builds(
    lambda total, share: Counts(total * share, total), st.integers(0, 300), st.floats(0, 1)
)
services = st.sampled_from(["gateway", "orders", "payments"])
change_ids = st.sampled_from(["chg-gateway", "chg-orders", "chg-payments"])
scenes = st.builds(
    Observations,
    onset_ms=st.just(ONSET_MS),
    lookback_ms=st.just(LOOKBACK_MS),
    changes=st.lists(
        st.builds(change, services, ago_s=st.integers(0, 60)), max_size=4, unique_by=repr
    ),
    origins=st.lists(
        st.builds(
            began_in,
            services,
            traces=st.integers(1, 50),
            external=st.sampled_from(["", "bank", "post"]),
        ),
        max_size=4,
        unique_by=lambda o: (o.service, o.external),
    ),
    instances=st.lists(
        st.builds(
            replica,
            st.integers(1, 5),
            state=st.sampled_from(["ready", "crashed"]),
            restarts=st.integers(0, 3),
        ),
        max_size=4,
        unique_by=lambda i: i.instance,
    ),
    by_version=st.dictionaries(st.tuples(services, st.sampled_from(["v1", "v2"])), counts),
    before_change=st.dictionaries(change_ids, counts),
    first_stretches=st.dictionaries(
        change_ids, st.builds(FirstStretch, st.just(60), counts, counts)
    ),
    calls=st.dictionaries(
        st.tuples(services, st.sampled_from(["v1", "v2"]), st.sampled_from(["bank", "post"])),
        counts,
    ),
    probes_bp=st.dictionaries(st.sampled_from(["bank", "post"]), st.integers(0, 10_000)),
    probes_since=st.dictionaries(st.sampled_from(["bank", "post"]), counts),
)


@given(scene=scenes, rng=st.randoms(use_true_random=False))
def test_the_same_observations_in_any_order_give_the_same_answer(
    scene: Observations, rng: Random
) -> None:
    def mixed(items: list[T]) -> list[T]:
        return rng.sample(items, len(items))

    other = replace(
        scene,
        changes=mixed(list(scene.changes)),
        origins=mixed(list(scene.origins)),
        instances=mixed(list(scene.instances)),
        by_version=dict(mixed(list(scene.by_version.items()))),
        before_change=dict(mixed(list(scene.before_change.items()))),
        first_stretches=dict(mixed(list(scene.first_stretches.items()))),
        calls=dict(mixed(list(scene.calls.items()))),
        probes_bp=dict(mixed(list(scene.probes_bp.items()))),
        probes_since=dict(mixed(list(scene.probes_since.items()))),
    )
    assert diagnose(other) == diagnose(scene)


@given(scene=scenes)
def test_each_candidate_is_either_blamed_or_acquitted_with_a_reason(scene: Observations) -> None:
    found = diagnose(scene)
    blamed = [h.change for h in found.hypotheses if h.change is not None]
    acquitted = [a.change for a in found.acquitted]
    assert sorted(map(repr, [*blamed, *acquitted])) == sorted(map(repr, scene.changes))
    assert all(a.reason for a in found.acquitted)
    ranks = [h.confidence_bp for h in found.hypotheses]
    assert ranks == sorted(ranks, reverse=True)


@given(scene=scenes)
def test_no_change_is_guilty_unless_its_version_fails_materially_more(scene: Observations) -> None:
    for hypothesis in diagnose(scene).hypotheses:
        if hypothesis.kind is CauseKind.GUILTY_CHANGE:
            assert hypothesis.difference is not None
            assert hypothesis.difference.low_bp >= 0
            assert hypothesis.difference.difference_bp >= 100
            assert any(o.service == hypothesis.service for o in scene.origins)


@given(scene=scenes)
def test_no_lone_version_is_guilty_of_what_its_first_stretch_did_not_have(
    scene: Observations,
) -> None:
    for hypothesis in diagnose(scene).hypotheses:
        blamed = hypothesis.change
        if blamed is None or not stands_alone(scene.by_version, blamed):
            continue
        first = scene.first_stretches.get(blamed.change_id)
        if first is not None:
            assert first.new.total >= 10
            assert first.new.failed > 0
