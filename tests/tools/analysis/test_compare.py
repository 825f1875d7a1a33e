"""Failure shares compared: published intervals, what too little traffic means, and what is never
turned around.
"""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.tools.analysis.compare import Z_99, Comparison, compare_failures, wilson

Z_95 = 1.959964

groups = st.integers(10, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def roots(failed: float, total: float, z: float) -> tuple[float, float]:
    """Wilson's own words: the two shares p at which |failed/total - p| = z sqrt(p (1 - p) / n)."""
    share = failed / total
    a, b, c = 1 + z * z / total, -(2 * share + z * z / total), share * share
    spread = sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - spread) / (2 * a), (-b + spread) / (2 * a)


def newcombe(
    new: tuple[float, float], old: tuple[float, float], z: float
) -> tuple[float, float, float]:
    """Method 10 as the paper states it, on `roots`: difference, lower, upper."""
    (low_1, high_1), (low_2, high_2) = roots(*new, z), roots(*old, z)
    p_1, p_2 = new[0] / new[1], old[0] / old[1]
    gap = p_1 - p_2
    return (
        gap,
        gap - sqrt((p_1 - low_1) ** 2 + (high_2 - p_2) ** 2),
        gap + sqrt((high_1 - p_1) ** 2 + (p_2 - low_2) ** 2),
    )


