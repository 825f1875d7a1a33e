"""The result of proving an invariant: proved, or the situation that breaks it, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from loop4.domain import Effect, Json
from loop4.policies.invariants import Asks, Claim, Invariant, Never, NoBetterWith, UnchangedBy
from loop4.policies.policy import Policy
from loop4.policies.rules import LATTICE, ROLES
from loop4.policies.situation import Answer, Situation, situation_json, tell, with_unit
from loop4.policies.tree import names


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


def sentence_of(
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
    named |= _moved(claim)
    situation, said = first
    text = f"When {tell(situation, policy, named)}: the gate says {_verdict(said)}."
    other, other_said = second
    if other is not None and other_said is not None:
        told = " and ".join(
            f"{name} is {with_unit(name, other.facts[name].value, policy.facts[name])}"
            for name in sorted(_moved(claim))
            if name in other.facts
        )
        text += f" If {told or 'they are otherwise'} instead, it says {_verdict(other_said)}."
    return f"{text} Promised: {invariant.says.rstrip('.')}."


def _moved(claim: Claim) -> frozenset[str]:
    """The facts that a comparing claim moves."""
    if isinstance(claim, UnchangedBy):
        return frozenset(claim.facts)
    return frozenset((claim.fact,)) if isinstance(claim, NoBetterWith) else frozenset()


def _verdict(said: Answer) -> str:
    by = f"by {', '.join(said.rules)}" if said.rules else "no rule matched"
    told = [reason for reason in said.reasons if not reason.startswith("rule ")]
    reason = f": {told[0]}" if told else ""
    return f"{said.effect} ({by}{reason})"


def _counterexample_json(example: Counterexample) -> dict[str, Json]:
    body = situation_json(example.situation, example.answer)
    if example.other is not None and example.other_answer is not None:
        body["other"] = situation_json(example.other, example.other_answer)
    return {"sentence": example.sentence, **body}
