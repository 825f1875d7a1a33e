from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop4.errors import QueryError
from loop4.tools.backends.prometheus import PrometheusMetrics
from loop4.tools.backends.promql import MOST_POINTS, EmbeddedMetrics, compiled
from loop4.tools.backends.series import SeriesStore

ORIGIN_MS = 1_790_000_000_000


def one_counter(*values: float, every_ms: int = 10_000, first_ms: int = 10_000) -> SeriesStore:
    store = SeriesStore()
    for index, value in enumerate(values):
        store.append("c", {"service": "orders"}, first_ms + index * every_ms, value)
    return store


def value_of(store: SeriesStore, expression: str, at_ms: int) -> float | None:
    series = compiled(expression).instant(store, at_ms)
    assert len(series) <= 1
    return series[0].points[0][1] if series else None


def test_a_counter_that_fills_the_window_is_extrapolated_to_both_ends() -> None:
    # samples at 10 s .. 60 s, window (0 s, 65 s]: 50 s sampled, 10 s before (one gap), 5 s after
    store = one_counter(100, 110, 120, 130, 140, 150)
    assert value_of(store, "increase(c[65s])", 65_000) == pytest.approx(50 * 65 / 50)
    assert value_of(store, "rate(c[65s])", 65_000) == pytest.approx(1.0)


def test_a_counter_that_begins_inside_the_window_is_extrapolated_by_half_a_gap_only() -> None:
    # samples at 40, 50, 60 s in (0 s, 60 s]: 40 s before the first, so half of 10 s
    store = one_counter(100, 110, 120, first_ms=40_000)
    assert value_of(store, "increase(c[1m])", 60_000) == pytest.approx(20 * 25 / 20)


def test_extrapolation_does_not_go_below_a_counters_zero() -> None:
    # 2 -> 22 in 20 s: zero lay 2 s before the first sample, nearer than half a gap
    store = one_counter(2, 12, 22, first_ms=40_000)
    assert value_of(store, "increase(c[1m])", 60_000) == pytest.approx(20 * 22 / 20)


def test_a_counter_reset_adds_what_was_counted_before_it() -> None:
    # 90 -> 100 (+10), reset to 5 (+5), -> 15 (+10)
    store = one_counter(90, 100, 5, 15)
    assert value_of(store, "increase(c[40s])", 45_000) == pytest.approx(25 * 40 / 30)


def test_a_window_is_open_on_the_left_and_closed_on_the_right() -> None:
    store = one_counter(0, 10, 20)  # at 10 s, 20 s, 30 s
    assert value_of(store, "increase(c[20s])", 30_000) == pytest.approx(20.0)  # 20 s and 30 s
    assert value_of(store, "increase(c[10s])", 30_000) is None  # 30 s alone
    assert value_of(store, "c", 310_000) == 20.0
    assert value_of(store, "c", 329_999) == 20.0
    assert value_of(store, "c", 330_000) is None  # five minutes after the newest sample


def test_a_stale_series_has_no_value_until_it_comes_back() -> None:
    store = one_counter(1, 2, 3)
    store.mark_stale("c", {"service": "orders"}, 35_000)
    assert value_of(store, "c", 34_000) == 3.0
    assert value_of(store, "c", 36_000) is None
    assert value_of(store, "increase(c[40s])", 40_000) is not None
    store.append("c", {"service": "orders"}, 40_000, 4.0)
    assert value_of(store, "c", 41_000) == 4.0


def test_an_ordinary_nan_is_a_value_and_not_the_end_of_a_series() -> None:
    store = one_counter(1, math.nan)
    found = value_of(store, "c", 21_000)
    assert found is not None
    assert math.isnan(found)


def test_nothing_stored_is_no_data_and_an_aggregate_of_nothing_too() -> None:
    store = SeriesStore()
    assert value_of(store, "sum(rate(c[1m]))", 60_000) is None
    assert value_of(store, "sum(rate(c[1m])) or vector(0)", 60_000) == 0.0


def test_a_quantile_lies_linearly_inside_its_bucket() -> None:
    store = SeriesStore()
    for bound, count in (("0.1", 10), ("0.2", 30), ("0.4", 30), ("+Inf", 40)):
        store.append("b", {"le": bound}, 1000, count)

    def at(quantile: float) -> float | None:
        return value_of(store, f"histogram_quantile({quantile}, b)", 1000)

    assert at(0.5) == pytest.approx(0.15)  # rank 20 of 10..30 between 0.1 and 0.2
    assert at(0.125) == pytest.approx(0.05)  # rank 5 of 0..10 between 0 and 0.1
    assert at(0.9) == pytest.approx(0.4)  # in +Inf: the last finite bound
    assert at(1.5) == math.inf
    assert at(-1) == -math.inf


