"""Whether every invariant holds of a policy, for all inputs; if not, the situation that shows it.

A claim is proved when z3 finds no input that breaks it. Whatever z3 cannot say within its budget is
"unknown", and that is a failure like a violation. A violation is told only after the real gate,
asked about the very situation, gave the bad verdict; if it does not, model and gate differ, and
that is reported as a failure of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import z3

from loop4.domain import Effect, Json
from loop4.policies import counterexample
from loop4.policies.facts import FactType
from loop4.policies.gate_model import Effects, GateModel, Symbols
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
from loop4.policies.rules import LATTICE, ROLES, STRICTNESS
from loop4.policies.situation import Answer, Situation, answer, tell
from loop4.policies.tree import names

TIMEOUT_MS = 10_000


class Status(StrEnum):
    """How a proof ended; only the first is a success."""

    PROVED = "proved"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A situation in which the real gate breaks the promise.

    `other` is the second look of a comparing invariant: the same with the named facts moved.
    """

    situation: Situation
    answer: Answer
    other: Situation | None
    other_answer: Answer | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The result for one invariant. `detail` says why a proof is unknown."""

    name: str
    says: str
    status: Status
    ms: float
    counterexample: Counterexample | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        body: dict[str, Json] = {"name": self.name, "status": self.status.value, "ms": self.ms}
        if self.detail:
            body["detail"] = self.detail
        if self.counterexample is not None:
            body["counterexample"] = _counterexample_json(self.counterexample)
        return body


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
        decided = model.decided(tools)
        bound = model.bound(decided)
        terms = list(self._premise(invariant))
        if invariant.without_approval:
            terms.append(z3.Or(*(bound.of(e) for e in sorted(invariant.without_approval))))
        claim = invariant.claim
        match claim:
            case Never():
                last = bound if invariant.unless_approved else model.approved(bound)
                terms.append(z3.Or(*(last.of(effect) for effect in sorted(claim.effects))))
                if Effect.DENY in claim.effects:
                    terms += [model.is_judged_by_rules(tools), symbols.is_executable]
                return _Question(tuple(terms), {})
            case Asks():
                terms += [bound.require_approval, z3.Not(model.asks_role(tools, claim.role))]
                return _Question(tuple(terms), {})
            case UnchangedBy():
                return self._comparison(terms, bound, claim.facts, lambda first, second: first != second)
            case NoBetterWith():
                question = self._comparison(
                    terms, bound, (claim.fact,), lambda first, second: second < first
                )
                return _Question((*question.terms, self._moves(claim, question.moved)), question.moved)
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
            yield symbols.mode == model.mode_of_bindings(tools)
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
        sentence = _sentence(invariant, self.policy, (first, said), (second, said_then))
        if not breaks(invariant, said, said_then):
            return None, f"the model and the gate differ; report this as a defect: {sentence}"
        return Counterexample(first, said, second, said_then, sentence), ""


def prove_all(policy: Policy, invariants: Sequence[Invariant]) -> tuple[Proof, ...]:
    """One proof an invariant, in their order."""
    prover = Prover(policy)
    return tuple(prover.prove(invariant) for invariant in invariants)


def breaks(invariant: Invariant, said: Answer, moved: Answer | None) -> bool:
    """Whether these answers of the real gate break the claim (premise taken as given)."""
    claim = invariant.claim
    match claim:
        case Never():
            effect = said.before_approvals if invariant.unless_approved else said.effect
            return effect in claim.effects
        case Asks():
            return said.before_approvals is Effect.REQUIRE_APPROVAL and ROLES.index(
                said.role
            ) < ROLES.index(claim.role)
        case UnchangedBy():
            return moved is not None and moved.before_approvals is not said.before_approvals
        case NoBetterWith():
            return moved is not None and LATTICE.index(moved.before_approvals) > LATTICE.index(
                said.before_approvals
            )
        case _:
            assert_never(claim)


def _sentence(
    invariant: Invariant,
    policy: Policy,
    first: tuple[Situation, Answer],
    second: tuple[Situation | None, Answer | None],
) -> str:
    """One paragraph for the operator: who asks what, which facts, what the gate said and by which
    rule, and what was promised.
    """
    claim = invariant.claim
    named = names(invariant.when) if invariant.when is not None else frozenset()
    if isinstance(claim, UnchangedBy):
        named |= frozenset(claim.facts)
    if isinstance(claim, NoBetterWith):
        named |= {claim.fact}
    situation, said = first
    text = f"When {tell(situation, policy, named)}: the gate says {_verdict(said)}."
    other, other_said = second
    if other is not None and other_said is not None:
        changed = [
            part for part in tell(other, policy, named).split("; ") if part not in text.split("; ")
        ]
        changed_text = "; ".join(changed) or "the same facts"
        text += f" With {changed_text.split(': the gate')[0]} instead it says {_verdict(other_said)}."
    return f"{text} Promised: {invariant.says.rstrip('.')}."


def _verdict(said: Answer) -> str:
    by = f"by {', '.join(said.rules)}" if said.rules else "no rule matched"
    reason = f": {said.reasons[0]}" if said.reasons else ""
    return f"{said.effect} ({by}{reason})"


def _counterexample_json(example: Counterexample) -> dict[str, Json]:
    body = situation_json(example.situation, example.answer)
    if example.other is not None and example.other_answer is not None:
        body["other"] = situation_json(example.other, example.other_answer)
    return {"sentence": example.sentence, **body}


def situation_json(situation: Situation, said: Answer) -> dict[str, Json]:
    """The situation in the form that `loop4 policy explain` reads, with the verdict."""
    action = situation.action
    return {
        "action": {
            "tool": action.tool,
            "service": action.service,
            "environment": action.environment,
            "agent": action.agent,
            "requester": action.requester,
            "requester_kind": str(action.requester_kind),
            "arguments": dict(action.arguments),
            "facts": {
                name: {"value": fact.value, "age_ms": situation.now_ms - fact.at_ms}
                for name, fact in sorted(situation.facts.items())
            },
        },
        "mode": "bound" if situation.mode is None else str(situation.mode),
        "has_executor": situation.has_executor,
        "is_approved": situation.is_approved,
        "effect": str(said.effect),
        "rules": list(said.rules),
        "reasons": list(said.reasons),
    }
