"""How the external dependencies do: their probes, and our calls to them by version.

Instrumentation conventions: `probe_success{dependency}` (blackbox probe, 0 or 1) and
`dependency_requests_total{service,version,dependency,outcome}`; where they are absent the finding
says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loop4.agents.agent import Brief
from loop4.agents.notebook import Notebook
from loop4.tools.analysis.diagnosis.causes import PROBE_FAILING_BP
from loop4.tools.analysis.diagnosis.observations import Counts
from loop4.tools.backends.ports import Series
from loop4.tools.names import label_literal


@dataclass(slots=True)
class DependencyCounts:
    """Per dependency the share of answered probes over the last quarter of the window, and failed
    and all probes of it since calls fail (absent where the former tells enough); calls per
    (service, version, dependency).
    """

    probes_bp: dict[str, int] = field(default_factory=dict)
    probes_since: dict[str, Counts] = field(default_factory=dict)
    calls: dict[tuple[str, str, str], Counts] = field(default_factory=dict)


async def count_dependencies(
    brief: Brief, book: Notebook, fails_since_ms: Mapping[str, int], long_s: int
) -> DependencyCounts:
    """The counts of every external dependency. `fails_since_ms`: since when calls to it fail, where
    they do.
    """
    window_s = max(5, long_s // 4)
    counted = DependencyCounts()
    for name in sorted(brief.catalogue.externals):
        start_ms = brief.now_ms - window_s * 1000
        points = await _probes(brief, book, name, start_ms)
        answered_bp = _answered_bp(points)
        if answered_bp is not None:
            counted.probes_bp[name] = answered_bp
            fails_ms = fails_since_ms.get(name, 0)
            if answered_bp >= PROBE_FAILING_BP and 0 < fails_ms < start_ms:
                points = await _probes(brief, book, name, fails_ms)  # well again, or never ill?
            if fails_ms:
                since = [value for at_ms, value in points if at_ms >= fails_ms]
                counted.probes_since[name] = Counts(len(since) - sum(since), len(since))
        read = await brief.reader.query(
            "sum by (service, version, outcome) (increase("
            f"dependency_requests_total{{dependency={label_literal(name)}}}[{window_s}s]))",
            brief.now_ms,
        )
        book.note(read, quiet=True)
        for (service, version), counts in _by_version(read.value or ()).items():
            counted.calls[service, version, name] = counts
    return counted


async def _probes(
    brief: Brief, book: Notebook, name: str, start_ms: int
) -> list[tuple[int, float]]:
    read = await brief.reader.query_range(
        f"probe_success{{dependency={label_literal(name)}}}", start_ms, brief.now_ms, 1000
    )
    book.note(read, quiet=True)
    return [point for series in read.value or () for point in series.points]


def _answered_bp(points: Sequence[tuple[int, float]]) -> int | None:
    if not points:
        return None
    return round(sum(value for _, value in points) / len(points) * 10_000)


def _by_version(found: Sequence[Series]) -> dict[tuple[str, str], Counts]:
    totals: dict[tuple[str, str], list[float]] = {}
    for series in found:
        key = (series.labels.get("service", ""), series.labels.get("version", ""))
        pair = totals.setdefault(key, [0.0, 0.0])
        value = series.points[-1][1]
        pair[1] += value
        if series.labels.get("outcome") != "ok":
            pair[0] += value
    return {key: Counts(failed, total) for key, (failed, total) in totals.items()}