@pytest.mark.parametrize(
    ("failed", "total", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    failed: int, total: int, low: float, high: float
) -> None:
    assert wilson(failed, total, Z_95) == pytest.approx((low, high), abs=5e-5)


@given(group=groups, z=st.sampled_from([Z_95, Z_99]))
def test_wilson_gives_the_roots_of_its_own_definition(group: tuple[int, int], z: float) -> None:
    assert wilson(*group, z) == pytest.approx(roots(*group, z), abs=1e-9)


@given(group=groups, times=st.integers(2, 50))
def test_more_requests_with_the_same_share_never_widen_wilsons_interval(
    group: tuple[int, int], times: int
) -> None:
    failed, total = group
    low, high = wilson(failed, total)
    narrow_low, narrow_high = wilson(failed * times, total * times)
    assert 0 <= low <= narrow_low + 1e-12
    assert narrow_high - 1e-12 <= high <= 1
    assert narrow_low <= failed / total + 1e-12
    assert failed / total - 1e-12 <= narrow_high


@pytest.mark.parametrize(
    ("new", "old", "low", "high"),
    [
        # Newcombe 1998, "Interval estimation for the difference between independent proportions",
        # table II, method 10, 95 %
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_formula_that_the_next_test_holds_us_to_is_the_published_one(
    new: tuple[int, int], old: tuple[int, int], low: float, high: float
) -> None:
    assert newcombe(new, old, Z_95)[1:] == pytest.approx((low, high), abs=5e-5)


@given(new=groups, old=groups)
def test_a_comparison_is_newcombes_interval_at_99_percent(
    new: tuple[int, int], old: tuple[int, int]
) -> None:
    found = compare_failures(*new, *old)
    gap, low, high = newcombe(new, old, Z_99)
    assert found.difference_bp == pytest.approx(gap * 10_000, abs=0.51)
    assert found.low_bp == pytest.approx(low * 10_000, abs=0.51)
    assert found.high_bp == pytest.approx(high * 10_000, abs=0.51)
    assert found.new_bp == pytest.approx(new[0] / new[1] * 10_000, abs=0.51)
    assert found.old_bp == pytest.approx(old[0] / old[1] * 10_000, abs=0.51)
    assert -10_000 <= found.low_bp <= found.difference_bp <= found.high_bp <= 10_000
    assert (found.verdict is Comparison.WORSE) is (low > 0 and round(gap * 10_000) >= 100)


@given(new=groups, old=groups)
def test_swapping_the_sides_mirrors_the_interval_and_both_cannot_be_worse(
    new: tuple[int, int], old: tuple[int, int]
) -> None:
    forth, back = compare_failures(*new, *old), compare_failures(*old, *new)
    assert (back.difference_bp, back.low_bp, back.high_bp) == (
        -forth.difference_bp,
        -forth.high_bp,
        -forth.low_bp,
    )
    assert {forth.verdict, back.verdict} != {Comparison.WORSE}


@given(new=groups, old=groups, more=st.integers(0, 5_000))
def test_a_new_version_that_fails_more_is_never_judged_better(
    new: tuple[int, int], old: tuple[int, int], more: int
) -> None:
    before = compare_failures(*new, *old)
    after = compare_failures(min(new[0] + more, new[1]), new[1], *old)
    assert after.low_bp >= before.low_bp
    assert after.high_bp >= before.high_bp
    if before.verdict is Comparison.WORSE:
        assert after.verdict is Comparison.WORSE


@given(new=groups, old=groups, times=st.integers(2, 20))
def test_the_same_shares_on_more_traffic_keep_a_verdict_of_worse(
    new: tuple[int, int], old: tuple[int, int], times: int
) -> None:
    if compare_failures(*new, *old).verdict is Comparison.WORSE:
        many = compare_failures(*(times * n for n in new), *(times * n for n in old))
        assert many.verdict is Comparison.WORSE


@given(
    few=st.floats(0, 9.99), enough=groups, share=st.floats(0, 1), least=st.sampled_from([10.0, 30])
)
def test_fewer_requests_than_the_minimum_are_no_data_on_either_side(
    few: float, enough: tuple[int, int], share: float, least: float
) -> None:
    for counts in ((few * share, few, *enough), (*enough, few * share, few)):
        found = compare_failures(*counts, minimum=least)
        assert found.verdict is Comparison.NO_DATA
        assert (found.low_bp, found.high_bp) == (-10_000, 10_000)


def test_the_minimum_itself_is_enough() -> None:
    assert compare_failures(10, 10, 0, 10).verdict is Comparison.WORSE
    assert compare_failures(9, 9.9, 0, 10).verdict is Comparison.NO_DATA
    assert compare_failures(10, 10, 0, 10, minimum=11).verdict is Comparison.NO_DATA


def test_no_requests_at_all_are_no_data() -> None:
    assert compare_failures(0, 0, 0, 0).verdict is Comparison.NO_DATA


@given(new=st.integers(10, 5_000), old=st.integers(10, 5_000))
def test_zero_failures_on_both_sides_are_the_same_but_not_certain(new: int, old: int) -> None:
    found = compare_failures(0, new, 0, old)
    assert found.verdict is Comparison.SAME
    assert (found.new_bp, found.old_bp, found.difference_bp) == (0, 0, 0)
    assert found.low_bp < 0 < found.high_bp


def test_a_sure_but_small_difference_is_not_worse() -> None:
    sure = compare_failures(600, 100_000, 400, 100_000)
    assert (sure.difference_bp, sure.verdict) == (20, Comparison.SAME)
    assert sure.low_bp > 0
    small = compare_failures(600, 100_000, 400, 100_000, material_bp=20)
    assert small.verdict is Comparison.WORSE


def test_a_large_but_unsure_difference_is_not_worse() -> None:
    unsure = compare_failures(2, 20, 0, 20)
    assert (unsure.difference_bp, unsure.verdict) == (1_000, Comparison.SAME)
    assert unsure.low_bp < 0
    assert compare_failures(200, 2_000, 0, 2_000).verdict is Comparison.WORSE


def test_failing_less_is_not_worse() -> None:
    assert compare_failures(0, 500, 250, 500).verdict is Comparison.SAME


@pytest.mark.parametrize("wrong", [(-1, 20), (0, -20), (21, 20), (1, 0), (-0.001, 20)])
def test_impossible_counts_raise_and_name_the_numbers(wrong: tuple[float, float]) -> None:
    match = rf"impossible counts: {wrong[0]} failed of {wrong[1]}"
    with pytest.raises(ValueError, match=match):
        compare_failures(*wrong, 0, 100)
    with pytest.raises(ValueError, match=match):
        compare_failures(0, 100, *wrong)


def test_a_rounding_error_of_extrapolated_counters_is_not_impossible() -> None:
    assert compare_failures(20 + 1e-9, 20, 0, 20) == compare_failures(20, 20, 0, 20)
