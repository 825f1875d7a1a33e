"""From checked rules to one Python function: the fact check and every condition, fused.

The function reads each fact once and answers with the set of matching rules, or with None when any
fact or argument is not exactly as declared. After the check evaluation is total: no condition can
fail, so failing closed is a property and not a habit. Conditions are pure, so parts that several
rules share (`facts.deploy_frozen && ...`) are tested once, as nested branches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias

from loop4.domain import Action, Fact
from loop4.policies.facts import FUTURE_SKEW_MS, FactSchema, FactType, shown
from loop4.policies.rules import Rule, ToolDeclaration
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary

CHUNK = 30  # rules per integer: Python adds and keeps integers of one 30-bit digit fastest

Matched: TypeAlias = tuple[int, ...]
"""Which rules match: bit i of the j-th integer stands for rule j * CHUNK + i."""

Recorded: TypeAlias = "Mapping[str, object]"
"""A fact or an action as a ledger or a recording keeps it: JSON."""

DecideRecorded: TypeAlias = "Callable[[Mapping[str, Recorded], int, Recorded], Matched | None]"

Decide: TypeAlias = Callable[[Mapping[str, Fact], int, Action], Matched | None]

_Shape: TypeAlias = Callable[[str, str], str]
_OBJECT: _Shape = "{}.{}".format  # how the text reads a field of a fact or of the action
_RECORD: _Shape = '{}["{}"]'.format

_LEVEL = {"or": 1, "and": 2, "not": 3, "==": 4, "+": 5, "-": 5, "unary": 6}
_ARGUMENT_TYPES = {"string": "str", "int": "int", "bool": "bool"}
_DEEPEST = 20


def compile_rules(
    tool: ToolDeclaration, rules: Sequence[Rule], schemas: Mapping[str, FactSchema]
) -> Decide:
    """The fused function for one tool, over `Fact` and `Action`.

    It checks that every fact that the tool declares is present, exactly of its type, in range and
    fresh, that `environment` and `requester_kind` agree with the action, and that the arguments
    have the declared names and types. The text holds no word from outside except through repr.
    """
    decide: Decide = _function(tool, rules, schemas, _OBJECT)
    return decide


def compile_for_records(
    tool: ToolDeclaration, rules: Sequence[Rule], schemas: Mapping[str, FactSchema]
) -> DecideRecorded:
    """The same function over facts {"value", "at_ms"} and actions {"arguments", ...} as JSON."""
    decide: DecideRecorded = _function(tool, rules, schemas, _RECORD)
    return decide


def matching(rules: Sequence[Rule], matched: Matched) -> list[Rule]:
    """The rules that a compiled function found to match, in their order."""
    return [rule for i, rule in enumerate(rules) if matched[i // CHUNK] >> (i % CHUNK) & 1]


def argument_fault(tool: ToolDeclaration, action: Action) -> str:
    """Why the action's arguments are not what the tool declares; empty if they are."""
    given = action.arguments
    for name, kind in tool.arguments.items():
        if name not in given:
            return f"argument {name!r} is missing"
        if not _is_argument(given[name], kind):
            return f"argument {name!r} is {shown(given[name])}, expected {kind}"
    unknown = [name for name in given if name not in tool.arguments]
    if unknown and not tool.has_more_arguments:
        return f"argument {unknown[0]!r} is not declared for {tool.name!r}"
    return ""


def is_strings(value: object) -> bool:
    """Whether this is a list (or tuple) of strings."""
    return isinstance(value, (list, tuple)) and all(type(item) is str for item in value)


def _is_argument(value: object, kind: str) -> bool:
    if kind == "strings":
        return is_strings(value)
    if kind == "object":
        return isinstance(value, Mapping)
    return type(value).__name__ == _ARGUMENT_TYPES[kind]


