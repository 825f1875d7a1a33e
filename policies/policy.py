"""A loaded policy: frozen, with a version, and the compiled plan for each kind of action."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from loop4.domain import Action, Mode, ModeSetting, ToolClass
from loop4.policies.facts import FactSchema
from loop4.policies.limits import NO_LIMITS, Limits
from loop4.policies.modes import covers, in_force, strictest
from loop4.policies.plan import Plan
from loop4.policies.rules import Binding, Rule, ToolDeclaration

PlanKey: TypeAlias = "tuple[str, str, str, str]"
_MOST_SETTINGS = 64
_MOST_PLANS = 4096  # names come from outside: the memo is emptied rather than let grow


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Rules, bindings, tools and facts that belong together.

    `version` is the digest of all documents; it changes with any of them. `executors` are the tools
    that can run here; None = all declared ones (for tests of rules). `limits` stand in the
    rules already and say what else they hold. `settings` are the modes that people set while the
    fleet runs. `plans` is a memo of compiled functions by (tool, environment, service, agent),
    filled on first use.
    """

    version: str
    rules: tuple[Rule, ...]
    bindings: tuple[Binding, ...]
    tools: Mapping[str, ToolDeclaration]
    facts: Mapping[str, FactSchema]
    executors: frozenset[str] | None = None
    limits: Limits = NO_LIMITS
    settings: tuple[ModeSetting, ...] = ()
    plans: dict[PlanKey, Plan] = field(default_factory=dict, init=False)
    _shared: dict[PlanKey, Plan] = field(default_factory=dict, init=False)
    _under: dict[tuple[ModeSetting, ...], Policy] = field(default_factory=dict, init=False)

    def mode_of(self, tool: str, environment: str, service: str) -> Mode:
        """The mode in force for an action of this tool."""
        return self.mode_for(self.tools[tool].tool_class, environment, service)

    def mode_for(self, tool_class: ToolClass, environment: str, service: str) -> Mode:
        """The mode in force: what the files say, and what people set on top."""
        return in_force(
            self.bound_mode(tool_class, environment, service),
            self.ceiling(tool_class, environment, service),
            [s for s in self.settings if covers(s, tool_class, environment, service)],
        )

    def bound_mode(self, tool_class: ToolClass, environment: str, service: str) -> Mode:
        """The strictest mode that a binding gives; `observe` where no binding speaks."""
        modes = [b.mode for b in self.bindings if b.covers(tool_class, environment, service)]
        return strictest(modes)

    def ceiling(self, tool_class: ToolClass, environment: str, service: str) -> Mode:
        """How far an approved widening may go, by the files."""
        found = [b for b in self.bindings if b.covers(tool_class, environment, service)]
        return strictest([b.widest or b.mode for b in found])

    def under(self, settings: Iterable[ModeSetting]) -> Policy:
        """The same policy with these settings of modes; the version names the files and stays.

        One for an environment that the facts do not know holds for every write, as `observe`.
        """
        known = self.facts["environment"].values if "environment" in self.facts else ()
        nowhere = ModeSetting("", "", ToolClass.WRITE, Mode.OBSERVE)
        wanted = tuple(s if s.environment in ("", *known) else nowhere for s in settings)
        if wanted == self.settings:
            return self
        found = self._under.get(wanted)
        if found is None:
            if len(self._under) >= _MOST_SETTINGS:
                self._under.clear()
            found = self._under[wanted] = replace(self, settings=wanted)
        return found

    def facts_of(self, tool: str) -> tuple[str, ...]:
        """The facts that the gate will check for this tool; empty for an unknown one."""
        return self.tools[tool].facts if tool in self.tools else ()

    def plan_for(self, action: Action) -> Plan | None:
        """The compiled plan for an action; None for an unknown tool."""
        if action.tool not in self.tools:
            return None
        key = (action.tool, action.environment, action.service, action.agent)
        shared = (
            action.tool,
            action.environment if action.environment in self._environments() else "",
            action.service if action.service in self._services() else "",
            action.agent if action.agent in self._agents() else "",
        )
        plan = self._shared.get(shared)
        if plan is None:
            plan = self._shared[shared] = self._compiled(*shared)
        if len(self.plans) >= _MOST_PLANS:
            self.plans.clear()
        self.plans[key] = plan
        return plan

    def _compiled(self, tool: str, environment: str, service: str, agent: str) -> Plan:
        return Plan(
            tool=self.tools[tool],
            rules=[r for r in self.rules if r.match.covers(tool, agent, environment, service)],
            schemas=self.facts,
            mode=self.mode_of(tool, environment, service),
            is_executable=self.executors is None or tool in self.executors,
            version=self.version,
            limits=self.limits,
        )

    def _environments(self) -> frozenset[str]:
        found = _mentioned((*self.bindings, *(r.match for r in self.rules)), "environments")
        return found | {s.environment for s in self.settings}

    def _services(self) -> frozenset[str]:
        found = _mentioned((*self.bindings, *(r.match for r in self.rules)), "services")
        return found | {s.service for s in self.settings}

    def _agents(self) -> frozenset[str]:
        return _mentioned(tuple(r.match for r in self.rules), "agents")


def _mentioned(nouns: Sequence[object], name: str) -> frozenset[str]:
    found: Iterable[frozenset[str] | None] = (getattr(noun, name) for noun in nouns)
    return frozenset(word for words in found if words is not None for word in words)
