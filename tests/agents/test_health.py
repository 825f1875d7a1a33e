"""Targets read against their budgets, and new versions against old ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from loop4.agents.health import AGENT, Burn, read_target
from loop4.domain import Reading, SourceKind
from loop4.policies.load import load_policy
from loop4.policies.targets import BurnWindow, Target
from loop4.tools.backends.ports import World
from loop4.tools.backends.promql import EmbeddedMetrics
from loop4.tools.backends.series import SeriesStore
from loop4.tools.reader import Reader, Scope
from tests.agents.conftest import Case, make_case, run
from tests.agents.worlds import assert_grounded, with_an_innocent_change, without
from tests.graphs.toy import START_MS, ToyClock

POLICY = load_policy()
STRICT = Target(  # fails above 2 % in both windows
    "shop",
    "shop",
    9_950,
    'requests_total{outcome="ok"}',
    "",
    "requests_total",
    windows=(BurnWindow(60, 10, 4.0),),
)
LOOSE = replace(STRICT, objective_bp=9_500, windows=(BurnWindow(60, 10, 1.0),))  # above 5 %


@dataclass
class Shop:
    """Requests of one service, one sample a second."""

    store: SeriesStore = field(default_factory=SeriesStore)
    now_ms: int = START_MS
    counts: dict[str, float] = field(default_factory=lambda: {"ok": 0.0, "error": 0.0})

    def run(self, seconds: int, *, requests: float, failing: float = 0.0) -> Shop:
        """Let time pass with so many requests a second, so many of them failing."""
        for _ in range(seconds):
            self.now_ms += 1000
            self.counts["ok"] += requests - failing
            self.counts["error"] += failing
            for outcome, count in self.counts.items():
                self.store.append("requests_total", {"outcome": outcome}, self.now_ms, count)
        return self

    def read(self, target: Target, world: World | None = None) -> Burn:
        scope = Scope("INC-2026-001", "lab", frozenset({"shop"}), self.now_ms - 900_000)
        reader = Reader(
            world if world is not None else World(metrics=EmbeddedMetrics(self.store)),
            POLICY,
            ToyClock(self.now_ms),
            scope,
        )
        burn = asyncio.run(read_target(reader, target, self.now_ms))
        assert set(burn.evidence) <= set(reader.records)
        return burn


def test_a_service_inside_its_budget_passes() -> None:
    burn = Shop().run(90, requests=20, failing=0.05).read(STRICT)
    assert (burn.reading, burn.ratio_bp) == (Reading.PASS, 25)
    assert len(burn.evidence) == 3


def test_a_service_that_burns_in_both_windows_fails_with_its_numbers() -> None:
    burn = Shop().run(90, requests=20, failing=2).read(STRICT)
    assert (burn.reading, burn.ratio_bp, burn.long_ratio_bp) == (Reading.FAIL, 1_000, 1_000)


def test_a_burst_that_the_long_window_does_not_see_passes() -> None:
    burn = Shop().run(90, requests=20).run(3, requests=20, failing=3).read(STRICT)
    assert burn.ratio_bp > 200 > burn.long_ratio_bp
    assert burn.reading is Reading.PASS


def test_failures_that_have_stopped_pass() -> None:
    burn = Shop().run(90, requests=20, failing=5).run(12, requests=20).read(STRICT)
    assert burn.ratio_bp == 0
    assert burn.long_ratio_bp > 200
    assert burn.reading is Reading.PASS


@pytest.mark.parametrize(
    ("failures", "reading"), [(1, Reading.PASS), (2, Reading.PASS), (3, Reading.FAIL)]
)
def test_it_takes_three_failures_in_the_short_window(failures: int, reading: Reading) -> None:
    burn = Shop().run(90, requests=2, failing=failures / 10).read(STRICT)
    assert burn.ratio_bp == failures * 500
    assert burn.reading is reading


@pytest.mark.parametrize(
    ("failures", "reading"), [(3, Reading.PASS), (4, Reading.FAIL), (6, Reading.FAIL)]
)
def test_it_takes_more_failures_than_chance_gives_a_service_on_its_target(
    failures: int, reading: Reading
) -> None:
    # of 20 with a budget of 5 %, the 99 % lower bounds are 3.9 % (3), 6.1 % (4) and 11.6 % (6)
    burn = Shop().run(90, requests=2, failing=failures / 10).read(LOOSE)
    assert burn.ratio_bp > 500
    assert burn.reading is reading


def test_silence_is_no_data() -> None:
    burn = Shop().read(STRICT)
    assert (burn.reading, burn.evidence) == (Reading.NO_DATA, ())
    assert "answered with nothing" in burn.missing


def test_a_counter_that_stands_still_is_no_data() -> None:
    burn = Shop().run(90, requests=20, failing=20).run(90, requests=0).read(STRICT)
    assert burn.reading is Reading.NO_DATA


@pytest.mark.parametrize(
    ("a_second", "minimum", "reading"),
    [
        (0.4, 1, Reading.NO_DATA),
        (0.5, 1, Reading.FAIL),
        (0.9, 10, Reading.NO_DATA),
        (1.0, 10, Reading.FAIL),
    ],
)
def test_low_traffic_is_no_data_however_much_of_it_fails(
    a_second: float, minimum: int, reading: Reading
) -> None:
    target = replace(STRICT, minimum_requests=minimum)
    burn = Shop().run(90, requests=a_second, failing=a_second).read(target)
    assert burn.reading is reading
    if reading is Reading.NO_DATA:
        assert burn.missing == f"only {a_second * 10:.0f} requests of shop in 10 s"


def test_without_metrics_there_is_no_data_and_the_gap_is_named() -> None:
    burn = Shop().run(90, requests=20).read(STRICT, World())
    assert (burn.reading, burn.missing) == (
        Reading.NO_DATA,
        "metrics: no back end is configured",
    )


def test_the_first_pair_that_fails_is_reported_and_else_the_first_of_all() -> None:
    fast, slow = BurnWindow(60, 10, 4.0), BurnWindow(90, 30, 1.0)
    both = replace(STRICT, windows=(fast, slow))
    smouldering = Shop().run(120, requests=20, failing=0.3)  # 1.5 %: under 2 %, over 0.5 %
    assert (smouldering.read(both).reading, smouldering.read(both).window) == (Reading.FAIL, slow)
    well = Shop().run(120, requests=20)
    assert (well.read(both).reading, well.read(both).window) == (Reading.PASS, fast)


def test_a_target_without_windows_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="'shop' has no burn windows"):
        Shop().run(5, requests=20).read(replace(STRICT, windows=()))


def test_a_breach_is_found_on_each_service_that_feels_it(case: Case) -> None:
    report = run(case.playbook("health"))
    burning = {f.subject for f in report.findings if f.kind == "burn_rate"}
    assert burning == {"gateway", "orders"}
    assert report.proposals == ()
    assert report.missing == ()
    assert_grounded(case, report)


def test_a_deploy_that_fails_more_than_what_it_replaced_is_found() -> None:
    case = make_case(change=with_an_innocent_change)
    report = run(case.playbook("health"))
    (found,) = [f for f in report.findings if f.kind == "version_regression"]
    assert found.subject == "chg-42"
    assert found.sources == (SourceKind.METRICS, SourceKind.CHANGES)
    assert "orders v2 fails" in found.claim
    assert_grounded(case, report)


def test_health_finds_nothing_where_nothing_is_wrong() -> None:
    report = run(make_case(deploy=False).playbook("health"))
    assert (report.findings, report.missing) == ((), ())


def test_low_traffic_in_the_world_is_missing_and_not_a_finding() -> None:
    thin = SeriesStore()
    for second in range(1, 73):
        for service in ("gateway", "orders", "payments"):
            for outcome, count in (("ok", 0.0), ("error", second * 0.4)):
                labels = {"service": service, "version": "v1", "outcome": outcome}
                thin.append("http_requests_total", labels, START_MS + second * 1000, count)
    case = make_case(change=lambda w: replace(w, metrics=EmbeddedMetrics(thin)))
    report = run(case.playbook("health"))
    assert report.findings == ()
    assert "orders-availability: no data (only 4 requests of orders in 10 s)" in report.missing


def test_without_metrics_every_target_is_missing() -> None:
    case = make_case(change=without("metrics"))
    report = run(case.playbook("health"))
    assert report.findings == ()
    assert {m.partition(":")[0] for m in report.missing} == {t.name for t in case.brief.targets}


def test_health_may_propose_nothing() -> None:
    assert AGENT.may_propose == frozenset()
