"""promql-parser's tree turned into functions of (store, time), or refused with its column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import promql_parser as parser

from loop4.errors import QueryError
from loop4.tools.backends import promql_places as places
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
from loop4.tools.backends.series import Matcher, MatchKind, Selector, SeriesStore

LOOK_BACK_MS = 300_000

Evaluate: TypeAlias = "Callable[[SeriesStore, int], Vector]"
Operand: TypeAlias = "float | Evaluate"

_AGGREGATIONS = ("sum", "avg", "min", "max", "count")
_FUNCTIONS = ("rate", "increase", "histogram_quantile", "vector")


class Compiler:
    """Compiles one query; `text` is for places. Raises QueryError for what is not supported."""

    def __init__(self, text: str) -> None:
        self.text = text

    def compile(self, node: parser.Expr) -> Operand:
        """A function for a vector; a scalar is folded to a number."""
        if isinstance(node, parser.ParenExpr):
            return self.compile(node.expr)
        if isinstance(node, parser.NumberLiteral):
            return float(node.val)
        if isinstance(node, parser.VectorSelector):
            return self._instant_selector(node)
        if isinstance(node, parser.Call):
            return self._call(node)
        if isinstance(node, parser.AggregateExpr):
            return self._aggregation(node)
        if isinstance(node, parser.BinaryExpr):
            return self._binary(node)
        if isinstance(node, parser.UnaryExpr):
            return self._negation(node)
        raise self._refuse_node(node)

    def _refuse(self, what: str, column: int, expected: str) -> QueryError:
        return QueryError(
            f"query {self.text!r}, column {column}: {what} is not supported here; {expected}"
        )

    def _refuse_node(self, node: parser.Expr) -> QueryError:
        if isinstance(node, parser.SubqueryExpr):
            column = places.column_of(self.text, r"\[[^\]]*:")
            return self._refuse("a subquery", column, "use a range selector such as [5m]")
        if isinstance(node, parser.MatrixSelector):
            column = places.column_of(self.text, r"\[")
            return self._refuse("a bare range selector", column, "put it inside rate or increase")
        if isinstance(node, parser.StringLiteral):
            column = places.column_of(self.text, r"[\"'`]")
            return self._refuse("a string", column, "expected a selector or a number")
        return self._refuse(
            f"{type(node).__name__}", 1, "expected a selector, a function, a number"
        )

    def _vector(self, node: parser.Expr) -> Evaluate:
        operand = self.compile(node)
        if isinstance(operand, float):  # the parser has refused this already
            raise self._refuse("a number", 1, "expected a vector")
        return operand

    def _selector(self, node: parser.VectorSelector) -> tuple[Selector, int]:
        """The selector and its offset in milliseconds."""
        if node.at is not None:
            raise self._refuse("the @ modifier", places.column_of(self.text, "@"), "use offset")
        if node.matchers.or_matchers:
            column = places.column_of_word(self.text, "or")
            raise self._refuse("'or' between matchers", column, 'use a matcher such as a=~"x|y"')
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

    def _instant_selector(self, node: parser.VectorSelector) -> Evaluate:
        selector, offset_ms = self._selector(node)

        def evaluate(store: SeriesStore, at_ms: int) -> Vector:
            vector = []
            for series in store.select(selector):
                value = series.at(at_ms - offset_ms, LOOK_BACK_MS)
                if value is not None:
                    vector.append((series.labels, value))
            return vector

        return evaluate

    def _call(self, node: parser.Call) -> Operand:
        name = node.func.name
        if name in ("rate", "increase"):
            return self._growth(name, node.args[0])
        if name == "histogram_quantile":
            quantile, buckets = self.compile(node.args[0]), self._vector(node.args[1])
            if not isinstance(quantile, float):  # the parser has refused this already
                raise self._refuse("a quantile that is not a number", 1, "write it out, as 0.99")
            number = quantile
            return lambda store, at_ms: unique(histogram_quantile(number, buckets(store, at_ms)))
        if name == "vector":
            value = self.compile(node.args[0])
            return lambda store, at_ms: [((), value)] if isinstance(value, float) else []
        raise self._refuse(
            f"function {name!r}",
            places.column_of(self.text, rf"(?<![\w:]){name}\s*\("),
            f"expected one of {', '.join(_FUNCTIONS)}",
        )

    def _growth(self, name: str, node: parser.Expr) -> Evaluate:
        while isinstance(node, parser.ParenExpr):
            node = node.expr
        if not isinstance(node, parser.MatrixSelector):
            raise self._refuse_node(node)
        selector, offset_ms = self._selector(node.vector_selector)
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

    def _aggregation(self, node: parser.AggregateExpr) -> Evaluate:
        how = str(node.op)
        if how not in _AGGREGATIONS:
            raise self._refuse(
                f"aggregation {how!r}",
                places.column_of_word(self.text, how),
                f"expected one of {', '.join(_AGGREGATIONS)}",
            )
        inner = self._vector(node.expr)
        names: frozenset[str] = frozenset(node.modifier.labels if node.modifier else ())
        keep = node.modifier is None or node.modifier.type == parser.AggModifierType.By
        return lambda store, at_ms: aggregate(how, inner(store, at_ms), names, keep=keep)

    def _negation(self, node: parser.UnaryExpr) -> Operand:
        inner = self.compile(node.expr)
        if isinstance(inner, float):
            return -inner
        evaluate = inner
        return lambda store, at_ms: unique(
            [(without(labels, NO_NAME), -value) for labels, value in evaluate(store, at_ms)]
        )

    def _binary(self, node: parser.BinaryExpr) -> Operand:
        symbol = str(node.op)
        if symbol not in ARITHMETIC and symbol not in COMPARISON and symbol != "or":
            raise self._refuse(
                f"operator {symbol!r}",
                places.column_of_word(self.text, symbol),
                "expected arithmetic, a comparison, or 'or'",
            )
        modifier = node.modifier
        self._refuse_many(modifier)
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

    def _refuse_many(self, modifier: parser.BinModifier | None) -> None:
        if modifier is None:
            return
        for card, word in (
            (parser.VectorMatchCardinality.ManyToOne, "group_left"),
            (parser.VectorMatchCardinality.OneToMany, "group_right"),
        ):
            if modifier.card == card:
                column = places.column_of_word(self.text, word)
                raise self._refuse(repr(word), column, "match one to one, with on or ignoring")
        if modifier.fill_values.lhs is not None or modifier.fill_values.rhs is not None:
            column = places.column_of(self.text, r"\bfill\w*\s*\(")
            raise self._refuse("'fill'", column, "use 'or vector(0)' after an aggregation")


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
