"""Rules that do nothing: never matching, shadowed, or redundant beside the others.

Asked of z3 over all inputs, so a finding is a fact about the rule set and not a guess.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

import z3

from loop4.domain import Effect, Json
from loop4.errors import PolicyError
from loop4.policies.gate_model import GateModel
from loop4.policies.policy import Policy
from loop4.policies.prove import TIMEOUT_MS
from loop4.policies.rules import ESCALATION_ROLES, LATTICE, ROLES, Rule
from loop4.policies.symbols import Symbols


class Fault(StrEnum):
    """What is wrong with a rule, worst first; a rule gets the first that holds."""

    NEVER_MATCHES = "never_matches"
    SHADOWED = "shadowed"
    REDUNDANT = "redundant"


@dataclass(frozen=True, slots=True)
class Remark:
    """One rule that does nothing. `because` are the rules that decide instead of it."""

    rule_id: str
    fault: Fault
    because: tuple[str, ...]
    sentence: str

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "rule": self.rule_id,
            "fault": self.fault.value,
            "because": list(self.because),
            "sentence": self.sentence,
        }


def lint(policy: Policy) -> tuple[Remark, ...]:
    """The remarks, by rule id. Raises PolicyError if z3 cannot say within its budget."""
    linter = _Linter(policy)
    return tuple(remark for rule in policy.rules if (remark := linter.look_at(rule)) is not None)


class _Linter:
    def __init__(self, policy: Policy) -> None:
        symbols = Symbols((policy,))
        self.policy, self.model = policy, GateModel(symbols, policy)
        self.solver = z3.SimpleSolver()
        self.solver.set("timeout", TIMEOUT_MS)
        self.solver.add(*symbols.bounds())

    def look_at(self, rule: Rule) -> Remark | None:
        tools = rule.match.tools
        rank = LATTICE.index(rule.effect)
        others = [other for other in self.model.rules_of(tools) if other is not rule]
        worse = [other for other in others if _hides(other, rule)]
        alike = [other for other in others if _says_as_much(other, rule)]
        milder = [other for other in others if LATTICE.index(other.effect) > rank]
        self.solver.push()
        self.solver.add(self.model.is_judged_by_rules(tools), self.model.fires(rule))
        try:
            if not self._happens():
                return _remark(rule, Fault.NEVER_MATCHES, (), "its condition can never hold")
            self._none_of(worse)
            if not self._happens():
                by = self._needed(rule, worse)
                text = f"wherever it matches, a stricter rule decides: {', '.join(by)}"
                return _remark(rule, Fault.SHADOWED, by, text)
            self._none_of(alike)
            if rule.effect is Effect.DENY and milder:
                # without it nothing may match, and nothing matched denies as well
                self.solver.add(z3.Or(*(self.model.fires(other) for other in milder)))
            happens = self._happens() if rule.effect is not Effect.DENY or milder else False
            if not happens:
                by = self._needed(rule, [*worse, *alike])
                also = ", ".join(by) if by else "the rule that nothing matched means deny"
                return _remark(
                    rule, Fault.REDUNDANT, by, f"without it every verdict is the same: {also}"
                )
        finally:
            self.solver.pop()
        return None

    def _none_of(self, rules: Collection[Rule]) -> None:
        self.solver.add(*(z3.Not(self.model.fires(rule)) for rule in rules))

    def _happens(self) -> bool:
        found = self.solver.check()
        if found == z3.unknown:
            raise PolicyError(f"z3 gave up on a rule: {self.solver.reason_unknown()}")
        return bool(found == z3.sat)

    def _needed(self, rule: Rule, rules: Collection[Rule]) -> tuple[str, ...]:
        """Those of the rules that ever match together with this one."""
        found = []
        solver = z3.SimpleSolver()
        solver.set("timeout", TIMEOUT_MS)
        solver.add(*self.model.symbols.bounds(), self.model.is_judged_by_rules(rule.match.tools))
        for other in rules:
            solver.push()
            solver.add(self.model.fires(rule), self.model.fires(other))
            if solver.check() != z3.unsat:
                found.append(other.rule_id)
            solver.pop()
        return tuple(found)


def _hides(worse: Rule, rule: Rule) -> bool:
    """A stricter rule after which nothing of this one is left.

    What `require_approval` stops may run later, and then the obligations of an allow count.
    """
    is_stricter = LATTICE.index(worse.effect) < LATTICE.index(rule.effect)
    return is_stricter and (not rule.obligations or worse.effect is not Effect.REQUIRE_APPROVAL)


def _says_as_much(other: Rule, rule: Rule) -> bool:
    """The same effect, and it asks, escalates and obliges to at least as much."""
    if other.effect is not rule.effect:
        return False
    if any(
        other.obligations.get(name, value + 1) > value for name, value in rule.obligations.items()
    ):
        return False
    need, its = rule.approval, other.approval
    if need is not None and its is not None:
        strong = ROLES.index(its.role) >= ROLES.index(need.role)
        return strong and its.need >= need.need and its.ttl_s <= need.ttl_s
    if rule.escalate_to:
        return ESCALATION_ROLES.index(other.escalate_to) >= ESCALATION_ROLES.index(rule.escalate_to)
    return True


def _remark(rule: Rule, fault: Fault, because: tuple[str, ...], text: str) -> Remark:
    return Remark(rule.rule_id, fault, because, f"{rule.rule_id}: {text}")
