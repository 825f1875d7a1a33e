from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from loop4.errors import PolicyError
from loop4.policies.openslo import load_targets, read_targets
from loop4.policies.targets import DEFAULT_WINDOWS, BurnWindow, Target
from loop4.tools.backends.promql import EmbeddedMetrics
from loop4.tools.backends.series import SeriesStore

GOOD = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: orders-availability
  annotations:
    loop4/burn-windows: "60s/10s@4, 5m/1m@2.5"
    loop4/verification-window: "15s"
    loop4/minimum-requests: "10"
    example.com/other: "kept out"
spec:
  description: Orders answers
  service: orders
  budgetingMethod: Occurrences
  timeWindow: [{duration: 28d, isRolling: true}]
  indicator:
    metadata: {name: orders-ok}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: prometheus
            spec:
              query: 'http_requests_total{service="orders",outcome="ok"}'
        total:
          metricSource:
            type: Prometheus
            spec:
              query: http_requests_total{service="orders"}
  objectives:
    - target: 0.9995
"""
REFERRED = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: payments-failures}
spec:
  service: payments
  indicatorRef: payments-bad
  objectives: [{targetPercent: 99.5}]
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: payments-bad}
spec:
  ratioMetric:
    bad:
      metricSource: {type: prometheus, spec: {query: 'errors_total{service="payments"}'}}
    total:
      metricSource: {type: prometheus, spec: {query: 'requests_total{service="payments"}'}}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: not-ours}
spec: {anything: goes}
"""


def test_a_target_is_read_with_its_windows_and_its_place(tmp_path: Path) -> None:
    file = tmp_path / "orders.yaml"
    file.write_text(GOOD)
    (target,) = load_targets(tmp_path)
    assert target == Target(
        name="orders-availability",
        service="orders",
        objective_bp=9995,
        good='http_requests_total{service="orders",outcome="ok"}',
        bad="",
        total='http_requests_total{service="orders"}',
        windows=(BurnWindow(60, 10, 4.0), BurnWindow(300, 60, 2.5)),
        verification_window_s=15,
        budget_window_s=28 * 86_400,
        minimum_requests=10,
        description="Orders answers",
        file=str(file),
        line=4,
    )
    assert target.is_availability
    assert target.threshold(target.windows[0]) == pytest.approx(0.002)


def test_an_slo_may_refer_to_an_indicator_and_has_the_usual_windows() -> None:
    (target,) = read_targets([(REFERRED, "payments.yaml")])
    assert (target.good, target.bad) == ("", 'errors_total{service="payments"}')
    assert target.objective_bp == 9950
    assert target.windows == DEFAULT_WINDOWS
    assert target.verification_window_s == 300


def test_a_share_of_histogram_buckets_is_a_target_about_latency() -> None:
    text = GOOD.replace("http_requests_total{service", "seconds_bucket{service")
    (target,) = read_targets([(text, "x.yaml")])
    assert not target.is_availability


