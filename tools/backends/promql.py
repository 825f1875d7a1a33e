"""The embedded evaluator: a strict subset of PromQL over a `SeriesStore`.

Supported: instant and range selectors (`= != =~ !~`, `offset`), `rate`, `increase`,
`histogram_quantile`, `vector`, `sum|avg|min|max|count` with `by` or `without`, arithmetic and
comparison (`bool`, `on`, `ignoring`, one to one), `or`, unary minus. Everything else is refused
with its column; nothing is ever approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import promql_parser as parser

from loop4.errors import QueryError
from loop4.tools.backends import promql_places as places
from loop4.tools.backends.ports import Series
from loop4.tools.backends.promql_vectors import (
    ARITHMETIC,
    COMPARISON,
    NO_NAME,
    Vector,
    aggregate,
    extrapolated_increase,
    histogram_quantile,
    match_one_to_one,
    union,
    unique,
    without,
)
from loop4.tools.backends.series import Labels, Matcher, MatchKind, Selector, SeriesStore

LOOK_BACK_MS = 300_000
MOST_POINTS = 11_000  # of one series in one range query, as Prometheus
_LONGEST = 8192
_DEEPEST = 64

Evaluate: TypeAlias = "Callable[[SeriesStore, int], Vector]"
Operand: TypeAlias = "float | Evaluate"

_AGGREGATIONS = ("sum", "avg", "min", "max", "count")
_FUNCTIONS = ("rate", "increase", "histogram_quantile", "vector")


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
    try:
        tree = parser.parse(expression)
    except ValueError as error:
        message = str(error)
        column = places.column_of_fault(expression, message, _parses)
        raise QueryError(f"query {expression!r}, column {column}: {message}") from error
    return Compiled(expression, _Compiler(expression).compile(tree))


def _parses(text: str) -> bool:
    try:
        parser.parse(text)
    except ValueError:
        return False
    return True


class _Compiler:
    """Turns the parser's tree into functions of (store, time); scalars are folded to numbers."""

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, what: str, column: int, expected: str) -> QueryError:
        return QueryError(
            f"query {self.text!r}, column {column}: {what} is not supported here; {expected}"
        )

    def compile(self, node: parser.Expr) -> Operand:
        if isinstance(node, parser.ParenExpr):
            return self.compile(node.expr)
        if isinstance(node, parser.NumberLiteral):
            return float(node.val)
        if isinstance(node, parser.VectorSelector):
            return self.instant_selector(node)
        if isinstance(node, parser.Call):
            return self.call(node)
        if isinstance(node, parser.AggregateExpr):
            return self.aggregation(node)
        if isinstance(node, parser.BinaryExpr):
            return self.binary(node)
        if isinstance(node, parser.UnaryExpr):
            return self.negation(node)
        raise self.refuse_node(node)

    def refuse_node(self, node: parser.Expr) -> QueryError:
        if isinstance(node, parser.SubqueryExpr):
            column = places.column_of(self.text, r"\[[^\]]*:")
            return self.refuse("a subquery", column, "use a range selector such as [5m]")
        if isinstance(node, parser.MatrixSelector):
            column = places.column_of(self.text, r"\[")
            return self.refuse("a bare range selector", column, "put it inside rate or increase")
        if isinstance(node, parser.StringLiteral):
            column = places.column_of(self.text, r"[\"'`]")
            return self.refuse("a string", column, "expected a selector or a number")
        return self.refuse(f"{type(node).__name__}", 1, "expected a selector, a function, a number")

    def vector(self, node: parser.Expr) -> Evaluate:
        operand = self.compile(node)
        if isinstance(operand, float):  # the parser has refused this already
            raise self.refuse("a number", 1, "expected a vector")
        return operand

    def selector(self, node: parser.VectorSelector) -> tuple[Selector, int]:
        """The selector and its offset in milliseconds."""
        if node.at is not None:
            raise self.refuse("the @ modifier", places.column_of(self.text, "@"), "use offset")
        if node.matchers.or_matchers:
            column = places.column_of_word(self.text, "or")
            raise self.refuse("'or' between matchers", column, 'use a matcher such as a=~"x|y"')
        name = node.name or ""
        matchers: list[Matcher] = []
        for written in node.matchers.matchers:
            kind = _MATCH_KINDS[str(written.op)]
            if written.name == "__name__" and kind is MatchKind.EQUAL and not name:
                name = written.value
            else:
                matchers.append(Matcher(written.name, kind, written.value))
        selector = Selector(name, tuple(matchers))
        for matcher in matchers:
            matcher.accepts("")  # an expression that cannot run is refused now, not at some query
        offset_ms = round(node.offset.total_seconds() * 1000) if node.offset else 0
        return selector, offset_ms

    def instant_selector(self, node: parser.VectorSelector) -> Evaluate:
        selector, offset_ms = self.selector(node)

        def evaluate(store: SeriesStore, at_ms: int) -> Vector:
            vector = []
            for series in store.select(selector):
                value = series.at(at_ms - offset_ms, LOOK_BACK_MS)
                if value is not None:
                    vector.append((series.labels, value))
            return vector

        return evaluate

    def call(self, node: parser.Call) -> Operand:
        name = node.func.name
        if name in ("rate", "increase"):
            return self.growth(name, node.args[0])
        if name == "histogram_quantile":
            quantile, buckets = self.compile(node.args[0]), self.vector(node.args[1])
            if not isinstance(quantile, float):  # the parser has refused this already
                raise self.refuse("a quantile that is not a number", 1, "write it out, as 0.99")
            number = quantile
            return lambda store, at_ms: unique(histogram_quantile(number, buckets(store, at_ms)))
        if name == "vector":
            value = self.compile(node.args[0])
            return lambda store, at_ms: [((), value)] if isinstance(value, float) else []
        raise self.refuse(
            f"function {name!r}",
            places.column_of(self.text, rf"(?<![\w:]){name}\s*\("),
            f"expected one of {', '.join(_FUNCTIONS)}",
        )

    def growth(self, name: str, node: parser.Expr) -> Evaluate:
        while isinstance(node, parser.ParenExpr):
            node = node.expr
        if not isinstance(node, parser.MatrixSelector):
            raise self.refuse_node(node)
        selector, offset_ms = self.selector(node.vector_selector)
        window_ms = round(node.range.total_seconds() * 1000)
        per = window_ms / 1000 if name == "rate" else 1.0

        def evaluate(store: SeriesStore, at_ms: int) -> Vector:
            end_ms = at_ms - offset_ms
            start_ms = end_ms - window_ms
            vector = []
            for series in store.select(selector):
                times, values = series.between(start_ms, end_ms)
                grown = extrapolated_increase(times, values, start_ms, end_ms)
                if grown is not None:
                    vector.append((without(series.labels, NO_NAME), grown / per))
            return unique(vector)

        return evaluate

    def aggregation(self, node: parser.AggregateExpr) -> Evaluate:
        how = str(node.op)
        if how not in _AGGREGATIONS:
            raise self.refuse(
                f"aggregation {how!r}",
                places.column_of_word(self.text, how),
                f"expected one of {', '.join(_AGGREGATIONS)}",
            )
        inner = self.vector(node.expr)
        names: frozenset[str] = frozenset(node.modifier.labels if node.modifier else ())
        keep = node.modifier is None or node.modifier.type == parser.AggModifierType.By
        return lambda store, at_ms: aggregate(how, inner(store, at_ms), names, keep=keep)

    def negation(self, node: parser.UnaryExpr) -> Operand:
        inner = self.compile(node.expr)
        if isinstance(inner, float):
            return -inner
        evaluate = inner
        return lambda store, at_ms: unique(
            [(without(labels, NO_NAME), -value) for labels, value in evaluate(store, at_ms)]
        )

    def binary(self, node: parser.BinaryExpr) -> Operand:
        symbol = str(node.op)
        if symbol not in ARITHMETIC and symbol not in COMPARISON and symbol != "or":
            raise self.refuse(
                f"operator {symbol!r}",
                places.column_of_word(self.text, symbol),
                "expected arithmetic, a comparison, or 'or'",
            )
        modifier = node.modifier
        self.refuse_many(modifier)
        left, right = self.compile(node.lhs), self.compile(node.rhs)
        as_number = modifier is not None and modifier.return_bool
        if isinstance(left, float) and isinstance(right, float):
            return float(_number(symbol)(left, right))
        if isinstance(left, float) or isinstance(right, float):
            return _with_scalar(symbol, left, right, as_number=as_number)
        matching = modifier.matching if modifier is not None else None
        names: frozenset[str] = frozenset(matching.labels if matching is not None else ())
        on = matching is not None and matching.type == parser.LabelModifierType.Include
        lhs, rhs = left, right
        if symbol == "or":
            return lambda store, at: union(lhs(store, at), rhs(store, at), names, on=on)
        combine = _combination(symbol, as_number=as_number)
        drop_name = symbol in ARITHMETIC or as_number
        return lambda store, at: match_one_to_one(
            lhs(store, at), rhs(store, at), combine, names, on=on, drop_name=drop_name
        )

    def refuse_many(self, modifier: parser.BinModifier | None) -> None:
        if modifier is None:
            return
        for card, word in (
            (parser.VectorMatchCardinality.ManyToOne, "group_left"),
            (parser.VectorMatchCardinality.OneToMany, "group_right"),
        ):
            if modifier.card == card:
                column = places.column_of_word(self.text, word)
                raise self.refuse(repr(word), column, "match one to one, with on or ignoring")
        if modifier.fill_values.lhs is not None or modifier.fill_values.rhs is not None:
            column = places.column_of(self.text, r"\bfill\w*\s*\(")
            raise self.refuse("'fill'", column, "use 'or vector(0)' after an aggregation")


