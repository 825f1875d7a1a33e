"""Counters, gauges and histograms in the Prometheus text format: write and read.

Small on purpose: nine replicas hold one each, and the store reads all of them twice a second.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


class Registry:
    """Series of one process. `constant` labels stand first in each series."""

    def __init__(self, constant: Mapping[str, str] | None = None) -> None:
        self._constant = dict(constant or {})
        self._values: dict[str, dict[str, float]] = {}
        self._types: dict[str, str] = {}
        self._histograms: dict[str, _Histogram] = {}

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add to a counter; amount 0 makes the series exist, so that a rate has a start."""
        self._types.setdefault(name, "counter")
        series = self._values.setdefault(name, {})
        key = _labels(self._constant | labels)
        series[key] = series.get(key, 0.0) + amount

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        self._types.setdefault(name, "gauge")
        self._values.setdefault(name, {})[_labels(self._constant | labels)] = value

    def reset(self, name: str) -> None:
        """Drop all series of one name (gauges of things that may be gone)."""
        self._values.pop(name, None)

    def observe(self, name: str, seconds: float) -> None:
        """Add one duration to the histogram `name`."""
        if name not in self._histograms:
            self._histograms[name] = _Histogram()
        self._histograms[name].observe(seconds)

    def render(self) -> bytes:
        """The text exposition of everything."""
        lines: list[str] = []
        for name, series in self._values.items():
            lines.append(f"# TYPE {name} {self._types[name]}")
            lines += [f"{name}{{{key}}} {float(value)!r}" for key, value in series.items()]
        constant = _labels(self._constant)
        for name, histogram in self._histograms.items():
            lines.append(f"# TYPE {name} histogram")
            lines += histogram.lines(name, constant)
        return ("\n".join(lines) + "\n").encode()


class _Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, constant: str) -> Iterator[str]:
        running = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self._counts, strict=True):
            running += count
            yield f'{name}_bucket{{{constant},le="{bound}"}} {running}'
        yield f"{name}_sum{{{constant}}} {self._sum!r}"
        yield f"{name}_count{{{constant}}} {running}"


class Exposition:
    """Reads scrapes; remembers the parsed form of each series text, since they repeat."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, dict[str, str]]] = {}

    def parse(self, text: str) -> Iterator[tuple[str, dict[str, str], float]]:
        """(name, labels, value) of each sample. Raises ValueError for a malformed line."""
        for line in text.splitlines():
            if not line or line[0] == "#":
                continue
            series, _, value = line.rpartition(" ")
            known = self._seen.get(series)
            if known is None:
                known = self._seen[series] = _parse_series(series)
            yield known[0], known[1], float(value)


def _parse_series(series: str) -> tuple[str, dict[str, str]]:
    name, brace, rest = series.partition("{")
    if not brace:
        return name, {}
    labels: dict[str, str] = {}
    for pair in rest.rstrip("}").split('",'):
        key, _, value = pair.partition('="')
        labels[key] = value.rstrip('"')
    return name, labels
