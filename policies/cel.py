"""The strict subset of CEL in which conditions are written: text to typed-able tree, with places.

    condition = or ;  or = and {"||" and} ;  and = relation {"&&" relation}
    relation  = sum {("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") sum}
    sum       = unary {("+" | "-") unary} ;  unary = {"!" | "-"} primary
    primary   = "(" or ")" | "[" literal {"," literal} "]" | literal | "facts." name

Every text that parses here is valid CEL with the same meaning. Left out on purpose: floats (NaN
passes thresholds), null, macros, regular expressions, arithmetic that can fail, string escapes.
`check.py` gives the tree its types; `compile.py` makes a function of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from loop4.policies.tree import (
    RELATIONS,
    Binary,
    BinaryOperator,
    Constant,
    ListOf,
    Name,
    Tree,
    Unary,
    height,
)

MAX_TOKENS = 500
MAX_DEPTH = 12  # brackets and signs inside each other
MAX_HEIGHT = 16  # operators inside each other; Google's reader gives up at 32 of both together
MAX_INTEGER = 2**47  # with at most MAX_TOKENS terms no sum leaves CEL's 64 bits


class CelError(ValueError):
    """A condition that cannot be used. `offset` is the 0-based place in its text."""

    def __init__(self, message: str, offset: int) -> None:
        self.message, self.offset = message, offset
        super().__init__(f"{message} (at character {offset + 1})")


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<float>[0-9]+(?:\.[0-9]*(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)|\.[0-9]+)
    | (?P<integer>[0-9]+[A-Za-z_0-9]*)
    | (?P<string>"[^"\\\n]*"|'[^'\\\n]*')
    | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
    | (?P<operator>&&|\|\||==|!=|<=|>=|<|>|!|\+|-|\(|\)|\[|\]|,|\.)
    )""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


def parse(text: str) -> Tree:
    """The tree of a condition. Raises CelError with the place of the first fault."""
    tokens = list(islice(_tokens(text), MAX_TOKENS + 1))
    if len(tokens) > MAX_TOKENS:
        raise CelError(f"longer than {MAX_TOKENS} words; use two rules", tokens[-1].offset)
    parser = _Parser(tokens)
    tree = parser.either(0)
    if parser.ahead.kind != "end":
        raise CelError(f"unexpected {parser.ahead.text!r}", parser.ahead.offset)
    if height(tree) > MAX_HEIGHT:
        raise CelError(f"operators nested deeper than {MAX_HEIGHT}; use two rules", tree.offset)
    return tree


def _tokens(text: str) -> Iterator[_Token]:
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            offset = position + len(text[position:]) - len(text[position:].lstrip())
            raise CelError(_why_not(text[offset]), offset)
        kind = found.lastgroup or ""
        offset = found.start(kind)
        if kind == "float":
            raise CelError(f"{found[kind]} is a float; use integers (basis points)", offset)
        yield _Token(kind, found[kind], offset)
        position = found.end()
    yield _Token("end", "end of condition", end)


def _why_not(character: str) -> str:
    if character in "\"'":
        return "a string that does not end on its line, or holds a backslash"
    if character in "*/%?:":
        return f"{character!r} is not in the subset; it has && || ! == != < <= > >= in + -"
    if character in "&|=":
        return f"a single {character!r}; did you mean {character * 2!r}?"
    return f"unexpected character {character!r}"


class _Parser:
    """One method a level of precedence, loosest first; `depth` bounds the nesting."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens, self.position = tokens, 0

    @property
    def ahead(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.ahead
        self.position += token.kind != "end"
        return token

    def expect(self, text: str) -> _Token:
        token = self.take()
        if token.kind != "operator" or token.text != text:
            raise CelError(f"found {token.text!r}, expected {text!r}", token.offset)
        return token

    def is_operator(self, *texts: str) -> bool:
        return self.ahead.kind in ("operator", "word") and self.ahead.text in texts

    def either(self, depth: int) -> Tree:
        tree = self.both(depth)
        while self.is_operator("||"):
            token = self.take()
            tree = Binary("||", tree, self.both(depth), token.offset)
        return tree

    def both(self, depth: int) -> Tree:
        tree = self.relation(depth)
        while self.is_operator("&&"):
            token = self.take()
            tree = Binary("&&", tree, self.relation(depth), token.offset)
        return tree

    def relation(self, depth: int) -> Tree:
        tree = self.total(depth)
        while self.is_operator(*RELATIONS):
            token = self.take()
            tree = Binary(_relation(token), tree, self.total(depth), token.offset)
        return tree

    def total(self, depth: int) -> Tree:
        tree = self.unary(depth)
        while self.is_operator("+", "-"):
            token = self.take()
            operator: Literal["+", "-"] = "+" if token.text == "+" else "-"
            tree = Binary(operator, tree, self.unary(depth), token.offset)
        return tree

    def unary(self, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise CelError(f"nested deeper than {MAX_DEPTH}", self.ahead.offset)
        if self.is_operator("!"):
            token = self.take()
            return Unary("!", self.unary(depth + 1), token.offset)
        if self.is_operator("-"):
            token = self.take()
            return Unary("-", self.unary(depth + 1), token.offset)
        return self.primary(depth + 1)

    def primary(self, depth: int) -> Tree:
        token = self.take()
        if token.kind == "operator" and token.text == "(":
            tree = self.either(depth)
            self.expect(")")
            return tree
        if token.kind == "operator" and token.text == "[":
            return self.list_of(token)
        if token.kind == "word" and token.text not in ("true", "false"):
            return self.fact(token)
        return _constant(token)

    def list_of(self, bracket: _Token) -> ListOf:
        values = [self.literal()]
        while self.is_operator(","):
            self.take()
            values.append(self.literal())
        self.expect("]")
        return ListOf(tuple(values), bracket.offset)

    def literal(self) -> Constant:
        token = self.take()
        if token.kind == "operator" and token.text == "-":
            number = _constant(self.take())
            if type(number.value) is int:
                return Constant(-number.value, token.offset)
        return _constant(token)

    def fact(self, word: _Token) -> Name:
        if word.text != "facts":
            raise CelError(f"unknown name {word.text!r}; facts are written facts.NAME", word.offset)
        self.expect(".")
        name = self.take()
        if name.kind != "word":
            raise CelError(f"found {name.text!r}, expected the name of a fact", name.offset)
        if self.is_operator("(", ".", "["):
            raise CelError("calls, fields and indexes are not in the subset", self.ahead.offset)
        return Name(name.text, word.offset)


def _relation(token: _Token) -> BinaryOperator:
    found: dict[str, BinaryOperator] = {
        "==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "in": "in",
    }  # fmt: skip
    return found[token.text]


def _constant(token: _Token) -> Constant:
    if token.kind == "word" and token.text in ("true", "false"):
        return Constant(token.text == "true", token.offset)
    if token.kind == "string":
        return Constant(token.text[1:-1], token.offset)
    if token.kind == "integer":
        if not token.text.isdecimal() or (token.text[0] == "0" and token.text != "0"):
            raise CelError(f"{token.text!r} is not a decimal integer", token.offset)
        if int(token.text) > MAX_INTEGER:
            raise CelError(f"{token.text} is above {MAX_INTEGER}", token.offset)
        return Constant(int(token.text), token.offset)
    raise CelError(f"found {token.text!r}, expected a fact or a literal", token.offset)
