"""From a solver's model to the plainest situation that shows the same.

Facts that need not differ are put back to their safe value, numbers are moved as near to it as they
go, so that what is left is what matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import z3

from loop4.domain import Action, Fact, FactScalar, Json, RequesterKind
from loop4.policies.cases import NOW_MS, safe_action
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.policy import Policy
from loop4.policies.rules import STRICTNESS, ToolDeclaration
from loop4.policies.situation import OTHER, Situation
from loop4.policies.symbols import Symbols

_NO_SUCH_TOOL = "code.unheard_of"
_MISTYPED: Mapping[FactType, FactScalar] = {
    FactType.BOOL: 1, FactType.INT: "many", FactType.ENUM: 1,
}  # fmt: skip


def plainest(solver: z3.Solver, symbols: Symbols) -> z3.ModelRef | None:
    """The model of a solver that just found one, after pulling every input to its plain value.

    Leaves its assertions in the solver: call it between push and pop. None if the solver gives
    up on the way.
    """
    index = solver.model().eval(symbols.tool, model_completion=True)
    solver.add(symbols.tool == index)
    names = symbols.facts_of(index.as_long())
    _grant(solver, _wishes(symbols, names))
    for name in names:
        if symbols.schemas[name].type is FactType.INT:
            _pull(solver, symbols.facts[name].value, symbols.schemas[name])
    return solver.model() if solver.check() == z3.sat else None


def _grant(solver: z3.Solver, wishes: Sequence[z3.BoolRef]) -> None:
    """Add as many wishes as can be had together, earlier ones first; most come true at once."""
    solver.push()
    solver.add(*wishes)
    found = solver.check()
    solver.pop()
    if found == z3.sat:
        solver.add(*wishes)
    elif len(wishes) > 1:
        middle = len(wishes) // 2
        _grant(solver, wishes[:middle])
        _grant(solver, wishes[middle:])


def situation(
    model: z3.ModelRef,
    symbols: Symbols,
    policy: Policy,
    facts: Mapping[str, z3.ExprRef] | None = None,
) -> Situation:
    """The situation of a model. `facts` are other value terms for some facts (a second look).

    What the action says of itself moves with its facts.
    """
    read, moved = _Reader(model, symbols), facts or {}
    index = read.integer(symbols.tool)
    is_known = index < len(symbols.tool_names)
    tool = symbols.tool_names[index] if is_known else symbols.tool_names[0]
    declared = policy.tools[tool]
    found = {
        name: fact
        for name in declared.facts
        if (fact := read.fact(name, moved.get(name))) is not None
    }
    action = safe_action(policy, tool, {})
    kind = RequesterKind(read.word(moved.get("requester_kind", symbols.claims["requester_kind"])))
    agent, service = read.word(symbols.agent), read.word(symbols.service)
    environment = read.word(moved.get("environment", symbols.claims["environment"]))
    action = replace(
        action,
        tool=tool if is_known else _NO_SUCH_TOOL,
        agent=agent,
        service=service,
        environment=environment,
        requester_kind=kind,
        requester="somebody" if kind is RequesterKind.PERSON else agent,
        arguments=action.arguments
        if read.boolean(symbols.arguments_fit)
        else _malformed(declared, action),
    )
    return Situation(
        action=action,
        facts=found,
        mode=STRICTNESS[read.integer(symbols.mode)],
        has_executor=read.boolean(symbols.is_executable),
        is_approved=read.boolean(symbols.is_approved),
        now_ms=NOW_MS,
    )


class _Reader:
    """Values of symbols in a model; what the model leaves open is filled in."""

    def __init__(self, model: z3.ModelRef, symbols: Symbols) -> None:
        self.model, self.symbols = model, symbols
        self.names = {index: word for word, index in symbols.words.items()}

    def integer(self, term: z3.ArithRef) -> int:
        return int(self.model.eval(term, model_completion=True).as_long())

    def boolean(self, term: z3.BoolRef) -> bool:
        return bool(z3.is_true(self.model.eval(term, model_completion=True)))

    def word(self, term: z3.ArithRef) -> str:
        return self.names[self.integer(term)]

    def fact(self, name: str, value: z3.ExprRef | None) -> Fact | None:
        """The fact as it would be found; None = missing."""
        schema, symbols = self.symbols.schemas[name], self.symbols.facts[name]
        if not self.boolean(symbols.is_present):
            return None
        at_ms = NOW_MS - self.integer(symbols.age_ms)
        if not self.boolean(symbols.is_typed):
            return Fact(_MISTYPED[schema.type], at_ms, schema.source)
        term = symbols.value if value is None else value
        found: FactScalar
        if schema.type is FactType.BOOL:
            found = self.boolean(term)
        elif schema.type is FactType.INT:
            found = self.integer(term)
        else:
            found = self.word(term)
        return Fact(found, at_ms, schema.source)


def _wishes(symbols: Symbols, names: Sequence[str]) -> list[z3.BoolRef]:
    """What a plain situation would be like, dearest wish first."""
    wishes = [
        symbols.is_executable,
        symbols.arguments_fit,
        symbols.mode == len(STRICTNESS) - 1,
        symbols.claims["requester_kind"] == symbols.words["agent"],
        symbols.agent == symbols.words["remediation"],
        symbols.service == symbols.words[OTHER],
    ]
    for name in names:
        schema, fact = symbols.schemas[name], symbols.facts[name]
        safe = symbols.words[str(schema.safe)] if schema.type is FactType.ENUM else schema.safe
        wishes += [fact.is_present, fact.is_typed, fact.age_ms == 0, fact.value == safe]
        if name in symbols.claims:
            wishes.append(symbols.claims[name] == fact.value)
    return [*wishes, z3.Not(symbols.is_approved)]


def _pull(solver: z3.Solver, value: z3.ArithRef, schema: FactSchema) -> None:
    """Bring a number as near to its safe value as the solver lets it; by halving."""
    safe = int(schema.safe)
    if solver.check() != z3.sat:
        return
    far = abs(int(solver.model().eval(value, model_completion=True).as_long()) - safe)
    near = 0

    def within(distance: int) -> z3.BoolRef:
        return z3.And(value >= safe - distance, value <= safe + distance)

    while near < far:
        middle = (near + far) // 2
        solver.push()
        solver.add(within(middle))
        found = solver.check()
        solver.pop()
        near, far = (near, middle) if found == z3.sat else (middle + 1, far)
    solver.add(within(far))


def _malformed(declared: ToolDeclaration, action: Action) -> dict[str, Json]:
    if declared.arguments:
        return {**action.arguments, next(iter(declared.arguments)): None}
    return {"undeclared": "x"}
