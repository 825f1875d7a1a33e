"""Severity by rule, and its clocks."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loop4.policies
from loop4.domain import Severity
from loop4.errors import PolicyError
from loop4.policies.severity import Duration, assess, breached_clocks, deadlines, load_severity

SHIPPED = Path(loop4.policies.__path__[0]) / "severity.yaml"
POLICY = load_severity()
WEDNESDAY_MS = 1_795_608_000_000  # 2026-11-25 12:00 UTC
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("breached", "impact_bp", "is_anomaly", "severity", "impact"),
    [
        (2, 500, False, Severity.SEV1, "significant"),
        (2, 499, False, Severity.SEV2, "limited"),
        (3, 10_000, True, Severity.SEV1, "significant"),
        (1, 10_000, True, Severity.SEV2, "significant"),
        (1, 0, False, Severity.SEV2, "none"),
        (0, 10_000, True, Severity.SEV3, "significant"),
        (0, 0, True, Severity.SEV3, "none"),
        (0, 0, False, Severity.SEV4, "none"),
        (0, 1, False, Severity.SEV4, "limited"),
    ],
)
def test_severity_follows_targets_and_impact(
    breached: int, impact_bp: int, is_anomaly: bool, severity: Severity, impact: str
) -> None:
    found = assess(
        POLICY, targets_breached=breached, customer_impact_bp=impact_bp, is_anomaly=is_anomaly
    )
    assert (found.severity, found.impact) == (severity, impact)


@given(breached=st.integers(0, 5), impact_bp=st.integers(0, 10_000), is_anomaly=st.booleans())
def test_impact_that_nobody_measured_never_makes_it_smaller(
    breached: int, impact_bp: int, is_anomaly: bool
) -> None:
    known = assess(
        POLICY, targets_breached=breached, customer_impact_bp=impact_bp, is_anomaly=is_anomaly
    )
    unknown = assess(
        POLICY, targets_breached=breached, customer_impact_bp=None, is_anomaly=is_anomaly
    )
    assert unknown.severity.rank <= known.severity.rank
    assert "could not be measured" in unknown.reason


@given(
    low=st.tuples(st.integers(0, 3), st.integers(0, 10_000)),
    more=st.tuples(st.integers(0, 3), st.integers(0, 10_000)),
)
def test_a_wider_breach_is_never_less_severe(low: tuple[int, int], more: tuple[int, int]) -> None:
    high = (low[0] + more[0], min(10_000, low[1] + more[1]))
    ranks = [
        assess(
            POLICY, targets_breached=targets, customer_impact_bp=impact, is_anomaly=True
        ).severity.rank
        for targets, impact in (low, high)
    ]
    assert ranks[1] <= ranks[0]


def test_the_shipped_clocks_are_the_organisations() -> None:
    limits = {s: deadlines(POLICY, s, WEDNESDAY_MS) for s in Severity}
    hours = {
        severity: tuple(
            (at_ms - WEDNESDAY_MS) / HOUR_MS
            for at_ms in (limit.ack_ms, limit.mitigate_ms, limit.resolve_ms)
        )
        for severity, limit in limits.items()
    }
    assert hours == {
        Severity.SEV1: (0.25, 1, 4),
        Severity.SEV2: (1, 4, 8),
        Severity.SEV3: (4, 24, 72),
        Severity.SEV4: (24, 5 * 24, 7 * 24),  # Thursday, Friday, Monday
    }


@given(start_s=st.integers(0, 4_000_000_000), days=st.integers(1, 10))
def test_business_days_end_on_a_weekday(start_s: int, days: int) -> None:
    end_ms = Duration(business_days=days).after(start_s * 1000)
    assert datetime.datetime.fromtimestamp(end_ms // 1000, datetime.UTC).weekday() < 5
    assert end_ms - start_s * 1000 >= days * 86_400_000


def test_a_clock_runs_out_only_after_its_limit() -> None:
    limits = deadlines(POLICY, Severity.SEV1, WEDNESDAY_MS)
    assert breached_clocks(limits, now_ms=limits.ack_ms) == ()
    assert breached_clocks(limits, now_ms=limits.ack_ms + 1) == ("ack",)
    late = limits.mitigate_ms + 1
    assert breached_clocks(limits, now_ms=late, acked_ms=WEDNESDAY_MS) == ("mitigate",)
    assert breached_clocks(limits, now_ms=late, acked_ms=limits.ack_ms + 1) == ("ack", "mitigate")


def test_who_is_woken() -> None:
    assert POLICY.rule(Severity.SEV1).page == ("primary", "secondary")
    assert POLICY.rule(Severity.SEV2).page == ("primary",)
    assert POLICY.rule(Severity.SEV2).page_on_miss == ("secondary",)
    assert POLICY.rule(Severity.SEV3).page == ()


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("significant_bp: 500", "significant_bp: 10001", "expected 1 to 10000"),
        ("limited_bp: 1", "limited_bp: 501", "above significant_bp"),
        ("ack: 15m", "ack: 15", "expected a string"),
        ("ack: 15m", "ack: 15 m", "expected a duration like"),
        ("SEV4:", "SEV5:", "did you mean"),
        ("postmortem: always", "postmortem: sometimes", "unknown postmortem"),
        ("page: [primary]", "page: [primry]", "did you mean 'primary'"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, good: str, bad: str, message: str
) -> None:
    right = SHIPPED.read_text(encoding="utf-8")
    assert good in right
    path = tmp_path / "severity.yaml"
    path.write_text(right.replace(good, bad, 1), encoding="utf-8")
    with pytest.raises(PolicyError, match=message) as caught:
        load_severity(path)
    assert "severity.yaml:" in str(caught.value)
