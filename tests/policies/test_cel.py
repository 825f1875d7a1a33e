"""The condition language: what parses, what it means, and where a fault is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.policies.cel import CelError, parse
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary, names, unparse


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("facts.a || facts.b && facts.c", "facts.a || (facts.b && facts.c)"),
        ("facts.x + 1 - 2 < 3 && facts.a", "((facts.x + 1) - 2 < 3) && facts.a"),
        ("!facts.a == facts.b", "(!facts.a) == facts.b"),
        ("facts.x - 1 - 2 == 0", "(facts.x - 1) - 2 == 0"),
        ("facts.a\n  &&\tfacts.b", "facts.a && facts.b"),
    ],
)
def test_operators_bind_as_in_cel(text: str, same_as: str) -> None:
    assert unparse(parse(text)) == unparse(parse(same_as))


def test_brackets_that_change_the_meaning_are_kept() -> None:
    assert unparse(parse("(facts.a || facts.b) && facts.c")) == "(facts.a || facts.b) && facts.c"
    assert unparse(parse("1 - (2 - 3) == 0")) == "1 - (2 - 3) == 0"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (" + ".join(["facts.x"] * 18), 169, "operators nested deeper"),
        ("facts.x > 0.5", 11, "float"),
        ("facts.x > .5", 11, "float"),
        ("facts.x > 1e3", 11, "float"),
        ("facts.x = 1", 9, "did you mean '=='"),
        ("facts.a & facts.b", 9, "did you mean '&&'"),
        ("facts.x * 2 > 1", 9, "not in the subset"),
        ("facts.a ? 1 : 2", 9, "not in the subset"),
        ("facts.x / 2 == 1", 9, "not in the subset"),
        ("fact.a", 1, "unknown name 'fact'"),
        ("null == facts.a", 1, "unknown name 'null'"),
        ("facts.s.matches('x')", 8, "not in the subset"),
        ("size(facts.s) > 1", 1, "unknown name 'size'"),
        ("facts.l.all(x, x > 1)", 8, "not in the subset"),
        ("facts.s[0] == 1", 8, "not in the subset"),
        ('facts.s == "a\\n"', 12, "backslash"),
        ('facts.s == "a', 12, "does not end"),
        ("facts.x == 0x10", 12, "not a decimal integer"),
        ("facts.x == 10u", 12, "not a decimal integer"),
        ("facts.x == 010", 12, "not a decimal integer"),
        ("facts.x < 999999999999999999", 11, "above"),
        ("facts.a &&", 11, "expected a fact or a literal"),
        ("(facts.a", 9, "expected ')'"),
        ("facts.a facts.b", 9, "unexpected 'facts'"),
        ("facts.x in []", 13, "expected a fact or a literal"),
        ("", 1, "expected a fact or a literal"),
        ("facts.a // x", 9, "not in the subset"),
        ("facts.ä", 7, "unexpected character"),
        ("!" * 14 + "facts.a", 14, "nested deeper"),
        ("(" * 14 + "facts.a" + ")" * 14, 14, "nested deeper"),
    ],
)
def test_what_is_not_in_the_subset_is_refused_with_its_place(
    text: str, column: int, message: str
) -> None:
    with pytest.raises(CelError) as caught:
        parse(text)
    assert message in caught.value.message
    assert caught.value.offset + 1 == column


def test_a_condition_of_unreasonable_length_is_refused() -> None:
    with pytest.raises(CelError, match="longer than"):
        parse("facts.a && " * 125 + "facts.a")
    assert names(parse("facts.a && " * 120 + "facts.a")) == {"a"}


def test_names_are_all_facts_that_a_condition_reads() -> None:
    tree = parse('!facts.a && facts.x + 1 < facts.y || facts.w in ["x"]')
    assert names(tree) == {"a", "x", "y", "w"}


constants = st.one_of(
    st.booleans().map(lambda value: Constant(value, 0)),
    st.integers(0, 10**9).map(lambda value: Constant(value, 0)),
    st.sampled_from(["a", "b c", "it's"]).map(lambda value: Constant(value, 0)),
)
facts = st.sampled_from("abcxyz").map(lambda name: Name(name, 0))
lists = st.lists(constants, min_size=1, max_size=3).map(lambda values: ListOf(tuple(values), 0))
trees: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(constants, facts, lists),
    lambda inner: st.one_of(
        st.builds(Unary, st.sampled_from(["!", "-"]), inner, st.just(0)),
        st.builds(
            Binary,
            st.sampled_from(["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-"]),
            inner,
            inner,
            st.just(0),
        ),
    ),
    max_leaves=12,
)


def _without_places(tree: Tree) -> object:
    if isinstance(tree, Constant):
        return ("constant", type(tree.value).__name__, tree.value)
    if isinstance(tree, ListOf):
        return ("list", tuple(_without_places(value) for value in tree.values))
    if isinstance(tree, Name):
        return ("name", tree.name)
    if isinstance(tree, Unary):
        return (tree.operator, _without_places(tree.operand))
    return (tree.operator, _without_places(tree.left), _without_places(tree.right))


@given(trees)
def test_reading_what_was_written_gives_the_same_tree(tree: Tree) -> None:
    assert _without_places(parse(unparse(tree))) == _without_places(tree)
