"""Small faults put into the source of the compiler, one at a time, and modules made of them."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

WORDS = (
    ("<=", "<"), (">=", ">"), ("<= newest", "<= newest + 1"), ("==", "!="), (" and ", " or "),
    (" or ", " and "), ("not ", ""), (" is ", " is not "), ("is int", "is bool"), ("+=", "-="),
    ("now - ", "now + "), ("now + ", "now - "), ("if ", "if not "), ("return None", "pass"),
    ("newest", "now"), ("KeyError, ", ""), (", AttributeError", ""), (", TypeError", ""),
    ("-", "+"),
)  # fmt: skip
"""Pieces of generated text and what a slip would make of them."""

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Mult: ast.Add, ast.LShift: ast.Add, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong version of a source: the function and line it is in, what was done, the text."""

    place: str
    change: str
    source: str


def faults(path: Path, functions: Callable[[str], bool]) -> Iterator[Fault]:
    """Every fault in the functions that are asked for."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    owners, documentation = _owners(tree), _documentation(tree)
    for index, node in enumerate(ast.walk(tree)):
        if node in documentation or not functions(owners.get(node, "")):
            continue
        for choice in range(len(WORDS)):
            if _spoil(copy.deepcopy(node), choice):
                yield _fault(text, index, choice, f"{owners[node]}:{getattr(node, 'lineno', 0)}")


def module_of(source: str, name: str) -> ModuleType:
    """The source as a module that nobody else imports."""
    module = ModuleType(name)
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)  # noqa: S102  (our own source)
    return module


def _fault(text: str, index: int, choice: int, place: str) -> Fault:
    """The source with the `index`th node spoilt in the `choice`th way."""
    tree = ast.parse(text)
    node = list(ast.walk(tree))[index]
    before = ast.unparse(node)
    _spoil(node, choice)
    return Fault(place, f"{before} -> {ast.unparse(node)}", ast.unparse(tree))


def _owners(tree: ast.Module) -> dict[ast.AST, str]:
    owners: dict[ast.AST, str] = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            for node in (n for part in statement.body for n in ast.walk(part)):
                owners[node] = statement.name
    return owners


def _documentation(tree: ast.Module) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.FunctionDef) and isinstance(part.body[0], ast.Expr):
            found |= {part.body[0], part.body[0].value}
    return found


def _spoil(node: ast.AST, choice: int) -> bool:
    """Change the node in place; False if this choice does not apply to it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _spoil_text(node, node.value, choice)
    if choice > 1:
        return False
    if isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += 1 if choice == 0 else -1
        return True
    if choice == 1:
        return False
    if isinstance(node, ast.Compare):
        turned = _TURNED.get(type(node.ops[0]))
        if turned is not None:
            node.ops[0] = turned()
        return turned is not None
    if isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return True
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        node.op = _OPERATORS[type(node.op)]()
        return True
    if isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
        return True
    if isinstance(node, ast.If):
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        node.value = ast.Constant(None)  # the statement dropped: a check less
        return True
    return False


def _spoil_text(node: ast.Constant, value: str, choice: int) -> bool:
    if choice >= len(WORDS) or not re.search(r"[<>=+ -]", value):
        return False
    old, new = WORDS[choice]
    if old not in value:
        return False
    node.value = value.replace(old, new, 1)
    return True