def test_a_folder_without_files_holds_no_target(tmp_path: Path) -> None:
    assert load_targets(tmp_path) == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("  objectives:\n    - target: 0.9995\n", "", 11, "no objective"),
        ("    - target: 0.9995\n", "    []\n", 31, "no objective"),
        ("- target: 0.9995", "- displayName: x", 31, "no objective"),
        ("target: 0.9995", "target: 1.0", 31, "below 1"),
        ("target: 0.9995", "target: 99.95", 31, "below 1"),
        ("target: 0.9995", "target: 0.99951", 31, "basis points"),
        ("target: 0.9995", 'target: "0.9995"', 31, "expected a number"),
        ("target: 0.9995", "target: {{TARGET}}", 31, "{{VAR}}"),
        ("target: 0.9995", "targte: 0.9995", 31, "'target'"),
        ("- target: 0.9995", "- target: 0.99\n    - target: 0.9", 32, "2 objectives"),
        ("        total:", "        totals:", 25, "did you mean 'total'"),
        ("        good:", "        bad:\n        good:", 19, "bad"),
        ("service: orders\n  b", "servcie: orders\n  b", 12, "did you mean 'service'"),
        ("loop4/burn-windows", "loop4/burn-window", 6, "loop4/burn-windows"),
        ('"60s/10s@4, 5m/1m@2.5"', '"10s/60s@4"', 6, "long window first"),
        ('"60s/10s@4, 5m/1m@2.5"', '"60s and 10s"', 6, "long/short@factor"),
        ('"60s/10s@4, 5m/1m@2.5"', '"60x/10s@4"', 6, "duration"),
        ('verification-window: "15s"', 'verification-window: "15"', 7, "duration"),
        ('minimum-requests: "10"', 'minimum-requests: "few"', 8, "number"),
        ("type: prometheus", "type: datadog", 22, "expected prometheus"),
        ("query: http_requests_total{", "query: sum(rate(http_requests_total{", 29, "raw counter"),
        ('outcome="ok"}', "outcome=ok}", 24, "raw counter"),
        ("duration: 28d", "duration: 28y", 14, "duration"),
        ("Occurrences", "Timeslices", 13, "Occurrences"),
        ("openslo/v1", "openslo/v2", 1, "openslo/v1"),
        ("kind: SLO", "kind: SLOO", 2, "did you mean 'SLO'"),
        ("name: orders-availability", "name: Orders Availability", 4, "lowercase"),
        ("counter: true", "counter: false", 19, "true"),
        ("service: orders\n", "service: [orders\n", 13, "broken YAML"),
        ("indicator:\n", "indicatorRef: x\n  indicator:\n", 11, "either indicator"),
    ],
)
def test_a_wrong_target_is_refused_with_its_line(old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    with pytest.raises(PolicyError) as refused:
        read_targets([(GOOD.replace(old, new, 1), "t.yaml")])
    assert said in str(refused.value)
    assert refused.value.line == line, str(refused.value)
    assert str(refused.value).startswith(f"t.yaml:{line}:")
    assert "\n" not in str(refused.value)


def test_the_same_query_above_and_below_the_line_is_a_wrong_ratio() -> None:
    text = GOOD.replace(',outcome="ok"', "")
    with pytest.raises(PolicyError, match="wrong ratio"):
        read_targets([(text, "t.yaml")])


def test_a_name_that_stands_twice_and_an_unknown_reference_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"b\.yaml:4:9: .*twice; first in a\.yaml:4"):
        read_targets([(GOOD, "a.yaml"), (GOOD, "b.yaml")])
    with pytest.raises(PolicyError, match="did you mean 'payments-bad'"):
        read_targets(
            [(REFERRED.replace("indicatorRef: payments-bad", "indicatorRef: payment-bad"), "")]
        )


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_targets(tmp_path / "missing.yaml")


def measured(target: Target, query: str, *counted: tuple[str, str, float]) -> dict[str, float]:
    """The query over a minute in which (metric and outcome, version, per second) was counted."""
    store = SeriesStore()
    for at_s in range(0, 61, 5):
        for name, version, per_s in counted:
            labels = {"service": target.service, "version": version, "outcome": name}
            store.append("http_requests_total", labels, at_s * 1000, at_s * per_s)
            if name == "error":
                store.append("errors_total", labels, at_s * 1000, at_s * per_s)
    series = asyncio.run(EmbeddedMetrics(store).query(query, 60_000))
    return {s.labels.get("version", ""): s.points[0][1] for s in series}


def test_the_error_ratio_is_the_failing_share_also_when_all_or_none_fail() -> None:
    (target,) = read_targets([(GOOD, "")])
    query = target.error_ratio_query(60)
    mixed = measured(target, query, ("ok", "1", 9.0), ("error", "1", 1.0))
    assert mixed == {"": pytest.approx(0.1)}
    assert measured(target, query, ("error", "1", 1.0)) == {"": pytest.approx(1.0)}
    assert measured(target, query, ("ok", "1", 9.0)) == {"": pytest.approx(0.0)}
    assert math.isnan(measured(target, query, ("ok", "1", 0.0))[""])
    assert measured(target, query) == {}
    assert measured(target, target.total_query(60), ("ok", "1", 9.0))[""] == pytest.approx(540)


def test_good_requests_by_version_count_zero_for_a_version_that_only_fails() -> None:
    (target,) = read_targets([(GOOD, "")])
    counted = (("ok", "1", 9.0), ("error", "2", 1.0))
    good = measured(target, target.good_by("version", 60), *counted)
    total = measured(target, target.total_by("version", 60), *counted)
    assert good == {"1": pytest.approx(540), "2": pytest.approx(0)}
    assert total == {"1": pytest.approx(540), "2": pytest.approx(60)}


def test_a_target_that_counts_bad_requests_measures_the_same() -> None:
    target = Target(
        "t", "payments", 9950, "", 'errors_total{service="payments"}', "http_requests_total"
    )
    counted = (("ok", "1", 9.0), ("error", "1", 1.0), ("ok", "2", 1.0))
    assert measured(target, target.error_ratio_query(60), *counted)[""] == pytest.approx(1 / 11)
    assert measured(target, target.good_query(60), *counted)[""] == pytest.approx(600)
    assert measured(target, target.good_by("version", 60), *counted) == {
        "1": pytest.approx(540),
        "2": pytest.approx(60),
    }
    assert measured(target, target.error_ratio_query(60), ("ok", "1", 9.0))[""] == 0.0
