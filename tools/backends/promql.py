"""The embedded evaluator: a strict subset of PromQL over a `SeriesStore`.

Supported: instant and range selectors (`= != =~ !~`, `offset`), `rate`, `increase`,
`histogram_quantile`, `vector`, `sum|avg|min|max|count` with `by` or `without`, arithmetic and
comparison (`bool`, `on`, `ignoring`, one to one), `or`, unary minus. Everything else is refused
with its column; nothing is ever approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import promql_parser as parser

from loop4.errors import QueryError
from loop4.tools.backends import promql_places as places
from loop4.tools.backends.ports import Series
from loop4.tools.backends.promql_compiler import Compiler, Operand
from loop4.tools.backends.promql_vectors import Vector
from loop4.tools.backends.series import Labels, SeriesStore

MOST_POINTS = 11_000  # of one series in one range query, as Prometheus
_LONGEST = 8192
_DEEPEST = 64


class EmbeddedMetrics:
    """The `Metrics` port over a store in this process."""

    def __init__(self, store: SeriesStore) -> None:
        self._store = store

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        """Instant query; a scalar is one series without labels. Raises QueryError."""
        return compiled(expression).instant(self._store, at_ms)

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        """Range query, both ends included. Raises QueryError, for too many points too."""
        return compiled(expression).range(self._store, start_ms, end_ms, step_ms)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A checked expression, ready to run on any store. `operand` is a float for a scalar."""

    text: str
    operand: Operand

    @property
    def is_scalar(self) -> bool:
        """Whether the expression is a plain number."""
        return isinstance(self.operand, float)

    def instant(self, store: SeriesStore, at_ms: int) -> tuple[Series, ...]:
        """One point per series, ordered by labels."""
        vector = sorted(self._vector(store, at_ms), key=lambda sample: sample[0])
        return tuple(Series(dict(labels), ((at_ms, value),)) for labels, value in vector)

    def range(
        self, store: SeriesStore, start_ms: int, end_ms: int, step_ms: int
    ) -> tuple[Series, ...]:
        """The expression at start, start + step, ... up to end, as series ordered by labels."""
        if step_ms <= 0 or end_ms < start_ms:
            raise QueryError(
                f"range of {self.text!r}: step {step_ms} ms from {start_ms} to {end_ms}; expected a"
                " step above 0 and an end not before the start"
            )
        if (end_ms - start_ms) // step_ms >= MOST_POINTS:
            raise QueryError(
                f"range of {self.text!r}: more than {MOST_POINTS} points; use a longer step"
            )
        found: dict[Labels, list[tuple[int, float]]] = {}
        for at_ms in range(start_ms, end_ms + 1, step_ms):
            for labels, value in self._vector(store, at_ms):
                found.setdefault(labels, []).append((at_ms, value))
        return tuple(Series(dict(labels), tuple(found[labels])) for labels in sorted(found))

    def _vector(self, store: SeriesStore, at_ms: int) -> Vector:
        if isinstance(self.operand, float):
            return [((), self.operand)]
        try:
            return self.operand(store, at_ms)
        except QueryError as error:
            raise QueryError(f"query {self.text!r}: {error}") from error


@lru_cache(maxsize=4096)
def compiled(expression: str) -> Compiled:
    """The expression, parsed and checked once. Raises QueryError naming what and the column."""
    if len(expression) > _LONGEST or places.nesting(expression) > _DEEPEST:
        raise QueryError(
            f"query {expression[:60]!r}...: expected at most {_LONGEST} characters and"
            f" {_DEEPEST} nested brackets"
        )
    if column := places.column_of_odd_duration(expression):
        raise QueryError(
            f"query {expression!r}, column {column}: expected a duration with a unit, such as 5m"
        )
    try:
        tree = parser.parse(expression)
    except ValueError as error:
        message = str(error)
        column = places.column_of_fault(expression, message, _parses)
        raise QueryError(f"query {expression!r}, column {column}: {message}") from error
    return Compiled(expression, Compiler(expression).compile(tree))


def _parses(text: str) -> bool:
    if places.column_of_odd_duration(text):
        return False
    try:
        parser.parse(text)
    except ValueError:
        return False
    return True
