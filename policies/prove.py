"""Whether every invariant holds of a policy, for all inputs; if not, the situation that shows it.

A claim is proved when z3 finds no input that breaks it. Whatever z3 cannot say within its budget is
"unknown", and that is a failure like a violation. A violation is told only after the real gate,
asked about the very situation, gave the bad verdict; if it does not, model and gate differ, and
that is reported as a failure of its own.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import z3

from loop4.domain import Effect
from loop4.policies import counterexample
from loop4.policies.facts import FactType
from loop4.policies.gate_model import Effects, GateModel
from loop4.policies.invariants import (
    BOUND,
    Asks,
    Broken,
    Direction,
    Invariant,
    Never,
    NoBetterWith,
    UnchangedBy,
)
from loop4.policies.policy import Policy
from loop4.policies.proof import Counterexample, Proof, Status, breaks, sentence_of
from loop4.policies.rules import STRICTNESS
from loop4.policies.situation import answer
from loop4.policies.symbols import Symbols

TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class _Question:
    """Premise and broken claim as terms, with the second look if the claim compares two."""

    terms: tuple[z3.BoolRef, ...]
    moved: Mapping[str, z3.ExprRef]


class Prover:
    """The model of one policy, built once, and the solver that holds what is true of all inputs."""

    def __init__(self, policy: Policy, timeout_ms: int = TIMEOUT_MS) -> None:
        self.policy = policy
        self.symbols = Symbols((policy,))
        self.model = GateModel(self.symbols, policy)
        self.solver = z3.SimpleSolver()
        self.solver.set("timeout", timeout_ms)
        for rule in policy.rules:
            self.model.fires(rule)
        self.solver.add(*self.symbols.bounds())

    def prove(self, invariant: Invariant) -> Proof:
        """Proved, violated with a confirmed counterexample, or unknown."""
        started = time.perf_counter()
        question = self._question(invariant)
        self.solver.push()
        try:
            self.solver.add(*question.terms)
            found = self.solver.check()
            example, detail = None, ""
            status = Status.PROVED
            if found == z3.sat:
                example, detail = self._example(invariant, question)
                status = Status.VIOLATED if example is not None else Status.UNKNOWN
            elif found != z3.unsat:
                status, detail = Status.UNKNOWN, f"z3 gave up: {self.solver.reason_unknown()}"
        finally:
            self.solver.pop()
        ms = round((time.perf_counter() - started) * 1000, 3)
        return Proof(invariant.name, invariant.says, status, ms, example, detail)

    def _question(self, invariant: Invariant) -> _Question:
        """What must be satisfiable for the invariant to be broken."""
        model, symbols = self.model, self.symbols
        tools = invariant.match.tools
        stages = model.stages(tools)
        bound = stages.bound
        terms = list(self._premise(invariant))
        if invariant.without_approval:
            terms.append(z3.Or(*(bound.of(e) for e in sorted(invariant.without_approval))))
        claim = invariant.claim
        match claim:
            case Never():
                last = bound if invariant.unless_approved else stages.approved
                terms.append(z3.Or(*(last.of(effect) for effect in sorted(claim.effects))))
                if Effect.DENY in claim.effects:
                    terms += [model.is_judged_by_rules(tools), symbols.is_executable]
                return _Question(tuple(terms), {})
            case Asks():
                terms += [bound.require_approval, z3.Not(model.asks_role(tools, claim.role))]
                return _Question(tuple(terms), {})
            case UnchangedBy():
                terms.append(model.is_judged_by_rules(tools))
                return self._comparison(terms, bound, claim.facts, operator.ne)
            case NoBetterWith():
                terms.append(model.is_judged_by_rules(tools))
                found = self._comparison(terms, bound, (claim.fact,), operator.gt)
                return _Question((*found.terms, self._moves(claim, found.moved)), found.moved)
            case _:
                assert_never(claim)

    def _premise(self, invariant: Invariant) -> Iterator[z3.BoolRef]:
        model, symbols = self.model, self.symbols
        tools = invariant.match.tools
        if invariant.broken is Broken.TOOL:
            yield symbols.tool == len(symbols.tool_names)
        else:
            yield model.holds(invariant.match, invariant.when)
        match invariant.broken:
            case Broken.FACT:
                yield z3.Not(symbols.facts_are_usable(tools))
            case Broken.ARGUMENTS:
                yield z3.Not(symbols.arguments_fit)
            case Broken.CLAIM:
                yield z3.Not(symbols.claims_agree(tools))
            case Broken.EXECUTOR:
                yield z3.Not(symbols.is_executable)
        if invariant.mode == BOUND:
            yield symbols.mode >= model.mode_of_bindings(tools)
            yield symbols.mode <= model.ceiling_of_bindings(tools)  # an approval may widen so far
        elif invariant.mode is not None:
            yield symbols.mode == [str(mode) for mode in STRICTNESS].index(invariant.mode)

    def _comparison(
        self,
        terms: Sequence[z3.BoolRef],
        bound: Effects,
        facts: Sequence[str],
        breaks: Callable[[z3.ArithRef, z3.ArithRef], z3.BoolRef],
    ) -> _Question:
        """The same action with other values of these facts gets a rank that breaks the claim."""
        symbols = self.symbols
        moved: dict[str, z3.ExprRef] = {}
        pairs, ranges = [], []
        for name in facts:
            is_bool = symbols.schemas[name].type is FactType.BOOL
            moved[name] = (z3.Bool if is_bool else z3.Int)(f"{name}_moved")
            pairs.append((symbols.facts[name].value, moved[name]))
            ranges.append(symbols.is_in_range(name, moved[name]))
            if name in symbols.claims:  # the action then says so too
                pairs.append((symbols.claims[name], moved[name]))
        first = bound.rank()
        second = z3.substitute(first, *pairs)
        return _Question((*terms, *ranges, breaks(first, second)), moved)

    def _moves(self, claim: NoBetterWith, moved: Mapping[str, z3.ExprRef]) -> z3.BoolRef:
        value, other = self.symbols.facts[claim.fact].value, moved[claim.fact]
        if claim.to is Direction.MORE:
            return other > value
        if claim.to is Direction.LESS:
            return other < value
        if isinstance(claim.to, bool):
            return z3.And(other == claim.to, value != claim.to)
        word = self.symbols.words[claim.to]
        return z3.And(other == word, value != word)

    def _example(
        self, invariant: Invariant, question: _Question
    ) -> tuple[Counterexample | None, str]:
        """The plainest situation, confirmed by the real gate; or why there is none."""
        model = counterexample.plainest(self.solver, self.symbols)
        if model is None:
            return None, "z3 found a violation and then gave up while making it plain"
        first = counterexample.situation(model, self.symbols, self.policy)
        said = answer(first, self.policy)
        second = said_then = None
        if question.moved:
            second = counterexample.situation(model, self.symbols, self.policy, question.moved)
            said_then = answer(second, self.policy)
        sentence = sentence_of(invariant, self.policy, (first, said), (second, said_then))
        if not breaks(invariant, said, said_then):
            return None, f"the model and the gate differ; report this as a defect: {sentence}"
        return Counterexample(first, said, second, said_then, sentence), ""


def prove_all(policy: Policy, invariants: Sequence[Invariant]) -> tuple[Proof, ...]:
    """One proof an invariant, in their order."""
    prover = Prover(policy)
    return tuple(prover.prove(invariant) for invariant in invariants)
