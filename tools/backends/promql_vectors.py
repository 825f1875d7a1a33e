"""What PromQL computes on instant vectors and ranges: pure functions, as Prometheus documents them.

A vector is a list of (labels, value). Rules and edge cases: prometheus.io/docs, "Operators" and
"Query functions" of version 3 (ranges and look-back are open on the left).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from loop4.errors import QueryError
from loop4.tools.backends.series import NAME, Labels

Vector: TypeAlias = "list[tuple[Labels, float]]"
Combine = Callable[[float, float], float]
Compare = Callable[[float, float], bool]


@lru_cache(maxsize=65536)
def only(labels: Labels, names: frozenset[str]) -> Labels:
    """The labels whose name is listed."""
    return tuple(pair for pair in labels if pair[0] in names)


@lru_cache(maxsize=65536)
def without(labels: Labels, names: frozenset[str]) -> Labels:
    """The labels whose name is not listed."""
    return tuple(pair for pair in labels if pair[0] not in names)


NO_NAME = frozenset({NAME})


def unique(vector: Vector) -> Vector:
    """The vector itself. Raises QueryError if two elements carry the same labels."""
    if len({labels for labels, _ in vector}) < len(vector):
        raise QueryError("the result holds two series with the same labels; select one metric name")
    return vector


def extrapolated_increase(
    times: Sequence[int], values: Sequence[float], start_ms: int, end_ms: int
) -> float | None:
    """Growth of a counter over (start, end], resets added back; None with fewer than two samples.

    The samples' own growth is stretched to the window's ends: to the very end where a sample would
    be expected there, else by half an average gap, and never to before the counter's zero.
    """
    count = len(times)
    if count < 2:
        return None
    growth = values[-1] - values[0]
    previous = values[0]
    for value in values:
        if value < previous:
            growth += previous
        previous = value
    sampled_s = (times[-1] - times[0]) / 1000
    gap_s = sampled_s / (count - 1)
    to_start_s, to_end_s = (times[0] - start_ms) / 1000, (end_ms - times[-1]) / 1000
    if to_start_s >= gap_s * 1.1:
        to_start_s = gap_s / 2
    if growth > 0 and values[0] >= 0:
        to_start_s = min(to_start_s, sampled_s * (values[0] / growth))
    if to_end_s >= gap_s * 1.1:
        to_end_s = gap_s / 2
    return growth * ((sampled_s + to_start_s + to_end_s) / sampled_s)


def aggregate(how: str, vector: Vector, names: frozenset[str], *, keep: bool) -> Vector:
    """`sum|avg|min|max|count` by the listed labels (`keep`) or without them."""
    group = only if keep else without
    names = names if keep else names | NO_NAME
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector:
        groups.setdefault(group(labels, names), []).append(value)
    fold = _AGGREGATES[how]
    return [(labels, fold(values)) for labels, values in groups.items()]


def _total(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):  # infinities of both signs, or beyond a double
        return sum(values)


def _mean(values: Sequence[float]) -> float:
    return _total(values) / len(values)


def _extreme(pick: Callable[[Iterable[float]], float]) -> Callable[[Sequence[float]], float]:
    """NaN loses against every number."""

    def fold(values: Sequence[float]) -> float:
        numbers = [value for value in values if not math.isnan(value)]
        return pick(numbers) if numbers else math.nan

    return fold


_AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": _total,
    "avg": _mean,
    "min": _extreme(min),
    "max": _extreme(max),
    "count": lambda values: float(len(values)),
}


def divide(left: float, right: float) -> float:
    """IEEE division: x/0 is an infinity of x's sign, 0/0 is NaN."""
    if right:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _remainder(left: float, right: float) -> float:
    try:
        return math.fmod(left, right)
    except ValueError:
        return math.nan


def _power(left: float, right: float) -> float:
    try:
        return math.pow(left, right)
    except OverflowError:
        odd = float(right).is_integer() and right % 2 == 1
        return -math.inf if left < 0 and odd else math.inf
    except ValueError:  # a negative base with a fraction, or zero with a negative exponent
        if left == 0:
            odd = float(right).is_integer() and right % 2 == 1
            return math.copysign(math.inf, left) if odd else math.inf
        return math.nan


ARITHMETIC: dict[str, Combine] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": _remainder,
    "^": _power,
}
COMPARISON: dict[str, Compare] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def match_one_to_one(
    left: Vector,
    right: Vector,
    combine: Callable[[float, float], float | None],
    names: frozenset[str],
    *,
    on: bool,
    drop_name: bool,
) -> Vector:
    """Pairs of elements whose matching labels agree; `combine` gives None to leave a pair out.

    `on` matches on the listed labels alone, otherwise on all but the listed ones. Raises QueryError
    where more than one element of a side would match.
    """
    if not left or not right:
        return []
    key = only if on else without
    key_names = names if on else names | NO_NAME
    partners: dict[Labels, float] = {}
    for labels, value in right:
        signature = key(labels, key_names)
        if signature in partners:
            raise QueryError(f"several series on the right side match {_shown(signature)}")
        partners[signature] = value
    result: Vector = []
    used: set[Labels] = set()
    for labels, value in left:
        signature = key(labels, key_names)
        if signature not in partners:
            continue
        combined = combine(value, partners[signature])
        if combined is None:
            continue
        if signature in used:
            raise QueryError(f"several series on the left side match {_shown(signature)}")
        used.add(signature)
        kept = only(labels, names) if on else without(labels, names)
        result.append((without(kept, NO_NAME) if drop_name else kept, combined))
    return result


def union(left: Vector, right: Vector, names: frozenset[str], *, on: bool) -> Vector:
    """All of the left, and what of the right has no partner there."""
    key = only if on else without
    key_names = names if on else names | NO_NAME
    taken = {key(labels, key_names) for labels, _ in left}
    return left + [sample for sample in right if key(sample[0], key_names) not in taken]


def histogram_quantile(quantile: float, vector: Vector) -> Vector:
    """The quantile of classic histograms: one element per group of `le` buckets."""
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, value in vector:
        try:
            bound = float(dict(labels).get("le", ""))
        except ValueError:
            continue
        groups.setdefault(without(labels, _BUCKET), []).append((bound, value))
    return [(labels, _bucket_quantile(quantile, b)) for labels, b in groups.items()]


_BUCKET = frozenset({NAME, "le"})


def _bucket_quantile(quantile: float, buckets: list[tuple[float, float]]) -> float:
    if math.isnan(quantile):
        return math.nan
    if not 0 <= quantile <= 1:
        return math.copysign(math.inf, quantile)
    merged: dict[float, float] = {}
    for bound, count in sorted(buckets):
        merged[bound] = merged.get(bound, 0.0) + count
    bounds, counts = list(merged), list(merged.values())
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return math.nan
    for index in range(1, len(counts)):
        if counts[index] < counts[index - 1]:
            counts[index] = counts[index - 1]
    total = counts[-1]
    if total == 0:
        return math.nan
    rank = quantile * total
    index = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if index == len(counts) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    low, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return low + (bounds[index] - low) * divide(rank - below, counts[index] - below)


def _shown(labels: Labels) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels) + "}"
