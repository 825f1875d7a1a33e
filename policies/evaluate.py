"""What a condition is worth under given facts, the plain way: one step of the tree at a time.

Slow and obvious on purpose. `explain` tells with it which part of a condition failed, and tests
hold the compiled function against it. The gate itself runs what `compile.py` makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loop4.domain import FactScalar
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary


def evaluate(tree: Tree, values: Mapping[str, FactScalar]) -> FactScalar:
    """The value of a checked tree. Raises KeyError for a fact that `values` lacks."""
    if isinstance(tree, Constant):
        return tree.value
    if isinstance(tree, Name):
        return values[tree.name]
    if isinstance(tree, ListOf):
        raise TypeError("a list stands only on the right of `in`")
    if isinstance(tree, Unary):
        operand = evaluate(tree.operand, values)
        return not operand if tree.operator == "!" else -int(operand)
    if tree.operator == "in":
        return _is_member(tree, values)
    return _binary(tree, evaluate(tree.left, values), evaluate(tree.right, values))


def holds(tree: Tree | None, values: Mapping[str, FactScalar]) -> bool:
    """Whether a condition holds; None = always."""
    return tree is None or evaluate(tree, values) is True


def conjuncts(tree: Tree | None) -> Iterator[Tree]:
    """The parts that must all hold; none for None."""
    if isinstance(tree, Binary) and tree.operator == "&&":
        yield from conjuncts(tree.left)
        yield from conjuncts(tree.right)
    elif tree is not None:
        yield tree


def _is_member(tree: Binary, values: Mapping[str, FactScalar]) -> bool:
    if not isinstance(tree.right, ListOf):
        raise TypeError("the right of `in` is a list of literals")
    found = evaluate(tree.left, values)
    return any(found == value.value for value in tree.right.values)


def _binary(tree: Binary, left: FactScalar, right: FactScalar) -> FactScalar:
    match tree.operator:
        case "&&":
            return left is True and right is True
        case "||":
            return left is True or right is True
        case "==":
            return left == right
        case "!=":
            return left != right
        case "+":
            return int(left) + int(right)
        case "-":
            return int(left) - int(right)
        case _:
            return _ordered(tree.operator, int(left), int(right))


def _ordered(operator: str, left: int, right: int) -> bool:
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    if operator == ">":
        return left > right
    if operator == ">=":
        return left >= right
    raise TypeError(f"{operator!r} is not an operator of conditions")
