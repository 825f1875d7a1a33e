"""What every agent that looks for a cause reads, and the diagnosis made of it.

The reads go through the run's `Reader`, so that two agents asking the same pay once.
Instrumentation conventions for external dependencies: `probe_success{dependency}` (blackbox probe,
0 or 1) and `dependency_requests_total{service,version,dependency,outcome}`; where they are absent
the finding says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from loop4.agents.agent import Brief
from loop4.domain import SourceKind
from loop4.policies.targets import Target
from loop4.tools.analysis.diagnosis.causes import Counts, Diagnosis, Observations, diagnose
from loop4.tools.analysis.diagnosis.origin import error_origins
from loop4.tools.backends.ports import Change, Instance, Inventory, Series
from loop4.tools.names import label_literal
from loop4.tools.reader import NOTHING, Read

CHANGE_LOOKBACK_MS = 15 * 60_000
SPAN_LIMIT = 4_000


@dataclass(frozen=True, slots=True)
class Investigation:
    """A diagnosis, the evidence ids it stands on by kind, and what was missing.

    `about_instance`: metrics evidence that concerns one replica alone.
    """

    diagnosis: Diagnosis
    inventory: Inventory | None
    changes: tuple[Change, ...]
    evidence: dict[SourceKind, tuple[str, ...]]
    missing: tuple[str, ...]
    about_instance: dict[str, tuple[str, ...]]

    def cite(self, sources: Sequence[SourceKind]) -> tuple[str, ...]:
        """Evidence ids of these kinds that gave a value, in a fixed order."""
        return tuple(e for s in sources for e in self.evidence.get(s, ()))


T = TypeVar("T")


class _Notebook:
    """Collects evidence ids of answered reads and the gaps."""

    def __init__(self) -> None:
        self.evidence: dict[SourceKind, tuple[str, ...]] = {}
        self.missing: list[str] = []

    def note(self, read: Read[T], *, quiet: bool = False) -> None:
        if read.value is not None:
            held = self.evidence.get(read.source, ())
            if read.evidence not in held:
                self.evidence[read.source] = (*held, read.evidence)
        elif not (quiet and read.missing.endswith(NOTHING)):
            gap = read.denied or read.missing
            if gap and gap not in self.missing:
                self.missing.append(gap)


async def investigate(brief: Brief) -> Investigation:
    """Read changes, traces, logs, inventory and metrics around the event and diagnose."""
    book = _Notebook()
    now_ms = brief.now_ms
    services = related_services(brief)
    long_s = max((t.windows[0].long_s for t in brief.targets if t.service in services), default=60)
    changes_read = await brief.reader.changes(now_ms - CHANGE_LOOKBACK_MS, now_ms)
    book.note(changes_read)
    changes = tuple(c for c in changes_read.value or () if c.service in services)
    inventory_read = await brief.reader.inventory()
    book.note(inventory_read)
    inventory = inventory_read.value
    spans_read = await brief.reader.spans(now_ms - long_s * 1000, now_ms, limit=SPAN_LIMIT)
    book.note(spans_read)
    externals = brief.catalogue.externals
    origins = error_origins(spans_read.value or (), externals)
    for service in sorted({o.service for o in origins[:3]} | _own(brief)):
        book.note(
            await brief.reader.logs(now_ms - long_s * 1000, now_ms, service=service), quiet=True
        )
    by_version, before = await _version_counts(brief, book, changes, services, long_s)
    probes, calls = await _dependencies(brief, book, long_s)
    seen = Observations(
        onset_ms=now_ms,
        lookback_ms=CHANGE_LOOKBACK_MS,
        changes=changes,
        origins=origins,
        instances=_instances(inventory, services),
        by_version=by_version,
        before_by_service=before,
        calls=calls,
        probes_bp=probes,
    )
    return Investigation(
        diagnose(seen),
        inventory,
        changes,
        book.evidence,
        tuple(book.missing),
        await _restarts(brief, book, seen.instances, long_s),
    )


async def _restarts(
    brief: Brief, book: _Notebook, instances: Sequence[Instance], long_s: int
) -> dict[str, tuple[str, ...]]:
    """What the metrics say of each replica that is not well: its own respawns, and nothing else."""
    about: dict[str, tuple[str, ...]] = {}
    for sick in instances:
        if sick.restarts < 2 and sick.state not in ("crashed", "backoff"):
            continue
        read = await brief.reader.query(
            f"increase(process_restarts_total{{instance={label_literal(sick.instance)}}}"
            f"[{long_s}s])",
            brief.now_ms,
        )
        book.note(read, quiet=True)
        if read.value is not None:
            about[sick.instance] = (read.evidence,)
    return about


def related_services(brief: Brief) -> frozenset[str]:
    """The event's service, what it depends on and what depends on it."""
    name = brief.event.service
    return frozenset({name, *brief.catalogue.downstream(name), *brief.catalogue.upstream(name)})


