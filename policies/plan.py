"""What the gate does for one kind of action: the compiled rules, and the verdict of each outcome.

A `Plan` exists per tool and per combination of agent, environment and service that any rule or
binding mentions. Verdicts without numbers in their reasons are built once and handed out again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from loop4.domain import Action, ApprovalNeed, Effect, Fact, Mode, ToolClass, Verdict
from loop4.policies.compile import Decide, Matched, argument_fault, compile_rules, matching
from loop4.policies.facts import FactSchema
from loop4.policies.limits import NO_LIMITS, Limits
from loop4.policies.rules import (
    ESCALATION_ROLES,
    FLEET_NEED,
    LATTICE,
    ROLES,
    SUGGEST_NEED,
    Rule,
    ToolDeclaration,
)

PLACEHOLDER = re.compile(r"\{facts\.([A-Za-z_][A-Za-z_0-9]*)\}")
OBSERVED = "observe: decided and recorded only"
SUGGESTED = "suggest: every write needs a human here"
GOVERNED = "nobody changes the fleet alone"
OUTDATED = "an exception that the organisation's policies were read with ran out; import them again"
_MOST_VERDICTS = 4096


class Obligations(dict[str, int]):
    """A read-only dict: verdicts are shared, so nobody may write into one."""

    def _refuse(self, *_: object, **__: object) -> None:
        raise TypeError("the obligations of a verdict cannot be changed")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]  # one refusal for all writers
    __ior__ = _refuse  # type: ignore[assignment]  # likewise


class Plan:
    """The rules that can apply to one kind of action, compiled, in the order worst first."""

    __slots__ = (
        "decide",
        "is_executable",
        "limits",
        "mode",
        "rules",
        "schemas",
        "tool",
        "verdicts",
        "version",
    )

    def __init__(
        self,
        tool: ToolDeclaration,
        rules: Sequence[Rule],
        schemas: Mapping[str, FactSchema],
        mode: Mode,
        is_executable: bool,
        version: str,
        limits: Limits = NO_LIMITS,
    ) -> None:
        ordered = sorted(rules, key=lambda rule: (LATTICE.index(rule.effect), rule.rule_id))
        self.tool, self.rules, self.schemas = tool, tuple(ordered), schemas
        self.mode, self.is_executable, self.version = mode, is_executable, version
        self.limits = limits
        self.decide: Decide = _until(limits.until_ms, compile_rules(tool, self.rules, schemas))
        self.verdicts: dict[Matched | None, Verdict] = {}

    def answer(
        self, matched: Matched | None, action: Action, facts: Mapping[str, Fact], now_ms: int
    ) -> Verdict:
        """The verdict for what `decide` found, kept for the next time if it holds no number."""
        if matched is None:
            return self._refusal(action, facts, now_ms)
        rules = matching(self.rules, matched)
        decided = rules[0].effect if rules else Effect.DENY
        speaking = [rule for rule in rules if rule.effect is not Effect.ALLOW] or rules
        reasons = [_fill(rule.reason, facts) for rule in speaking]
        if not rules:
            reasons = [f"no rule allows {self.tool.name!r} here; nothing matched means deny"]
        verdict = self._verdict(decided, rules, tuple(reasons))
        if not any(PLACEHOLDER.search(rule.reason) for rule in speaking):
            if len(self.verdicts) >= _MOST_VERDICTS:
                self.verdicts.clear()
            self.verdicts[matched] = verdict
        return verdict

    def _refusal(self, action: Action, facts: Mapping[str, Fact], now_ms: int) -> Verdict:
        """The denial of an action whose facts or arguments are not as declared; names each."""
        faults = [self.schemas[name].fault(facts, now_ms) for name in self.tool.facts]
        reasons = [fault for fault in faults if fault]
        reasons += [fault for fault in (argument_fault(self.tool, action),) if fault]
        if not any(faults):
            reasons += _disagreements(action, facts)
        if self.limits.until_ms and now_ms >= self.limits.until_ms:
            reasons.append(OUTDATED)
        reasons = reasons or ["the facts could not be read"]
        return self._verdict(Effect.DENY, (), tuple(reasons))

    def _verdict(self, decided: Effect, rules: Sequence[Rule], reasons: tuple[str, ...]) -> Verdict:
        """The verdict, after binding and executor have had their say; `decided` stays."""
        effect = decided
        need = _combined([rule.approval for rule in rules if rule.approval])
        if self.mode is Mode.SUGGEST and self._is_write and decided is Effect.ALLOW:
            effect, need, reasons = (
                Effect.REQUIRE_APPROVAL,
                self.limits.need(SUGGEST_NEED),
                (*reasons, SUGGESTED),
            )
        if self._is_of_fleet and decided is Effect.ALLOW:
            effect, need, reasons = (
                Effect.REQUIRE_APPROVAL,
                self.limits.need(FLEET_NEED),
                (*reasons, GOVERNED),
            )
        if self.mode is Mode.OBSERVE and self._is_bound and decided is not Effect.DENY:
            effect, reasons = Effect.DENY, (OBSERVED, *reasons)
        if not self.is_executable and effect is not Effect.DENY:
            effect = Effect.DENY
            reasons = (f"no executor: {self.tool.name!r} is declared only", *reasons)
        roles = [rule.escalate_to for rule in rules if rule.effect is Effect.ESCALATE]
        return Verdict(
            effect=effect,
            decided=decided,
            rules=tuple(rule.rule_id for rule in rules),
            reasons=reasons,
            mode=self.mode,
            policy_version=self.version,
            obligations=_merged(rules),
            approval=need if effect is Effect.REQUIRE_APPROVAL else None,
            escalate_to=max(roles, key=ESCALATION_ROLES.index) if effect is Effect.ESCALATE else "",
        )

    @property
    def _is_write(self) -> bool:
        return self.tool.tool_class is ToolClass.WRITE

    @property
    def _is_of_fleet(self) -> bool:
        return self.tool.tool_class is ToolClass.FLEET

    @property
    def _is_bound(self) -> bool:
        """Reads go by the rules alone, and so do people's changes of the fleet itself."""
        return self.tool.tool_class not in (ToolClass.READ, ToolClass.FLEET)


