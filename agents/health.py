"""The health agent: indicators against targets, burn rates, and new versions against old ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import investigate, related_services
from loop4.domain import EventKind, Finding, Reading, SourceKind
from loop4.policies.targets import BurnWindow, Target
from loop4.tools.analysis.compare import wilson
from loop4.tools.backends.ports import Series
from loop4.tools.reader import Read, Reader

MINIMUM_FAILURES = 3  # one failure among a few requests is an accident, not a breach
MINIMUM_REQUESTS = 5.0  # fewer in the short window is no data: low traffic proves nothing


@dataclass(frozen=True, slots=True)
class Burn:
    """One target read once. `ratio_bp` is the failing share in the short window, `burn` in
    multiples of the budget.
    """

    target: Target
    window: BurnWindow
    reading: Reading
    ratio_bp: int
    long_ratio_bp: int
    evidence: tuple[str, ...]
    missing: str = ""


async def read_target(reader: Reader, target: Target, at_ms: int) -> Burn:
    """Evaluate every window pair of a target; the first that fails wins, else the first pair's
    reading.

    A pair fails when both windows burn faster than its factor, and the short window's failures are
    at least three and more than chance gives a service that is exactly on target (99 % Wilson
    bound). No samples, or too few requests, is no data.
    """
    first: Burn | None = None
    for window in target.windows:
        burn = await _read_pair(reader, target, window, at_ms)
        if burn.reading is Reading.FAIL:
            return burn
        first = first or burn
    if first is None:
        raise ValueError(f"target {target.name!r} has no burn windows")
    return first


async def _read_pair(reader: Reader, target: Target, window: BurnWindow, at_ms: int) -> Burn:
    total = await reader.query(target.total_query(window.short_s), at_ms)
    short = await reader.query(target.error_ratio_query(window.short_s), at_ms)
    long = await reader.query(target.error_ratio_query(window.long_s), at_ms)
    requests, short_ratio, long_ratio = _value(total), _value(short), _value(long)
    evidence = tuple(r.evidence for r in (total, short, long) if r.value is not None)
    if requests is None or short_ratio is None or long_ratio is None:
        gap = total.missing or short.missing or long.missing or total.denied
        return Burn(target, window, Reading.NO_DATA, 0, 0, evidence, gap)
    if requests < max(MINIMUM_REQUESTS, target.minimum_requests):
        gap = f"only {requests:.0f} requests of {target.service} in {window.short_s} s"
        return Burn(target, window, Reading.NO_DATA, 0, 0, evidence, gap)
    limit = target.threshold(window)
    failures = min(requests, max(0.0, short_ratio * requests))
    at_least, _ = wilson(failures, requests)
    failed = (
        short_ratio > limit
        and long_ratio > limit
        and failures > MINIMUM_FAILURES - 0.5  # increase() extrapolates, counts are not whole
        and at_least > target.budget_ratio
    )
    return Burn(
        target,
        window,
        Reading.FAIL if failed else Reading.PASS,
        round(short_ratio * 10_000),
        round(long_ratio * 10_000),
        evidence,
    )


def _value(read: Read[Sequence[Series]]) -> float | None:
    series = read.value
    if not series or not series[0].points:
        return None
    value = series[0].points[-1][1]
    return None if value != value else value  # NaN: nothing was divided by nothing


async def health_playbook(brief: Brief) -> Report:
    """Burn-rate findings for the affected services, and each recent deploy compared with what it
    replaced.
    """
    findings: list[Finding] = []
    missing: list[str] = []
    services = related_services(brief)
    for target in brief.targets:
        if target.service not in services:
            continue
        burn = await read_target(brief.reader, target, brief.now_ms)
        if burn.reading is Reading.NO_DATA:
            missing.append(f"{target.name}: no data ({burn.missing})")
        elif burn.reading is Reading.FAIL:
            findings.append(_burn_finding(burn))
    findings += await _deployments(brief)
    return Report(tuple(findings), (), tuple(missing))


def _burn_finding(burn: Burn) -> Finding:
    budget_bp = 10_000 - burn.target.objective_bp
    return Finding(
        agent="health",
        kind="burn_rate",
        claim=f"{burn.target.name}: {burn.ratio_bp} bp fail over {burn.window.short_s} s and "
        f"{burn.long_ratio_bp} bp over {burn.window.long_s} s; the budget is {budget_bp} bp, "
        f"the alert line {burn.window.factor:g}x",
        subject=burn.target.service,
        evidence=burn.evidence,
        sources=(SourceKind.METRICS,),
        confidence_bp=9_500,
    )


async def _deployments(brief: Brief) -> list[Finding]:
    seen = await investigate(brief)
    findings = []
    for hypothesis in seen.diagnosis.hypotheses:
        change = hypothesis.change
        if change is None or hypothesis.difference is None:
            continue
        gap = hypothesis.difference
        findings.append(
            Finding(
                agent="health",
                kind="version_regression",
                claim=f"{change.service} {change.to_version} fails {gap.difference_bp} bp more "
                f"than what it replaced (99 % interval {gap.low_bp} to {gap.high_bp} bp)",
                subject=change.change_id,
                evidence=seen.cite((SourceKind.METRICS, SourceKind.CHANGES)),
                sources=(SourceKind.METRICS, SourceKind.CHANGES),
                confidence_bp=9_000,
            )
        )
    return findings


AGENT = Agent(
    name="health",
    answers_to=frozenset({EventKind.BREACH, EventKind.ALERT, EventKind.ANOMALY}),
    may_propose=frozenset(),
    playbook=health_playbook,
)