def _own(brief: Brief) -> set[str]:
    return {brief.event.service}


def _instances(inventory: Inventory | None, services: frozenset[str]) -> tuple[Instance, ...]:
    if inventory is None:
        return ()
    return tuple(i for w in inventory.workloads if w.service in services for i in w.instances)


def availability_target(targets: Sequence[Target], service: str) -> Target | None:
    """The service's first target that counts good and total requests, or None."""
    return next((t for t in targets if t.service == service and t.is_availability), None)


async def _version_counts(
    brief: Brief,
    book: _Notebook,
    changes: tuple[Change, ...],
    services: frozenset[str],
    long_s: int,
) -> tuple[dict[tuple[str, str], Counts], dict[str, Counts]]:
    """Failed and total per (service, version) since the newest change, and per service before
    it.
    """
    by_version: dict[tuple[str, str], Counts] = {}
    before: dict[str, Counts] = {}
    for service in sorted(services):
        target = availability_target(brief.targets, service)
        newest = max((c.at_ms for c in changes if c.service == service), default=None)
        if target is None or newest is None:
            continue
        window_s = min(long_s, max(5, (brief.now_ms - newest) // 1000))
        totals = await brief.reader.query(target.total_by("version", window_s), brief.now_ms)
        goods = await brief.reader.query(target.good_by("version", window_s), brief.now_ms)
        book.note(totals)
        book.note(goods, quiet=True)
        good = _by_label(goods.value, "version")
        for version, total in _by_label(totals.value, "version").items():
            failed = min(total, max(0.0, total - good.get(version, 0.0)))
            by_version[service, version] = Counts(failed, total)
        total_before = await brief.reader.query(target.total_query(window_s), newest)
        good_before = await brief.reader.query(target.good_query(window_s), newest)
        all_before, ok_before = _scalar(total_before.value), _scalar(good_before.value)
        if all_before is not None:
            book.note(total_before)
            before[service] = Counts(
                min(all_before, max(0.0, all_before - (ok_before or 0.0))), all_before
            )
    return by_version, before


async def _dependencies(
    brief: Brief, book: _Notebook, long_s: int
) -> tuple[dict[str, int], dict[tuple[str, str, str], Counts]]:
    """Share of successful probes per dependency over the last third of the window, and calls by
    version.
    """
    window_s = max(5, long_s // 4)
    probes: dict[str, int] = {}
    calls: dict[tuple[str, str, str], Counts] = {}
    for name in sorted(brief.catalogue.externals):
        probe = await brief.reader.query_range(
            f"probe_success{{dependency={label_literal(name)}}}",
            brief.now_ms - window_s * 1000,
            brief.now_ms,
            1000,
        )
        book.note(probe, quiet=True)
        points = [value for series in probe.value or () for _, value in series.points]
        if points:
            probes[name] = round(sum(points) / len(points) * 10_000)
        read = await brief.reader.query(
            "sum by (service, version, outcome) (increase("
            f"dependency_requests_total{{dependency={label_literal(name)}}}[{window_s}s]))",
            brief.now_ms,
        )
        book.note(read, quiet=True)
        totals: dict[tuple[str, str], list[float]] = {}
        for series in read.value or ():
            key = (series.labels.get("service", ""), series.labels.get("version", ""))
            pair = totals.setdefault(key, [0.0, 0.0])
            value = series.points[-1][1]
            pair[1] += value
            if series.labels.get("outcome") != "ok":
                pair[0] += value
        for (service, version), (failed, total) in totals.items():
            calls[service, version, name] = Counts(failed, total)
    return probes, calls


def _by_label(series: Sequence[Series] | None, label: str) -> dict[str, float]:
    return {s.labels.get(label, ""): s.points[-1][1] for s in series or () if s.points}


def _scalar(series: Sequence[Series] | None) -> float | None:
    return series[0].points[-1][1] if series and series[0].points else None