def _until(until_ms: int, decide: Decide) -> Decide:
    """The same function, which finds nothing usable from that moment on; 0 = never."""
    if not until_ms:
        return decide

    def within(facts: Mapping[str, Fact], now_ms: int, action: Action) -> Matched | None:
        return decide(facts, now_ms, action) if now_ms < until_ms else None

    return within


def _fill(reason: str, facts: Mapping[str, Fact]) -> str:
    return PLACEHOLDER.sub(lambda found: str(facts[found[1]].value), reason)


def _disagreements(action: Action, facts: Mapping[str, Fact]) -> list[str]:
    """Where the action says something else about itself than the facts say."""
    reasons = []
    for name in ("environment", "requester_kind"):
        claimed = getattr(action, name)
        if name in facts and facts[name].value != claimed:
            found = facts[name].value
            reasons.append(f"the action says {name} {str(claimed)!r}, the fact is {str(found)!r}")
    return reasons


def _combined(needs: Sequence[ApprovalNeed]) -> ApprovalNeed | None:
    """One need that satisfies all: the strongest role, most people, shortest life."""
    if not needs:
        return None
    return ApprovalNeed(
        role=max((need.role for need in needs), key=ROLES.index),
        need=max(need.need for need in needs),
        ttl_s=min(need.ttl_s for need in needs),
    )


def _merged(rules: Sequence[Rule]) -> Mapping[str, int]:
    """All obligations of the matched rules; of two numbers the smaller, i.e. the stricter."""
    merged: dict[str, int] = {}
    for rule in rules:
        for name, value in rule.obligations.items():
            merged[name] = min(value, merged.get(name, value))
    return Obligations(merged)
