"""The inputs of the gate as z3 constants, and what it means that each is as declared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import z3

from loop4.domain import ToolClass
from loop4.policies.facts import FUTURE_SKEW_MS, FactSchema, FactType
from loop4.policies.policy import Policy
from loop4.policies.rules import AGENTS, STRICTNESS, ToolDeclaration
from loop4.policies.situation import OTHER

CLAIMED = ("environment", "requester_kind")
_TRUE = z3.BoolVal(True)


def all_of(terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    """The conjunction. `z3.And` looks at the sort of every term; of ours each is a boolean."""
    return _many(z3.Z3_mk_and, terms)


def any_of(terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    """The disjunction, likewise."""
    return _many(z3.Z3_mk_or, terms)


def _many(make: Callable[..., z3.Ast], terms: Iterable[z3.BoolRef]) -> z3.BoolRef:
    parts = list(terms)  # keeps the terms alive until the new one holds them
    context = z3.main_ctx()
    array = (z3.Ast * len(parts))(*(part.ast for part in parts))
    return z3.BoolRef(make(context.ref(), len(parts), array), context)


@dataclass(frozen=True, slots=True)
class FactSymbols:
    """One fact as the gate may find it. `value` counts only if present and well typed."""

    value: z3.ExprRef
    is_present: z3.BoolRef
    is_typed: z3.BoolRef
    age_ms: z3.ArithRef


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
        for word in (OTHER, *sorted(AGENTS), *_all_words(policies), *_enum_words(self.schemas)):
            self.words.setdefault(word, len(self.words))
        self.tool, self.mode = z3.Int("tool"), z3.Int("mode")
        self.agent, self.service = z3.Int("agent"), z3.Int("service")
        self.claims = {name: z3.Int(f"action_{name}") for name in CLAIMED}
        self.is_executable = z3.Bool("is_executable")
        self.arguments_fit = z3.Bool("arguments_fit")
        self.is_approved = z3.Bool("is_approved")
        self.facts = {name: _fact_symbols(schema) for name, schema in self.schemas.items()}
        self._sets: dict[frozenset[str], z3.BoolRef] = {}
        self._usable: dict[str, z3.BoolRef] = {}

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

    def facts_of(self, index: int) -> tuple[str, ...]:
        """The facts that the tool of this index declares; those of an unknown one are none."""
        if index >= len(self.tool_names):
            return ()
        return self.tools[self.tool_names[index]].facts

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
        return any_of(symbol == self.words[word] for word in sorted(words))

    def is_usable(self, name: str) -> z3.BoolRef:
        """The fact is present, exactly of its type, in range and fresh."""
        if name not in self._usable:
            schema, fact = self.schemas[name], self.facts[name]
            self._usable[name] = z3.And(
                fact.is_present,
                fact.is_typed,
                self.is_in_range(name, fact.value),
                fact.age_ms >= -FUTURE_SKEW_MS,
                fact.age_ms <= schema.max_age_s * 1000,
            )
        return self._usable[name]

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
        return all_of(self._of_declared(tools, self.schemas, self.is_usable))

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
        for binding in policy.bindings:
            for words in (binding.environments, binding.services):
                yield from sorted(words or ())
        for rule in policy.rules:
            for words in (rule.match.environments, rule.match.services):
                yield from sorted(words or ())


def _enum_words(schemas: Mapping[str, FactSchema]) -> Iterable[str]:
    yield from ("agent", "person")
    for schema in schemas.values():
        yield from schema.values
