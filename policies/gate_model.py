"""The gate as z3 terms: the same syntax tree that `compile.py` turns into Python, for all inputs.

What `judge` looks at becomes a symbol: tool, agent, environment, service, mode, the value, type,
presence and age of every fact, whether the arguments are as declared, whether an executor and a
fitting approval are there. Words are interned as integers. `effects` follows `Plan` and `judge`
line by line; tests compare the two on random and on boundary inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import z3

from loop4.domain import Effect, Mode, ToolClass
from loop4.policies.facts import FUTURE_SKEW_MS, FactSchema, FactType
from loop4.policies.policy import Policy
from loop4.policies.rules import ROLES, STRICTNESS, Match, Rule, ToolDeclaration
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary

OTHER = "something-else"  # stands for every word that neither rules nor bindings mention
CLAIMED = ("environment", "requester_kind")
_TRUE, _FALSE = z3.BoolVal(True), z3.BoolVal(False)


@dataclass(frozen=True, slots=True)
class FactSymbols:
    """One fact as the gate may find it. `value` counts only if present and well typed."""

    value: z3.ExprRef
    is_present: z3.BoolRef
    is_typed: z3.BoolRef
    age_ms: z3.ArithRef


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
        return z3.If(
            self.deny, 3, z3.If(self.escalate, 2, z3.If(self.require_approval, 1, 0))
        )


class Symbols:
    """The inputs of `judge` as z3 constants, shared by all policies over the same tools and facts.

    `words` interns every string that can matter; a word of none of them is `OTHER`.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        first = policies[0]
        self.tools: Mapping[str, ToolDeclaration] = first.tools
        self.schemas: Mapping[str, FactSchema] = first.facts
        order = {kind: index for index, kind in enumerate(ToolClass)}
        ordered = sorted(self.tools.values(), key=lambda tool: (order[tool.tool_class], tool.name))
        self.tool_names = tuple(tool.name for tool in ordered)
        self.tool_index = {name: index for index, name in enumerate(self.tool_names)}
        self.words: dict[str, int] = {}
        for word in (OTHER, *_all_words(policies), *_enum_words(self.schemas)):
            self.words.setdefault(word, len(self.words))
        self.tool, self.mode = z3.Int("tool"), z3.Int("mode")
        self.agent, self.service = z3.Int("agent"), z3.Int("service")
        self.claims = {name: z3.Int(f"action_{name}") for name in CLAIMED}
        self.is_executable = z3.Bool("is_executable")
        self.arguments_fit = z3.Bool("arguments_fit")
        self.is_approved = z3.Bool("is_approved")
        self.facts = {name: _fact_symbols(schema) for name, schema in self.schemas.items()}
        self._sets: dict[frozenset[str], z3.BoolRef] = {}

    def bounds(self) -> list[z3.BoolRef]:
        """What holds of every input: indexes name something, requesters are agents or persons."""
        kinds = [self.words[word] for word in ("agent", "person")]
        unfailing = [
            name
            for name, tool in self.tools.items()
            if not tool.arguments and tool.has_more_arguments
        ]
        terms = [
            z3.And(self.tool >= 0, self.tool <= len(self.tool_names)),
            z3.And(self.mode >= 0, self.mode < len(STRICTNESS)),
            z3.Or(*(self.claims["requester_kind"] == kind for kind in kinds)),
            z3.Implies(self.is_tool(unfailing), self.arguments_fit),
        ]
        strings = [self.agent, self.service, self.claims["environment"]]
        strings += [
            self.facts[name].value for name, s in self.schemas.items() if s.type is FactType.ENUM
        ]
        terms += [z3.And(string >= 0, string < len(self.words)) for string in strings]
        return terms

    def is_tool(self, names: Iterable[str]) -> z3.BoolRef:
        """The action's tool is one of these."""
        key = frozenset(names)
        if key not in self._sets:
            self._sets[key] = _in_ranges(self.tool, sorted(self.tool_index[name] for name in key))
        return self._sets[key]

    def is_class(self, *classes: ToolClass) -> z3.BoolRef:
        """The action's tool is declared and of one of these classes."""
        return self.is_tool(n for n, tool in self.tools.items() if tool.tool_class in classes)

    def is_word(self, symbol: z3.ArithRef, words: Collection[str] | None) -> z3.BoolRef:
        """The string is one of these; None = any."""
        if words is None:
            return _TRUE
        return z3.Or(*(symbol == self.words[word] for word in sorted(words)))

    def is_usable(self, name: str) -> z3.BoolRef:
        """The fact is present, exactly of its type, in range and fresh."""
        schema, fact = self.schemas[name], self.facts[name]
        return z3.And(
            fact.is_present,
            fact.is_typed,
            self.is_in_range(name, fact.value),
            fact.age_ms >= -FUTURE_SKEW_MS,
            fact.age_ms <= schema.max_age_s * 1000,
        )

    def is_in_range(self, name: str, value: z3.ExprRef) -> z3.BoolRef:
        """A well-typed value lies in the declared range or is one of the declared words."""
        schema = self.schemas[name]
        if schema.type is FactType.INT:
            return z3.And(value >= schema.low, value <= schema.high)
        if schema.type is FactType.ENUM:
            return self.is_word(value, schema.values)
        return _TRUE

    def facts_are_usable(self, tools: Collection[str]) -> z3.BoolRef:
        """Every fact that the action's tool declares is usable."""
        return z3.And(*self._of_declared(tools, self.schemas, self.is_usable))

    def claims_agree(self, tools: Collection[str]) -> z3.BoolRef:
        """The action says of environment and requester what the facts say."""
        return z3.And(
            *self._of_declared(
                tools, CLAIMED, lambda name: self.facts[name].value == self.claims[name]
            )
        )

    def _of_declared(
        self, tools: Collection[str], names: Iterable[str], term: Callable[[str], z3.BoolRef]
    ) -> list[z3.BoolRef]:
        found = []
        for name in names:
            declaring = [tool for tool in tools if name in self.tools[tool].facts]
            if declaring:
                found.append(z3.Implies(self.is_tool(declaring), term(name)))
        return found


