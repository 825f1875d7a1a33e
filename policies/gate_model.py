"""The gate as z3 terms: the same syntax tree that `compile.py` turns into Python, for all inputs.

`stages` follows `Plan` and `judge` line by line: facts and arguments as declared, the worst matched
rule, binding and executor, a fitting approval. Tests compare it with the real gate on random and on
boundary inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import z3

from loop4.domain import Effect, Mode, ToolClass
from loop4.policies.policy import Policy
from loop4.policies.rules import ROLES, STRICTNESS, Binding, Match, Rule
from loop4.policies.symbols import Symbols, all_of, any_of
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary

_TRUE, _FALSE = z3.BoolVal(True), z3.BoolVal(False)


@dataclass(frozen=True, slots=True)
class Effects:
    """Four terms of which exactly one holds."""

    allow: z3.BoolRef
    require_approval: z3.BoolRef
    escalate: z3.BoolRef
    deny: z3.BoolRef

    def of(self, effect: Effect) -> z3.BoolRef:
        """The term of one effect."""
        found: z3.BoolRef = getattr(self, effect.value)
        return found

    def rank(self) -> z3.ArithRef:
        """0 for allow to 3 for deny."""
        return z3.If(self.deny, 3, z3.If(self.escalate, 2, z3.If(self.require_approval, 1, 0)))


@dataclass(frozen=True, slots=True)
class Stages:
    """What the rules alone say, what binding and executor make of it, and an approval of that."""

    decided: Effects
    bound: Effects
    approved: Effects


class GateModel:
    """One policy over the symbols: which rules fire, and the effect at each stage of the gate."""

    def __init__(self, symbols: Symbols, policy: Policy) -> None:
        self.symbols, self.policy = symbols, policy
        self._conditions: dict[tuple[object, ...], z3.ExprRef] = {}
        self._fires: dict[str, z3.BoolRef] = {}
        self._judged: dict[frozenset[str], z3.BoolRef] = {}
        self._stages: dict[frozenset[str], Stages] = {}

    def fires(self, rule: Rule) -> z3.BoolRef:
        """The rule matches the action and its condition holds; facts taken as usable."""
        if rule.rule_id not in self._fires:
            self._fires[rule.rule_id] = self.holds(rule.match, rule.when)
        return self._fires[rule.rule_id]

    def holds(self, match: Match, when: Tree | None) -> z3.BoolRef:
        """The action is matched and the condition holds."""
        symbols = self.symbols
        terms = [symbols.is_tool(match.tools)]
        if match.agents is not None:
            terms.append(symbols.is_word(symbols.agent, match.agents))
        if match.environments is not None:
            terms.append(symbols.is_word(symbols.claims["environment"], match.environments))
        if match.services is not None:
            terms.append(symbols.is_word(symbols.service, match.services))
        if match.tiers is not None:
            tier = symbols.facts["tier"].value
            terms.append(z3.Or(*(tier == value for value in sorted(match.tiers))))
        if when is not None:
            terms.append(self.condition(when))
        return all_of(terms)

    def condition(self, tree: Tree) -> z3.ExprRef:
        """The tree as a term. Equal parts of different rules become one term."""
        return self._term(tree)[1]

    def rules_of(self, tools: Collection[str]) -> list[Rule]:
        """The rules that can fire for one of these tools."""
        wanted = frozenset(tools)
        return [rule for rule in self.policy.rules if rule.match.tools & wanted]

    def is_judged_by_rules(self, tools: frozenset[str]) -> z3.BoolRef:
        """Tool, facts, arguments and claims are as declared: the rules have the word."""
        if tools not in self._judged:
            symbols = self.symbols
            self._judged[tools] = z3.And(
                symbols.is_tool(tools),
                symbols.arguments_fit,
                symbols.facts_are_usable(tools),
                symbols.claims_agree(tools),
            )
        return self._judged[tools]

    def stages(self, tools: frozenset[str]) -> Stages:
        """The effect at each stage of the gate, for an action on one of these tools."""
        if tools not in self._stages:
            decided = self._decide(tools)
            bound = self._bind(decided)
            self._stages[tools] = Stages(decided, bound, self._approve(bound))
        return self._stages[tools]

    def _decide(self, tools: frozenset[str]) -> Effects:
        """What the rules alone say; deny if they have not the word, or if none matches."""
        fired = {
            effect: [self.fires(r) for r in self.rules_of(tools) if r.effect is effect]
            for effect in Effect
        }
        some = {effect: any_of(terms) for effect, terms in fired.items()}
        lower = [some[e] for e in (Effect.ESCALATE, Effect.REQUIRE_APPROVAL, Effect.ALLOW)]
        deny = z3.Or(
            z3.Not(self.is_judged_by_rules(tools)), some[Effect.DENY], z3.Not(z3.Or(*lower))
        )
        escalate = z3.And(z3.Not(deny), some[Effect.ESCALATE])
        ask = z3.And(z3.Not(deny), z3.Not(escalate), some[Effect.REQUIRE_APPROVAL])
        allow = z3.And(z3.Not(deny), z3.Not(escalate), z3.Not(ask))
        return Effects(allow, ask, escalate, deny)

    def _bind(self, decided: Effects) -> Effects:
        """After binding and executor have had their say."""
        symbols = self.symbols
        mode, is_executable = symbols.mode, symbols.is_executable
        suggest = mode == STRICTNESS.index(Mode.SUGGEST)
        observe = mode == STRICTNESS.index(Mode.OBSERVE)
        stopped = z3.Or(
            z3.And(observe, z3.Not(symbols.is_class(ToolClass.READ, ToolClass.FLEET))),
            z3.Not(is_executable),
        )
        asks = z3.And(
            z3.Or(
                z3.And(suggest, symbols.is_class(ToolClass.WRITE)),
                symbols.is_class(ToolClass.FLEET),
            ),
            decided.allow,
        )
        goes_on = z3.Not(stopped)
        return Effects(
            allow=z3.And(goes_on, decided.allow, z3.Not(asks)),
            require_approval=z3.And(goes_on, z3.Or(decided.require_approval, asks)),
            escalate=z3.And(goes_on, decided.escalate),
            deny=z3.Or(stopped, decided.deny),
        )

    def _approve(self, bound: Effects) -> Effects:
        """After approvals: one that fits lifts `require_approval`, and nothing else."""
        is_approved = self.symbols.is_approved
        return Effects(
            allow=z3.Or(bound.allow, z3.And(bound.require_approval, is_approved)),
            require_approval=z3.And(bound.require_approval, z3.Not(is_approved)),
            escalate=bound.escalate,
            deny=bound.deny,
        )

    def mode_of_bindings(self, tools: Collection[str]) -> z3.ArithRef:
        """The strictest mode that a binding gives, `observe` where none speaks."""
        return self._strictest(tools, lambda binding: binding.mode)

    def ceiling_of_bindings(self, tools: Collection[str]) -> z3.ArithRef:
        """How far an approved widening may go."""
        return self._strictest(tools, lambda binding: binding.widest or binding.mode)

    def _strictest(self, tools: Collection[str], of: Callable[[Binding], Mode]) -> z3.ArithRef:
        mode: z3.ArithRef = z3.IntVal(STRICTNESS.index(Mode.OBSERVE))
        for strictness in reversed(STRICTNESS):
            speaking = [
                z3.And(
                    self.symbols.is_tool(
                        tool
                        for tool in tools
                        if b.classes is None or self.policy.tools[tool].tool_class in b.classes
                    ),
                    self.symbols.is_word(self.symbols.claims["environment"], b.environments),
                    self.symbols.is_word(self.symbols.service, b.services),
                )
                for b in self.policy.bindings
                if of(b) is strictness
            ]
            if speaking:
                mode = z3.If(z3.Or(*speaking), STRICTNESS.index(strictness), mode)
        return mode

    def asks_role(self, tools: Collection[str], role: str) -> z3.BoolRef:
        """Some rule that fires asks this role or a stronger one."""
        strong = [
            self.fires(rule)
            for rule in self.rules_of(tools)
            if rule.approval and ROLES.index(rule.approval.role) >= ROLES.index(role)
        ]
        return any_of(strong)

    def _term(self, tree: Tree) -> tuple[tuple[object, ...], z3.ExprRef]:
        """A key that equal trees share, places aside, and the term."""
        key: tuple[object, ...]
        if isinstance(tree, Constant):
            key = (type(tree.value).__name__, tree.value)
        elif isinstance(tree, Name):
            return (tree.name,), self.symbols.facts[tree.name].value
        elif isinstance(tree, ListOf):
            key = ("list", *(value.value for value in tree.values))
        elif isinstance(tree, Unary):
            inner, operand = self._term(tree.operand)
            key = (tree.operator, inner)
            if key not in self._conditions:
                self._conditions[key] = z3.Not(operand) if tree.operator == "!" else -operand
            return key, self._conditions[key]
        else:
            return self._binary(tree)
        if key not in self._conditions:
            self._conditions[key] = self._constant(tree)
        return key, self._conditions[key]

    def _constant(self, tree: Constant | ListOf) -> z3.ExprRef:
        if isinstance(tree, ListOf):
            return _FALSE  # never looked at: `in` reads the values itself
        if isinstance(tree.value, bool):
            return z3.BoolVal(tree.value)
        if isinstance(tree.value, int):
            return z3.IntVal(tree.value)
        words = self.symbols.words  # a literal that no fact can be gets a number of its own
        return z3.IntVal(words.setdefault(tree.value, len(words)))

    def _binary(self, tree: Binary) -> tuple[tuple[object, ...], z3.ExprRef]:
        left_key, left = self._term(tree.left)
        right_key, right = self._term(tree.right)
        key = (tree.operator, left_key, right_key)
        if key not in self._conditions:
            self._conditions[key] = self._operation(tree, left, right)
        return key, self._conditions[key]

    def _operation(self, tree: Binary, left: z3.ExprRef, right: z3.ExprRef) -> z3.ExprRef:
        if tree.operator == "in" and isinstance(tree.right, ListOf):
            return z3.Or(*(left == self._term(value)[1] for value in tree.right.values))
        operations = {
            "&&": lambda: z3.And(left, right),
            "||": lambda: z3.Or(left, right),
            "==": lambda: left == right,
            "!=": lambda: left != right,
            "<": lambda: left < right,
            "<=": lambda: left <= right,
            ">": lambda: left > right,
            ">=": lambda: left >= right,
            "+": lambda: left + right,
            "-": lambda: left - right,
        }
        return operations[tree.operator]()
