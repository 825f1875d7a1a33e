"""Two groups of requests compared: is one failing more, by how much, and how sure is that.

Newcombe's interval (1998, method 10) for the difference of two proportions from Wilson score
intervals (1927); it stays inside [-1, 1] and is honest for small counts and for zero failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

Z_99 = 2.5758  # two-sided 99 % normal quantile
MINIMUM_REQUESTS = 10.0  # fewer on one side compare with nothing


class Comparison(StrEnum):
    """A verdict on new against old."""

    WORSE = "worse"
    SAME = "same"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Difference:
    """New minus old. All in basis points; `low_bp`..`high_bp` is the 99 % interval of the
    difference.
    """

    verdict: Comparison
    new_bp: int
    old_bp: int
    difference_bp: int
    low_bp: int
    high_bp: int


def wilson(failed: float, total: float, z: float = Z_99) -> tuple[float, float]:
    """Wilson score interval of a proportion, as (low, high) in [0, 1]. Needs total > 0."""
    share = failed / total
    centre = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def compare_failures(
    new_failed: float,
    new_total: float,
    old_failed: float,
    old_total: float,
    *,
    minimum: float = MINIMUM_REQUESTS,
    material_bp: int = 100,
) -> Difference:
    """Compare failure shares. WORSE needs an interval above zero and a difference of at least
    `material_bp`.

    Fewer than `minimum` requests on either side is NO_DATA, never SAME: too little traffic proves
    nothing. Raises ValueError for negative counts or more failures than requests (beyond rounding).
    """
    for failed, total in ((new_failed, new_total), (old_failed, old_total)):
        if failed < 0 or total < 0 or failed > total + 1e-6:
            raise ValueError(f"impossible counts: {failed} failed of {total}")
    if new_total < minimum or old_total < minimum:
        return Difference(Comparison.NO_DATA, 0, 0, 0, -10_000, 10_000)
    new, old = min(1.0, new_failed / new_total), min(1.0, old_failed / old_total)
    new_low, new_high = wilson(min(new_failed, new_total), new_total)
    old_low, old_high = wilson(min(old_failed, old_total), old_total)
    gap = new - old
    low = gap - sqrt((new - new_low) ** 2 + (old_high - old) ** 2)
    high = gap + sqrt((new_high - new) ** 2 + (old - old_low) ** 2)
    worse = low > 0 and round(gap * 10_000) >= material_bp
    return Difference(
        Comparison.WORSE if worse else Comparison.SAME,
        round(new * 10_000),
        round(old * 10_000),
        round(gap * 10_000),
        round(low * 10_000),
        round(high * 10_000),
    )
