"""Random situations for the gate, some broken in a way that it must notice; the model asked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

import z3

from loop4.domain import Action, Effect, Fact, FactScalar, Mode
from loop4.policies.cases import NOW_MS, safe_action
from loop4.policies.facts import FUTURE_SKEW_MS, FactSchema, FactType
from loop4.policies.gate_model import Effects, GateModel
from loop4.policies.policy import Policy
from loop4.policies.rules import AGENTS, STRICTNESS
from loop4.policies.situation import OTHER, Situation
from loop4.policies.symbols import Symbols

EDGES = (0, 1, 2, 3, 6, 2500, 2501, 20000, 20001, 604800, 604801)


def random_situation(policy: Policy, tool: str, draw: random.Random) -> Situation:
    """Mostly as declared; one in three has something broken."""
    facts = {
        name: Fact(_value(policy.facts[name], draw), NOW_MS, policy.facts[name].source)
        for name in policy.tools[tool].facts
    }
    action = safe_action(policy, tool, facts)
    words = {word for b in policy.bindings for word in b.services or ()}
    action = replace(
        action,
        agent=draw.choice([*sorted(AGENTS), OTHER]),
        service=draw.choice([*sorted(words), OTHER]),
    )
    if draw.random() < 0.3:
        action, facts = _broken(action, facts, policy, draw)
    return Situation(
        action=action,
        facts=facts,
        mode=draw.choice(tuple(Mode)),
        has_executor=draw.random() < 0.9,
        is_approved=draw.random() < 0.5,
    )


def _broken(
    action: Action, facts: dict[str, Fact], policy: Policy, draw: random.Random
) -> tuple[Action, dict[str, Fact]]:
    name = draw.choice(sorted(facts))
    schema, fact = policy.facts[name], facts[name]
    kind = draw.choice(("missing", "age", "mistyped", "range", "claim", "arguments"))
    if kind == "missing":
        del facts[name]
    elif kind == "age":  # at the bound and one beyond it
        limit = schema.max_age_s * 1000
        age = draw.choice((limit, limit + 1, -FUTURE_SKEW_MS, -FUTURE_SKEW_MS - 1))
        facts[name] = replace(fact, at_ms=NOW_MS - age)
    elif kind == "mistyped":
        wrong = {FactType.BOOL: 1, FactType.INT: True, FactType.ENUM: 1}[schema.type]
        facts[name] = replace(fact, value=wrong)
    elif kind == "range" and schema.type is FactType.INT:
        facts[name] = replace(fact, value=draw.choice((schema.low - 1, schema.high + 1)))
    elif kind == "range" and schema.type is FactType.ENUM:
        facts[name] = replace(fact, value=OTHER)
    elif kind == "arguments" and action.arguments:
        action = replace(action, arguments={**action.arguments, next(iter(action.arguments)): None})
    else:
        environment = "lab" if action.environment != "lab" else "staging"
        action = replace(action, environment=environment)
    return action, facts


def _value(schema: FactSchema, draw: random.Random) -> FactScalar:
    if draw.random() < 0.4:
        return schema.safe
    if schema.type is FactType.BOOL:
        return draw.random() < 0.5
    if schema.type is FactType.ENUM:
        return draw.choice(schema.values)
    return min(max(draw.choice(EDGES), schema.low), schema.high)


class Asked:
    """The z3 model of one policy, asked about single situations."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.symbols = policy, Symbols((policy,))
        self.model = GateModel(self.symbols, policy)

    def effects(self, situation: Situation) -> tuple[Effect, Effect, Effect]:
        """What the rules say, what binding and executor make of it, and what approvals do."""
        stages = self.model.stages(frozenset((situation.action.tool,)))
        inputs = self._model(situation)
        decided, bound, approved = (
            self._which(found, inputs) for found in (stages.decided, stages.bound, stages.approved)
        )
        return decided, bound, approved

    def matched(self, situation: Situation) -> tuple[str, ...]:
        """The rules that fire, in their order, facts taken as usable."""
        inputs = self._model(situation)
        return tuple(
            rule.rule_id
            for rule in self.policy.rules
            if z3.is_true(inputs.eval(self.model.fires(rule), model_completion=True))
        )

    def _model(self, situation: Situation) -> z3.ModelRef:
        solver = z3.SimpleSolver()
        solver.add(*(symbol == value for symbol, value in self._inputs(situation)))
        assert solver.check() == z3.sat
        return solver.model()

    def _which(self, found: Effects, inputs: z3.ModelRef) -> Effect:
        terms = {effect: inputs.eval(found.of(effect)) for effect in Effect}
        assert all(z3.is_true(term) or z3.is_false(term) for term in terms.values()), terms
        holding = [effect for effect, term in terms.items() if z3.is_true(term)]
        assert len(holding) == 1, holding
        return holding[0]

    def _inputs(self, situation: Situation) -> Iterator[tuple[z3.ExprRef, z3.ExprRef]]:
        symbols, action = self.symbols, situation.action
        words = symbols.words
        assert situation.mode is not None
        declared = self.policy.tools[action.tool].arguments
        fit = all(action.arguments[name] is not None for name in declared)
        yield symbols.tool, z3.IntVal(symbols.tool_index[action.tool])
        yield symbols.agent, z3.IntVal(words[action.agent])
        yield symbols.service, z3.IntVal(words.get(action.service, words[OTHER]))
        yield symbols.mode, z3.IntVal(STRICTNESS.index(situation.mode))
        yield symbols.claims["environment"], z3.IntVal(words[action.environment])
        yield symbols.claims["requester_kind"], z3.IntVal(words[action.requester_kind])
        yield symbols.is_executable, z3.BoolVal(situation.has_executor)
        yield symbols.is_approved, z3.BoolVal(situation.is_approved)
        yield symbols.arguments_fit, z3.BoolVal(fit)
        for name, schema in symbols.schemas.items():
            yield from self._fact(schema, situation.facts.get(name), symbols.words)

    def _fact(
        self, schema: FactSchema, fact: Fact | None, words: Mapping[str, int]
    ) -> Iterator[tuple[z3.ExprRef, z3.ExprRef]]:
        symbols = self.symbols.facts[schema.name]
        value = schema.safe if fact is None else fact.value
        kinds = {FactType.BOOL: bool, FactType.INT: int, FactType.ENUM: str}
        is_typed = type(value) is kinds[schema.type]
        value = value if is_typed else schema.safe
        yield symbols.is_present, z3.BoolVal(fact is not None)
        yield symbols.is_typed, z3.BoolVal(is_typed)
        yield symbols.age_ms, z3.IntVal(0 if fact is None else NOW_MS - fact.at_ms)
        if schema.type is FactType.BOOL:
            yield symbols.value, z3.BoolVal(bool(value))
        elif schema.type is FactType.ENUM:
            yield symbols.value, z3.IntVal(words[str(value)])
        else:
            yield symbols.value, z3.IntVal(int(value))
