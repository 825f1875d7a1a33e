"""The nouns of the policy: tool declarations, rules with what they match, and bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loop4.domain import ApprovalNeed, Effect, Mode, ToolClass
from loop4.policies.tree import Tree

ROLES = ("on-call", "service-owner", "policy-author", "security-policy-author")
"""Who may be asked for an approval, weakest first: of two rules the later role holds."""

ESCALATION_ROLES = (*ROLES, "orchestration")

AGENTS = frozenset((
    "health", "remediation", "flag", "incident", "resilience", "capacity", "performance", "signal",
))  # fmt: skip
"""The fleet. None of these may vote."""

OBLIGATIONS = ("verify_health_within_s", "expires_within_s")
"""What a verdict may oblige the act to. An unknown one would be ignored, so it is refused."""

SUGGEST_NEED = ApprovalNeed(role="on-call", need=1, ttl_s=900)
"""What a write asks for where the binding says `suggest`."""

FLEET_NEED = ApprovalNeed(role="policy-author", need=1, ttl_s=3600)
"""What a change of the fleet itself asks for at least, if a rule would let it through unasked."""

LATTICE = (Effect.DENY, Effect.ESCALATE, Effect.REQUIRE_APPROVAL, Effect.ALLOW)
"""Worst first; the worst of the matched rules holds."""

STRICTNESS = (Mode.OBSERVE, Mode.SUGGEST, Mode.ACT)
"""Strictest first; the strictest of the matching bindings holds."""


@dataclass(frozen=True, slots=True)
class ToolDeclaration:
    """What the gate knows about a tool. Declared is not executable: executors are a set apart.

    `arguments` maps a name to string | int | bool | strings | object; `has_more_arguments` lets
    others pass unchecked. `facts` are those that are checked before any rule looks at the action.
    `is_forward` marks a tool that brings something new; a freeze blocks those.
    """

    name: str
    tool_class: ToolClass
    effect: str
    facts: tuple[str, ...]
    arguments: Mapping[str, str]
    has_more_arguments: bool = False
    is_forward: bool = False
    is_reversible: bool = False
    inverse: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a rule applies. None = anywhere; `tools` is expanded: names, no globs."""

    tools: frozenset[str]
    agents: frozenset[str] | None = None
    environments: frozenset[str] | None = None
    services: frozenset[str] | None = None
    tiers: frozenset[int] | None = None

    def covers(self, tool: str, agent: str, environment: str, service: str) -> bool:
        """Whether the rule applies to such an action; the tier is a fact and looked at later."""
        return (
            tool in self.tools
            and (self.agents is None or agent in self.agents)
            and (self.environments is None or environment in self.environments)
            and (self.services is None or service in self.services)
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `when` None = always. `reason` may hold {facts.NAME}."""

    rule_id: str
    match: Match
    when: Tree | None
    effect: Effect
    reason: str
    approval: ApprovalNeed | None = None
    escalate_to: str = ""
    obligations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """How far the fleet may go where this matches. None = anywhere.

    `widest` is how far an approved widening may go while the fleet runs; None = no further than
    `mode`.
    """

    name: str
    mode: Mode
    environments: frozenset[str] | None = None
    services: frozenset[str] | None = None
    classes: frozenset[ToolClass] | None = None
    widest: Mode | None = None

    def covers(self, tool_class: ToolClass, environment: str, service: str) -> bool:
        """Whether the binding speaks about such an action."""
        return (
            (self.environments is None or environment in self.environments)
            and (self.services is None or service in self.services)
            and (self.classes is None or tool_class in self.classes)
        )
