"""Labelled series in memory: what the lab scrapes into and what a replay reads from.

One asyncio process owns a store; nothing here awaits, so no lock is needed inside it.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

from loop4.errors import QueryError

NAME = "__name__"
Labels: TypeAlias = "tuple[tuple[str, str], ...]"

_STALE_BITS = 0x7FF0000000000002
STALE: float = struct.unpack("<d", struct.pack("<Q", _STALE_BITS))[0]
"""Prometheus' staleness marker: the series ended here; an ordinary NaN is a value."""

_SWEEP_EVERY = 5000  # appends between two looks for series that nobody writes any more
_SELECTIONS = 2000  # remembered selectors before the memory is emptied


def is_stale(value: float) -> bool:
    """Whether a value is the staleness marker and not an ordinary number or NaN."""
    return math.isnan(value) and struct.unpack("<Q", struct.pack("<d", value))[0] == _STALE_BITS


class MatchKind(StrEnum):
    """The four comparisons of a label matcher."""

    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    MATCHES_NOT = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition. A label that a series does not have counts as empty."""

    label: str
    kind: MatchKind
    value: str

    def accepts(self, value: str) -> bool:
        """Whether a label value fits. Raises QueryError for an expression we cannot run."""
        match self.kind:
            case MatchKind.EQUAL:
                return value == self.value
            case MatchKind.NOT_EQUAL:
                return value != self.value
            case MatchKind.MATCHES:
                return _anchored(self.value).fullmatch(value) is not None
            case MatchKind.MATCHES_NOT:
                return _anchored(self.value).fullmatch(value) is None


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric name ("" = any) and conditions on labels."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    def accepts(self, labels: Labels) -> bool:
        """Whether a series with these labels is selected."""
        values = dict(labels)
        if self.name and values.get(NAME) != self.name:
            return False
        return all(matcher.accepts(values.get(matcher.label, "")) for matcher in self.matchers)


@dataclass(slots=True)
class StoredSeries:
    """One series: ascending times and their values. Read-only outside the store."""

    labels: Labels
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    has_stale: bool = False

    def at(self, at_ms: int, look_back_ms: int) -> float | None:
        """The newest value in (at - look_back, at], or None if there is none or it is stale."""
        index = bisect_right(self.times, at_ms) - 1
        if index < 0 or self.times[index] <= at_ms - look_back_ms:
            return None
        value = self.values[index]
        return None if self.has_stale and is_stale(value) else value

    def between(self, after_ms: int, until_ms: int) -> tuple[list[int], list[float]]:
        """Times and values in (after, until], staleness markers left out."""
        low, high = bisect_right(self.times, after_ms), bisect_right(self.times, until_ms)
        times, values = self.times[low:high], self.values[low:high]
        if self.has_stale:
            kept = [index for index, value in enumerate(values) if not is_stale(value)]
            if len(kept) < len(values):
                times, values = [times[i] for i in kept], [values[i] for i in kept]
        return times, values


class SeriesStore:
    """Series by metric name and labels; samples older than `retention_ms` fall away.

    Time is the samples' own: the store never asks for the present.
    """

    def __init__(self, retention_ms: int = 3_600_000) -> None:
        self.retention_ms = retention_ms
        self.newest_ms = 0
        self.dropped = 0
        self._names: dict[str, dict[Labels, StoredSeries]] = {}
        self._selections: dict[Selector, list[StoredSeries]] = {}
        self._appends = 0

    def append(self, name: str, labels: Mapping[str, str], at_ms: int, value: float) -> None:
        """Add one sample. A sample not newer than its series' newest is dropped and counted."""
        self.append_to(self.series_of(name, labels), at_ms, value)

    def mark_stale(self, name: str, labels: Mapping[str, str], at_ms: int) -> None:
        """End a series: from `at_ms` on it has no value until somebody appends again."""
        self.append_to(self.series_of(name, labels), at_ms, STALE)

    def series_of(self, name: str, labels: Mapping[str, str]) -> StoredSeries:
        """The series with this name and these labels, made if new. An empty label is no label."""
        return self.series_with(label_key(name, labels))

    def series_with(self, key: Labels) -> StoredSeries:
        """The series with exactly this key (from `label_key`), made if new."""
        name = dict(key).get(NAME, "")
        family = self._names.setdefault(name, {})
        series = family.get(key)
        if series is None:
            series = family[key] = StoredSeries(key)
            self._selections.clear()
        return series

    def append_to(self, series: StoredSeries, at_ms: int, value: float) -> None:
        """Add one sample to a series of this store; as `append`, without the look-up."""
        times = series.times
        if times and at_ms <= times[-1]:
            self.dropped += 1
            return
        times.append(at_ms)
        series.values.append(value)
        if value != value and is_stale(value):  # a comparison, for NaN is rare
            series.has_stale = True
        if at_ms > self.newest_ms:
            self.newest_ms = at_ms
        if times[0] < at_ms - self.retention_ms * 5 // 4:
            _forget(series, at_ms - self.retention_ms)
        self._appends += 1
        if self._appends >= _SWEEP_EVERY:
            self.sweep()

    def sweep(self) -> None:
        """Forget samples older than the retention, and series that have none left."""
        self._appends = 0
        oldest = self.newest_ms - self.retention_ms
        for name, family in list(self._names.items()):
            for key, series in list(family.items()):
                _forget(series, oldest)
                if not series.times:
                    del family[key]
                    self._selections.clear()
            if not family:
                del self._names[name]

    def select(self, selector: Selector) -> list[StoredSeries]:
        """The series a selector accepts, ordered by labels. Do not change the list."""
        found = self._selections.get(selector)
        if found is None:
            families = (
                [self._names.get(selector.name, {})] if selector.name else self._names.values()
            )
            found = sorted(
                (s for family in families for s in family.values() if selector.accepts(s.labels)),
                key=lambda series: series.labels,
            )
            if len(self._selections) >= _SELECTIONS:
                self._selections.clear()
            self._selections[selector] = found
        return found

    def all_series(self) -> Iterator[StoredSeries]:
        """Every series, by name and labels."""
        for name in sorted(self._names):
            for key in sorted(self._names[name]):
                yield self._names[name][key]


def label_key(name: str, labels: Mapping[str, str]) -> Labels:
    """The identity of a series: sorted (label, value) pairs, `__name__` included."""
    pairs = [(label, value) for label, value in labels.items() if value and label != NAME]
    if name:
        pairs.append((NAME, name))
    return tuple(sorted(pairs))


def _forget(series: StoredSeries, before_ms: int) -> None:
    count = bisect_left(series.times, before_ms)
    if count:
        del series.times[:count]
        del series.values[:count]


# Prometheus' expressions are RE2; what Python reads differently, or not at all, is refused.
_OTHER_IN_PYTHON = re.compile(r"\\[pPQEzZCx]|\[:|\(\?(?![:i])|[*+?}]\+")


@lru_cache(maxsize=1024)
def _anchored(expression: str) -> re.Pattern[str]:
    if odd := _OTHER_IN_PYTHON.search(expression):
        raise QueryError(
            f"regular expression {expression!r}: {odd.group()!r} is not supported here"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # set operations inside [...]
            return re.compile(expression, re.DOTALL | re.ASCII)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise QueryError(
            f"regular expression {expression!r} is not supported here: {error}"
        ) from error
