"""The syntax tree of a condition, and its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

BinaryOperator: TypeAlias = Literal["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: True, 2500, "production"."""

    value: bool | int | str
    offset: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of literals; only the right side of `in`."""

    values: tuple[Constant, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Name:
    """A declared fact: `facts.<name>`."""

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`!` of a boolean or `-` of an integer."""

    operator: Literal["!", "-"]
    operand: Tree
    offset: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Two trees and the operator between them; `offset` is the operator's place."""

    operator: BinaryOperator
    left: Tree
    right: Tree
    offset: int


Tree: TypeAlias = "Constant | ListOf | Name | Unary | Binary"

RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")


def unparse(tree: Tree) -> str:
    """A text whose tree is this one, places aside. Brackets only where they are needed."""
    return _unparse(tree, 0)


def names(tree: Tree) -> frozenset[str]:
    """All facts that the tree reads."""
    if isinstance(tree, Name):
        return frozenset((tree.name,))
    if isinstance(tree, Unary):
        return names(tree.operand)
    if isinstance(tree, Binary):
        return names(tree.left) | names(tree.right)
    return frozenset()


def height(tree: Tree, inside: str = "") -> int:
    """Levels of operators; a chain of && or of || is one level."""
    if isinstance(tree, Unary):
        return 1 + height(tree.operand)
    if isinstance(tree, Binary):
        below = max(height(tree.left, tree.operator), height(tree.right, tree.operator))
        is_chain = tree.operator in ("&&", "||") and tree.operator == inside
        return below if is_chain else below + 1
    return 0


_LEVEL: dict[str, int] = {"||": 1, "&&": 2, **dict.fromkeys(RELATIONS, 3), "+": 4, "-": 4}


def _unparse(tree: Tree, level: int) -> str:
    if isinstance(tree, Constant):
        if isinstance(tree.value, bool):
            return "true" if tree.value else "false"
        if isinstance(tree.value, int):
            return str(tree.value)
        quote = "'" if '"' in tree.value else '"'
        return quote + tree.value + quote
    if isinstance(tree, ListOf):
        return "[" + ", ".join(_unparse(value, 0) for value in tree.values) + "]"
    if isinstance(tree, Name):
        return f"facts.{tree.name}"
    if isinstance(tree, Unary):
        return tree.operator + _unparse(tree.operand, 5)
    own = _LEVEL[tree.operator]
    text = f"{_unparse(tree.left, own)} {tree.operator} {_unparse(tree.right, own + 1)}"
    return f"({text})" if own < level else text