_MATCH_KINDS = {
    "MatchOp.Equal": MatchKind.EQUAL,
    "MatchOp.NotEqual": MatchKind.NOT_EQUAL,
    "MatchOp.Re": MatchKind.MATCHES,
    "MatchOp.NotRe": MatchKind.MATCHES_NOT,
}


def _number(symbol: str) -> Callable[[float, float], float]:
    """The operator as a function to a number; a comparison gives 1 or 0."""
    if symbol in ARITHMETIC:
        return ARITHMETIC[symbol]
    compare = COMPARISON[symbol]
    return lambda left, right: 1.0 if compare(left, right) else 0.0


def _combination(symbol: str, *, as_number: bool) -> Callable[[float, float], float | None]:
    """The operator between two vector elements; a filter keeps the left value or gives None."""
    if symbol in ARITHMETIC or as_number:
        return _number(symbol)
    compare = COMPARISON[symbol]
    return lambda left, right: left if compare(left, right) else None


def _with_scalar(symbol: str, left: Operand, right: Operand, *, as_number: bool) -> Evaluate:
    """A vector on one side, a number on the other; a filter keeps the vector's own values."""
    swapped = isinstance(left, float)
    scalar, vector = (left, right) if swapped else (right, left)
    if not isinstance(scalar, float) or isinstance(vector, float):
        raise TypeError("expected one number and one vector")
    number, evaluate = scalar, vector
    if symbol in ARITHMETIC or as_number:
        combine = _number(symbol)
        return lambda store, at: unique(
            [
                (without(labels, NO_NAME), combine(number, v) if swapped else combine(v, number))
                for labels, v in evaluate(store, at)
            ]
        )
    compare = COMPARISON[symbol]
    return lambda store, at: [
        (labels, v)
        for labels, v in evaluate(store, at)
        if (compare(number, v) if swapped else compare(v, number))
    ]
