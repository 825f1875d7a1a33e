"""The type checker of conditions: unknown facts, wrong types and unknown words are load errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loop4.policies.cel import CelError
from loop4.policies.documents import unknown
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary


@dataclass(frozen=True, slots=True)
class _Type:
    """bool, int, string (a literal not yet tied to an enum) or an enum with its words."""

    name: str
    words: tuple[str, ...] = ()
    fact: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.fact!r}" if self.fact else self.name


_BOOL, _INT, _STRING = _Type("bool"), _Type("int"), _Type("string")


def check_condition(tree: Tree, facts: Mapping[str, FactSchema]) -> None:
    """Return if the tree is a boolean over declared facts; else raise CelError with the place."""
    found = _type_of(tree, facts)
    if found.name != "bool":
        raise CelError(f"the condition is {_a(found)}, expected a boolean", tree.offset)


def _type_of(tree: Tree, facts: Mapping[str, FactSchema]) -> _Type:
    if isinstance(tree, Constant):
        return _type_of_constant(tree)
    if isinstance(tree, Name):
        return _type_of_fact(tree, facts)
    if isinstance(tree, ListOf):
        raise CelError("a list stands only on the right of `in`", tree.offset)
    if isinstance(tree, Unary):
        return _type_of_unary(tree, facts)
    if tree.operator == "in":
        return _type_of_membership(tree, facts)
    left, right = _type_of(tree.left, facts), _type_of(tree.right, facts)
    if tree.operator in ("==", "!="):
        _same(tree.left, left, tree.right, right, tree)
        return _BOOL
    wanted = "bool" if tree.operator in ("&&", "||") else "int"
    for side, found in ((tree.left, left), (tree.right, right)):
        if found.name != wanted:
            message = f"{tree.operator!r} needs {wanted} on both sides, found {_a(found)}"
            raise CelError(message, side.offset)
    return _INT if tree.operator in ("+", "-") else _BOOL


def _type_of_constant(tree: Constant) -> _Type:
    if isinstance(tree.value, bool):
        return _BOOL
    return _INT if isinstance(tree.value, int) else _STRING


def _type_of_fact(tree: Name, facts: Mapping[str, FactSchema]) -> _Type:
    schema = facts.get(tree.name)
    if schema is None:
        raise CelError(unknown("fact", tree.name, facts), tree.offset)
    if schema.type is FactType.ENUM:
        return _Type("enum", schema.values, tree.name)
    return _Type(schema.type.value, fact=tree.name)


def _type_of_unary(tree: Unary, facts: Mapping[str, FactSchema]) -> _Type:
    wanted = "bool" if tree.operator == "!" else "int"
    found = _type_of(tree.operand, facts)
    if found.name != wanted:
        message = f"{tree.operator!r} needs {wanted}, found {_a(found)}"
        raise CelError(message, tree.operand.offset)
    return _BOOL if wanted == "bool" else _INT


def _type_of_membership(tree: Binary, facts: Mapping[str, FactSchema]) -> _Type:
    if not isinstance(tree.right, ListOf):
        raise CelError("the right of `in` must be a list of literals", tree.right.offset)
    left = _type_of(tree.left, facts)
    for value in tree.right.values:
        _same(tree.left, left, value, _type_of_constant(value), tree)
    return _BOOL


def _same(left: Tree, left_type: _Type, right: Tree, right_type: _Type, tree: Binary) -> None:
    """Both sides have one type, and a string beside an enum is one of its words."""
    for enum, other_type, other in ((left_type, right_type, right), (right_type, left_type, left)):
        if enum.name == "enum" and other_type.name == "string" and isinstance(other, Constant):
            if other.value not in enum.words:
                word = str(other.value)
                raise CelError(unknown(f"value of {enum.fact!r}", word, enum.words), other.offset)
            return
    if left_type.name != right_type.name or set(left_type.words) != set(right_type.words):
        message = f"{tree.operator!r} compares {_a(left_type)} with {_a(right_type)}"
        raise CelError(message, right.offset)


def _a(found: _Type) -> str:
    return ("an " if str(found)[0] in "aeiou" else "a ") + str(found)