def test_a_quantile_without_the_last_bucket_or_without_requests_is_not_a_number() -> None:
    store = SeriesStore()
    for bound in ("0.1", "0.2"):
        store.append("b", {"le": bound, "kind": "cut"}, 1000, 5)
        store.append("b", {"le": bound, "kind": "idle"}, 1000, 0)
    store.append("b", {"le": "+Inf", "kind": "idle"}, 1000, 0)
    series = compiled("histogram_quantile(0.9, b)").instant(store, 1000)
    assert [s.labels["kind"] for s in series] == ["cut", "idle"]
    assert all(math.isnan(s.points[0][1]) for s in series)


@pytest.mark.parametrize(
    ("expression", "what", "column"),
    [
        ("topk(3, c)", "'topk'", 1),
        ("sum(c) + quantile(0.9, c)", "'quantile'", 10),
        ('abs(c{a="abs("})', "'abs'", 1),
        ('sum(c{a="irate("}) + irate(c[1m])', "'irate'", 22),
        ("avg_over_time(c[1m])", "'avg_over_time'", 1),
        ("c and c", "'and'", 3),
        ("c unless c", "'unless'", 3),
        ("c @ 3", "@", 3),
        ("rate(c[5m:1m])", "subquery", 7),
        ("c[5m]", "range selector", 2),
        ("c / on(service) group_left c", "'group_left'", 17),
        ('"text"', "string", 1),
        ("sum(c", "parenthesis", 4),
        ("c ==", "invalid", 3),
        ("c d", "invalid", 3),
        ("nope(c)", "nope", 1),
        ('c{a=~"(?P<x>b)"}', "regular expression", 0),
        ('c{a=~"[[:alpha:]]"}', "regular expression", 0),
        ("time()", "'time'", 1),
        ("c atan2 c", "'atan2'", 3),
    ],
)
def test_what_is_not_supported_is_refused_with_its_place(
    expression: str, what: str, column: int
) -> None:
    with pytest.raises(QueryError) as refused:
        compiled(expression)
    message = str(refused.value)
    assert what in message
    assert "\n" not in message
    if column:
        assert f"column {column}:" in message


@pytest.mark.parametrize(
    "expression",
    ["(" * 100_000, "-" * 8000 + "1", "c" * 10_000, "1^" * 99, "c[1e400]", "c offset 1e300"],
)
def test_a_monstrous_query_neither_crashes_nor_hangs(expression: str) -> None:
    try:
        compiled(expression)
    except QueryError:
        return
    assert len(expression) <= 8192


def test_ambiguous_matches_are_errors_and_not_guesses() -> None:
    store = SeriesStore()
    for instance in ("a", "b"):
        store.append("left", {"service": "s", "instance": instance}, 1000, 1)
        store.append("right", {"service": "s", "instance": instance}, 1000, 1)
    store.append("single", {"service": "s"}, 1000, 1)
    for expression in ("single / on(service) right", "left / on(service) single"):
        with pytest.raises(QueryError, match="side match"):
            compiled(expression).instant(store, 1000)
    with pytest.raises(QueryError, match="same labels"):
        compiled('-{__name__=~"left|right"}').instant(store, 1000)


def test_a_range_holds_both_ends_and_too_many_points_are_refused() -> None:
    store = one_counter(1, 2, 3)
    series = compiled("c").range(store, 10_000, 30_000, 10_000)
    assert series[0].points == ((10_000, 1.0), (20_000, 2.0), (30_000, 3.0))
    with pytest.raises(QueryError, match="points"):
        compiled("c").range(store, 0, MOST_POINTS, 1)
    with pytest.raises(QueryError, match="step"):
        compiled("c").range(store, 0, 10, 0)


def test_the_store_forgets_what_is_older_than_its_retention() -> None:
    store = SeriesStore(retention_ms=60_000)
    store.append("gone", {}, 0, 1.0)
    for at_ms in range(0, 6_000_000, 1000):
        store.append("c", {}, at_ms, at_ms)
    kept = list(store.all_series())
    assert [dict(s.labels)["__name__"] for s in kept] == ["c"]
    assert kept[0].times[0] >= 6_000_000 - 80_000
    assert value_of(store, "gone", 6_000_000) is None


def test_a_sample_that_comes_late_or_twice_is_dropped_and_counted() -> None:
    store = one_counter(1, 2)
    store.append("c", {"service": "orders"}, 20_000, 9.0)
    store.append("c", {"service": "orders"}, 15_000, 9.0)
    assert store.dropped == 2
    assert value_of(store, "c", 20_000) == 2.0