class GateModel:
    """One policy over the symbols: which rules fire, and the effect at each stage of the gate."""

    def __init__(self, symbols: Symbols, policy: Policy) -> None:
        self.symbols, self.policy = symbols, policy
        self._conditions: dict[tuple[object, ...], z3.ExprRef] = {}
        self._fires: dict[str, z3.BoolRef] = {}

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
        return z3.And(*terms)

    def condition(self, tree: Tree) -> z3.ExprRef:
        """The tree as a term. Equal parts of different rules become one term."""
        return self._term(tree)[1]

    def rules_of(self, tools: Collection[str]) -> list[Rule]:
        """The rules that can fire for one of these tools."""
        wanted = frozenset(tools)
        return [rule for rule in self.policy.rules if rule.match.tools & wanted]

    def is_judged_by_rules(self, tools: Collection[str]) -> z3.BoolRef:
        """Tool, facts, arguments and claims are as declared: the rules have the word."""
        symbols = self.symbols
        return z3.And(
            symbols.is_tool(tools),
            symbols.arguments_fit,
            symbols.facts_are_usable(tools),
            symbols.claims_agree(tools),
        )

    def decided(self, tools: Collection[str]) -> Effects:
        """What the rules alone say, deny if they have not the word. `tools` = those that can be."""
        fired = {
            effect: [self.fires(r) for r in self.rules_of(tools) if r.effect is effect]
            for effect in Effect
        }
        some = {effect: z3.Or(*terms) if terms else _FALSE for effect, terms in fired.items()}
        lower = [some[e] for e in (Effect.ESCALATE, Effect.REQUIRE_APPROVAL, Effect.ALLOW)]
        deny = z3.Or(
            z3.Not(self.is_judged_by_rules(tools)), some[Effect.DENY], z3.Not(z3.Or(*lower))
        )
        escalate = z3.And(z3.Not(deny), some[Effect.ESCALATE])
        ask = z3.And(z3.Not(deny), z3.Not(escalate), some[Effect.REQUIRE_APPROVAL])
        allow = z3.And(z3.Not(deny), z3.Not(escalate), z3.Not(ask))
        return Effects(allow, ask, escalate, deny)

    def bound(self, decided: Effects) -> Effects:
        """After binding and executor have had their say."""
        symbols = self.symbols
        mode, is_executable = symbols.mode, symbols.is_executable
        suggest = mode == STRICTNESS.index(Mode.SUGGEST)
        observe = mode == STRICTNESS.index(Mode.OBSERVE)
        stopped = z3.Or(
            z3.And(observe, z3.Not(symbols.is_class(ToolClass.READ))), z3.Not(is_executable)
        )
        asks = z3.And(suggest, symbols.is_class(ToolClass.WRITE), decided.allow)
        goes_on = z3.Not(stopped)
        return Effects(
            allow=z3.And(goes_on, decided.allow, z3.Not(asks)),
            require_approval=z3.And(goes_on, z3.Or(decided.require_approval, asks)),
            escalate=z3.And(goes_on, decided.escalate),
            deny=z3.Or(stopped, decided.deny),
        )

    def approved(self, bound: Effects) -> Effects:
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
                if b.mode is strictness
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
        return z3.Or(*strong) if strong else _FALSE

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


def _fact_symbols(schema: FactSchema) -> FactSymbols:
    name = schema.name
    value = z3.Bool(name) if schema.type is FactType.BOOL else z3.Int(name)
    return FactSymbols(
        value, z3.Bool(f"{name}_is_present"), z3.Bool(f"{name}_is_typed"), z3.Int(f"{name}_age_ms")
    )


def _in_ranges(symbol: z3.ArithRef, indexes: Sequence[int]) -> z3.BoolRef:
    """The symbol is one of these sorted numbers; neighbours become one range."""
    ranges: list[list[int]] = []
    for index in indexes:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return z3.Or(
        *(
            symbol == low if low == high else z3.And(symbol >= low, symbol <= high)
            for low, high in ranges
        )
    )


def _all_words(policies: Sequence[Policy]) -> Iterable[str]:
    for policy in policies:
        for noun in (*policy.bindings, *(rule.match for rule in policy.rules)):
            for words in (noun.environments, noun.services, getattr(noun, "agents", None)):
                yield from sorted(words or ())


def _enum_words(schemas: Mapping[str, FactSchema]) -> Iterable[str]:
    yield from ("agent", "person")
    for schema in schemas.values():
        yield from schema.values