def _function(
    tool: ToolDeclaration, rules: Sequence[Rule], schemas: Mapping[str, FactSchema], shape: _Shape
) -> Callable[..., Matched | None]:
    facts = sorted(tool.facts, key=lambda name: (schemas[name].max_age_s, schemas[name].source))
    local = {name: f"v{index}" for index, name in enumerate(facts)}
    scope: dict[str, object] = {
        "get": itemgetter(*facts),
        "strings": is_strings,
        "Mapping": Mapping,
        **{f"words_{local[n]}": {word: word for word in schemas[n].values} for n in facts},
    }
    conditions = [(index, tuple(_conjuncts(rule, local))) for index, rule in enumerate(rules)]
    chunks = [f"m{number}" for number in range(-(-len(rules) // CHUNK))]
    lines = [
        "def decide(facts, now, action):",
        " try:",
        *(f"  {line}" for line in _fact_check(tool, facts, schemas, shape)),
        " except (KeyError, AttributeError, TypeError):",
        "  return None",
        *(f" {chunk} = 0" for chunk in chunks),
        *_branches(conditions, 1),
        f" return ({''.join(f'{chunk}, ' for chunk in chunks)})",
    ]
    # The text is made above from checked trees only: numbers, own local names, repr of literals.
    exec(compile("\n".join(lines), f"<rules of {tool.name}>", "exec"), scope)  # noqa: S102
    decide = scope["decide"]
    assert callable(decide)  # noqa: S101  (tells the type checker what exec made)
    return decide


def _fact_check(
    tool: ToolDeclaration,
    facts: Sequence[str],
    schemas: Mapping[str, FactSchema],
    field: _Shape,
) -> list[str]:
    """Statements that bind v0, v1, ... to the facts' values, or return None.

    The facts come by rising maximum age: one with the very same time as the one before it is then
    fresh too. Facts of one source mostly share the time at which it was read.
    """
    lines = [f"{', '.join(f'f{index}' for index in range(len(facts)))} = get(facts)"]
    lines.append(f"a = {field('action', 'arguments')}")
    for age in sorted({schemas[name].max_age_s for name in facts}):
        lines.append(f"oldest{age} = now - {age * 1000}")
    lines.append(f"newest = now + {FUTURE_SKEW_MS}")
    checks = _argument_checks(tool)
    for index, name in enumerate(facts):
        schema, value, fact = schemas[name], f"v{index}", f"f{index}"
        if schema.type is FactType.ENUM:  # the look-up refuses unknown words and yields our own
            lines.append(f"{value} = words_{value}[{field(fact, 'value')}]")
        else:
            lines.append(f"{value} = {field(fact, 'value')}")
        if schema.type is FactType.BOOL:
            checks.append(f"({value} is True or {value} is False)")
        if schema.type is FactType.INT:
            # two comparisons: Python 3.11 is quicker with them than with a chain of two
            checks.append(f"type({value}) is int")
            checks.append(f"{value} >= {schema.low} and {value} <= {schema.high}")
        at_ms = field(fact, "at_ms")
        same = f"{at_ms} is t or " if index else ""
        checks.append(f"({same}oldest{schema.max_age_s} <= (t := {at_ms}) <= newest)")
        if name in ("environment", "requester_kind"):
            checks.append(f"{value} == {field('action', name)}")
    return [*lines, f"if not ({' and '.join(checks)}): return None"]


def _argument_checks(tool: ToolDeclaration) -> list[str]:
    comparison = ">=" if tool.has_more_arguments else "=="
    checks = [f"len(a) {comparison} {len(tool.arguments)}"]
    for name, kind in tool.arguments.items():
        if kind == "strings":
            checks.append(f"strings(a[{name!r}])")
        elif kind == "object":
            checks.append(f"isinstance(a[{name!r}], Mapping)")
        else:
            checks.append(f"type(a[{name!r}]) is {_ARGUMENT_TYPES[kind]}")
    return checks


def _branches(rules: Sequence[tuple[int, tuple[str, ...]]], depth: int) -> list[str]:
    """Statements that set the bits of the rules whose conjuncts all hold.

    The conjunct that most rules share becomes a branch around them; the rest follow after it.
    """
    pad = " " * depth
    counts = Counter(part for _, parts in rules for part in parts)
    shared, uses = max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    if uses < 2 or depth > _DEEPEST:
        lines = []
        for index, parts in rules:
            bit = f"m{index // CHUNK} += {1 << index % CHUNK}"
            lines.append(f"{pad}if {' and '.join(parts)}: {bit}" if parts else pad + bit)
        return lines
    inside = [(i, _without(parts, shared)) for i, parts in rules if shared in parts]
    outside = [(i, parts) for i, parts in rules if shared not in parts]
    opposite = f"not {shared}"
    other = [(i, _without(parts, opposite)) for i, parts in outside if opposite in parts]
    outside = [(i, parts) for i, parts in outside if opposite not in parts]
    lines = [f"{pad}if {shared}:", *_branches(inside, depth + 1)]
    if other:
        lines += [f"{pad}else:", *_branches(other, depth + 1)]
    return lines + (_branches(outside, depth) if outside else [])


def _without(parts: tuple[str, ...], part: str) -> tuple[str, ...]:
    return tuple(other for other in parts if other != part)


def _conjuncts(rule: Rule, local: Mapping[str, str]) -> Iterator[str]:
    """The rule's condition as Python expressions that must all hold; none = always."""
    if rule.match.tiers is not None:
        yield f"{local['tier']} in {_tuple(sorted(rule.match.tiers))}"
    for tree in _split(rule.when) if rule.when is not None else ():
        yield _python(tree, local, _LEVEL["and"] + 1)


def _split(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, Binary) and tree.operator == "&&":
        yield from _split(tree.left)
        yield from _split(tree.right)
    else:
        yield tree


def _python(tree: Tree, local: Mapping[str, str], level: int) -> str:
    """The tree as a Python expression, in brackets only if it binds looser than `level`."""
    if isinstance(tree, Constant):
        return repr(tree.value)
    if isinstance(tree, ListOf):
        return _tuple([value.value for value in tree.values])
    if isinstance(tree, Name):
        return local[tree.name]
    if isinstance(tree, Unary):
        own = _LEVEL["not" if tree.operator == "!" else "unary"]
        word = "not " if tree.operator == "!" else "-"
        text = word + _python(tree.operand, local, own)
    else:
        operator, own = _operator(tree)
        # Python chains comparisons: neither side of one may be another without brackets.
        left = own + 1 if own == _LEVEL["=="] else own
        text = f"{_python(tree.left, local, left)} {operator} {_python(tree.right, local, own + 1)}"
    return f"({text})" if own < level else text


def _operator(tree: Binary) -> tuple[str, int]:
    word = {"&&": "and", "||": "or"}.get(tree.operator, tree.operator)
    return word, _LEVEL.get(word, _LEVEL["=="])


def _tuple(values: Sequence[bool | int | str]) -> str:
    return "(" + "".join(f"{value!r}, " for value in values) + ")"