EXPRESSIONS = [
    "http_requests_total",
    'http_requests_total{outcome="error"}',
    'http_requests_total{outcome!="error",service=~"or.*|gateway"}',
    'http_requests_total{instance!~".*-2", missing=""}',
    '{__name__=~"queue.*", service="orders"}',
    "rate(http_requests_total[1m])",
    "increase(http_requests_total[2m])",
    "rate(http_requests_total[1m] offset 2m)",
    "sum by (service) (rate(http_requests_total[90s]))",
    "sum without (instance, version) (increase(http_requests_total[3m]))",
    "avg(queue_length)",
    "min by (service) (queue_length)",
    "max by (service, nothing) (queue_length)",
    "count by (outcome) (http_requests_total)",
    "sum(odd_value)",
    "min(odd_value)",
    "max(odd_value)",
    "odd_value / odd_value",
    "1 / odd_value",
    "odd_value % 0",
    "odd_value ^ 0.5",
    "-odd_value",
    "odd_value == odd_value",
    "queue_length * 2 - 1",
    "queue_length > 0",
    "0 < queue_length",
    "queue_length >= bool 1.5",
    "queue_length > bool on(instance) queue_length",
    "queue_length < on(instance, service) (queue_length + 1)",
    "queue_length > ignoring(version) (queue_length - 1)",
    'sum by (service) (rate(http_requests_total{outcome="error"}[1m]))'
    " / sum by (service) (rate(http_requests_total[1m]))",
    'rate(http_requests_total{outcome="error"}[1m])'
    ' / ignoring(outcome) rate(http_requests_total{outcome="ok"}[1m])',
    "1 - (sum(increase(http_requests_total{outcome='ok'}[60s])) or vector(0))"
    " / sum(increase(http_requests_total[60s]))",
    "histogram_quantile(0.5, sum by (le) (rate(request_seconds_bucket[1m])))",
    "histogram_quantile(0.99, rate(request_seconds_bucket[2m]))",
    "histogram_quantile(0, request_seconds_bucket)",
    "histogram_quantile(1, sum by (service, le) (request_seconds_bucket))",
    "queue_length or http_requests_total",
    "queue_length or on(service) router_weight_bp",
    "router_weight_bp / 10000",
    "nothing or vector(3)",
    "2 ^ 3 ^ 2 + 7 % 4",
    "1 > bool 2",
    "queue_length / on(service) router_weight_bp",
    "router_weight_bp / on(service) queue_length",
    '-{__name__=~"http_requests_total|queue_length", instance="orders-1"}',
    '{__name__=~"odd.*|router.*"} * 1',
]


def _comparable(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def compare(store: SeriesStore, url: str, expression: str, at_ms: int) -> None:
    async def both() -> tuple[object, object]:
        async with PrometheusMetrics(url) as real:
            return await _outcome(real, expression, at_ms), await _outcome(
                EmbeddedMetrics(store), expression, at_ms
            )

    theirs, ours = asyncio.run(both())
    assert ours == theirs, expression


async def _outcome(
    metrics: EmbeddedMetrics | PrometheusMetrics, expression: str, at_ms: int
) -> object:
    """Values by labels, or "error" for a query that was refused."""
    try:
        series = await metrics.query(expression, at_ms)
    except QueryError:
        return "error"
    return {tuple(sorted(s.labels.items())): _comparable(s.points[0][1]) for s in series}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_evaluator_agrees_with_a_real_prometheus(
    expression: str, store: SeriesStore, prometheus: str
) -> None:
    for offset_ms in (2_000, 61_000, 230_000, 303_000, 340_000, 420_000, 599_000, 760_000):
        compare(store, prometheus, expression, ORIGIN_MS + offset_ms)


SELECTORS = st.sampled_from(
    [
        "http_requests_total",
        'http_requests_total{outcome="error"}',
        'http_requests_total{service!="orders"}',
        "queue_length",
        "router_weight_bp",
        "request_seconds_bucket",
        "odd_value",
        "nothing",
    ]
)
GROUPINGS = st.sampled_from(
    ["by (service)", "by (service, outcome)", "without (instance)", "by (le)", ""]
)
MATCHINGS = st.sampled_from(["", "on(service)", "ignoring(outcome)", "on(instance, outcome)"])


def _wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    aggregations = st.sampled_from(["sum", "avg", "min", "max", "count"])
    operators = st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "> bool", "or"])
    numbers = st.sampled_from(["0", "2", "0.5", "-1"])
    return st.one_of(
        st.builds("{} {} ({})".format, aggregations, GROUPINGS, inner),
        st.builds("({} {} {} {})".format, inner, operators, MATCHINGS, inner),
        st.builds("({} * {})".format, inner, numbers),
        st.builds("({} < {})".format, numbers, inner),
        st.builds("-({})".format, inner),
        st.builds("histogram_quantile(0.9, {})".format, inner),
    )


QUERIES = st.recursive(
    st.one_of(
        SELECTORS,
        st.builds(
            "{}({}[{}s])".format,
            st.sampled_from(["rate", "increase"]),
            SELECTORS,
            st.integers(6, 200),
        ),
    ),
    _wrapped,
    max_leaves=5,
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(expression=QUERIES, at_s=st.integers(0, 700))
def test_random_queries_agree_with_a_real_prometheus(
    expression: str, at_s: int, store: SeriesStore, prometheus: str
) -> None:
    compare(store, prometheus, expression, ORIGIN_MS + at_s * 1000)
