"""How the versions of a service do beside each other, before a change and right after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from loop4.agents.agent import Brief
from loop4.agents.notebook import Notebook
from loop4.policies.targets import Target
from loop4.tools.analysis.diagnosis.causes import FORWARD_KINDS, stands_alone
from loop4.tools.analysis.diagnosis.observations import Counts, FirstStretch
from loop4.tools.backends.ports import Change, Series

FIRST_STRETCH_S = 60  # at least; the short burn window where that is longer
LEAST_WINDOW_S = 5


@dataclass(slots=True)
class VersionCounts:
    """Failed and total requests: per (service, version) since the service's newest change, and per
    change id before the change and right after it. The last two only where they are asked for.
    """

    by_version: dict[tuple[str, str], Counts] = field(default_factory=dict)
    before_change: dict[str, Counts] = field(default_factory=dict)
    first_stretches: dict[str, FirstStretch] = field(default_factory=dict)


async def count_versions(
    brief: Brief,
    book: Notebook,
    changes: Sequence[Change],
    services: Collection[str],
    failing: Collection[str],
    long_s: int,
) -> VersionCounts:
    """The counts of these services. `failing` are those in which failing traces begin: only there
    is asked about the past of a version that has nothing old beside it.
    """
    counted = VersionCounts()
    for service in sorted(services):
        target = availability_target(brief.targets, service)
        mine = [c for c in changes if c.service == service]
        if target is None or not mine:
            continue
        await _beside(brief, book, target, mine, long_s, counted)
        if service not in failing:
            continue
        for change in mine:
            if change.kind in FORWARD_KINDS and stands_alone(counted.by_version, change):
                await _alone(brief, book, target, change, long_s, counted)
    return counted


def availability_target(targets: Sequence[Target], service: str) -> Target | None:
    """The service's first target that counts good and total requests, or None."""
    return next((t for t in targets if t.service == service and t.is_availability), None)


async def _beside(
    brief: Brief,
    book: Notebook,
    target: Target,
    changes: Sequence[Change],
    long_s: int,
    counted: VersionCounts,
) -> None:
    """Every version since the newest change, and the service before that one."""
    newest = max(changes, key=lambda c: c.at_ms)
    window_s = _window_s(brief, newest, long_s)
    for version, counts in (
        await _by_version(brief, book, target, window_s, brief.now_ms, quiet=False)
    ).items():
        counted.by_version[target.service, version] = counts
    await _before(brief, book, target, newest, window_s, counted)


async def _alone(
    brief: Brief,
    book: Notebook,
    target: Target,
    change: Change,
    long_s: int,
    counted: VersionCounts,
) -> None:
    """What speaks for or against a version with nothing old beside it: its service before the
    change, and its first stretch once that lies clear of what fails now.
    """
    if change.change_id not in counted.before_change:
        window_s = _window_s(brief, change, long_s)
        await _before(brief, book, target, change, window_s, counted)
    short_s = target.windows[0].short_s
    lasts_s = max(FIRST_STRETCH_S, short_s)
    over_ms = change.at_ms + lasts_s * 1000
    if over_ms + short_s * 1000 > brief.now_ms:
        return
    versions = await _by_version(brief, book, target, lasts_s, over_ms, quiet=True)
    counted.first_stretches[change.change_id] = FirstStretch(
        lasts_s,
        versions.get(change.to_version, Counts()),
        versions.get(change.from_version, Counts()),
    )


async def _by_version(
    brief: Brief, book: Notebook, target: Target, window_s: int, at_ms: int, *, quiet: bool
) -> Mapping[str, Counts]:
    totals = await brief.reader.query(target.total_by("version", window_s), at_ms)
    goods = await brief.reader.query(target.good_by("version", window_s), at_ms)
    book.note(totals, quiet=quiet)
    book.note(goods, quiet=True)
    good = _by_label(goods.value, "version")
    return {
        version: _counts(total, good.get(version, 0.0))
        for version, total in _by_label(totals.value, "version").items()
    }


async def _before(
    brief: Brief,
    book: Notebook,
    target: Target,
    change: Change,
    window_s: int,
    counted: VersionCounts,
) -> None:
    total = await brief.reader.query(target.total_query(window_s), change.at_ms)
    good = await brief.reader.query(target.good_query(window_s), change.at_ms)
    before, ok = _scalar(total.value), _scalar(good.value)
    if before is not None:
        book.note(total)
        counted.before_change[change.change_id] = _counts(before, ok or 0.0)


def _window_s(brief: Brief, change: Change, long_s: int) -> int:
    """The long window, or the time since the change where that is shorter."""
    return min(long_s, max(LEAST_WINDOW_S, (brief.now_ms - change.at_ms) // 1000))


def _counts(total: float, good: float) -> Counts:
    return Counts(min(total, max(0.0, total - good)), total)


def _by_label(series: Sequence[Series] | None, label: str) -> dict[str, float]:
    return {s.labels.get(label, ""): s.points[-1][1] for s in series or () if s.points}


def _scalar(series: Sequence[Series] | None) -> float | None:
    return series[0].points[-1][1] if series and series[0].points else None
