"""Health targets: what good service means, and the queries that measure it.

`policies.openslo` reads them from files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VERIFICATION_WINDOW_S = 300
BUDGET_WINDOW_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """A pair of windows; both must burn budget faster than `factor` times the sustainable rate."""

    long_s: int
    short_s: int
    factor: float


DEFAULT_WINDOWS = (
    BurnWindow(3_600, 300, 14.4),
    BurnWindow(21_600, 1_800, 6.0),
    BurnWindow(86_400, 7_200, 3.0),
    BurnWindow(259_200, 21_600, 1.0),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One health target. `good`, `bad`, `total` are raw counter selectors; one of the first two is
    empty.

    A query that answers nothing, or NaN (no requests at all), is no data. `minimum_requests`: fewer
    in a window is no data too. `windows` are in the file's order; the first is the fast pair.
    """

    name: str
    service: str
    objective_bp: int
    good: str
    bad: str
    total: str
    windows: tuple[BurnWindow, ...] = DEFAULT_WINDOWS
    verification_window_s: int = VERIFICATION_WINDOW_S
    budget_window_s: int = BUDGET_WINDOW_S
    minimum_requests: int = 1
    description: str = ""
    file: str = ""
    line: int = 0

    @property
    def budget_ratio(self) -> float:
        """The share of requests that may fail."""
        return (10_000 - self.objective_bp) / 10_000

    @property
    def is_availability(self) -> bool:
        """Whether it counts failures; a count of histogram buckets is about latency."""
        return not _metric(self.good or self.bad).endswith("_bucket")

    def threshold(self, window: BurnWindow) -> float:
        """The failing share above which a window pair is burning too fast."""
        return window.factor * self.budget_ratio

    def total_query(self, window_s: int) -> str:
        """Requests in the window: one series, or none without data."""
        return _increase(self.total, window_s)

    def good_query(self, window_s: int) -> str:
        """Good requests in the window; 0 when none were good."""
        if self.good:
            return f"({_increase(self.good, window_s)} or vector(0))"
        return f"({_increase(self.total, window_s)} - {self._bad(window_s)})"

    def error_ratio_query(self, window_s: int) -> str:
        """The failing share of the window's requests, 0 to 1; NaN when there were no requests."""
        total = self.total_query(window_s)
        if self.good:
            return f"1 - {self.good_query(window_s)} / {total}"
        return f"{self._bad(window_s)} / {total}"

    def total_by(self, label: str, window_s: int) -> str:
        """Requests in the window, one series for each value of a label."""
        return _increase(self.total, window_s, by=label)

    def good_by(self, label: str, window_s: int) -> str:
        """Good requests in the window by a label; 0 for a value that had requests but none good."""
        total = _increase(self.total, window_s, by=label)
        counted = _increase(self.good or self.bad, window_s, by=label)
        if self.good:
            return f"({counted} or {total} * 0)"
        return f"({total} - ({counted} or {total} * 0))"

    def _bad(self, window_s: int) -> str:
        return f"({_increase(self.bad, window_s)} or vector(0))"


_METRIC = re.compile(r"[A-Za-z_:][\w:]*")


def _increase(selector: str, window_s: int, *, by: str = "") -> str:
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(increase({selector}[{window_s}s]))"


def _metric(selector: str) -> str:
    match = _METRIC.match(selector)
    return match.group() if match else ""
