"""What a change of rules means: which actions are newly allowed, blocked or asked for.

Both versions share one set of symbols, so a difference is one question to z3: is there an action on
this tool whose effect was this and becomes that? Each example is judged by the real gate under both
versions before it is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import z3

from loop4.domain import Effect, Json, Mode
from loop4.errors import PolicyError
from loop4.policies import counterexample
from loop4.policies.gate_model import GateModel
from loop4.policies.policy import Policy
from loop4.policies.prove import TIMEOUT_MS
from loop4.policies.rules import STRICTNESS, Rule
from loop4.policies.situation import Answer, Situation, answer, situation_json, tell
from loop4.policies.symbols import Symbols
from loop4.policies.tree import unparse

_HEADINGS = {
    Effect.ALLOW: "newly allowed",
    Effect.REQUIRE_APPROVAL: "newly needs approval",
    Effect.ESCALATE: "newly escalated",
    Effect.DENY: "newly blocked",
}


@dataclass(frozen=True, slots=True)
class Change:
    """Some actions on this tool get another effect; one of them as the example."""

    tool: str
    was: Effect
    becomes: Effect
    situation: Situation
    before: Answer
    after: Answer
    sentence: str

    @property
    def heading(self) -> str:
        """Under which heading it belongs, by what the effect becomes."""
        return _HEADINGS[self.becomes]

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "tool": self.tool,
            "kind": self.heading.replace(" ", "_"),
            "was": str(self.was),
            "becomes": str(self.becomes),
            "rules_before": list(self.before.rules),
            "sentence": self.sentence,
            "example": situation_json(self.situation, self.after),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes of effect, and the rules whose text differs. No change = the same meaning."""

    changes: tuple[Change, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    edited: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "same_meaning": not self.changes,
            "changes": [change.to_json() for change in self.changes],
            "rules": {
                "added": list(self.added),
                "removed": list(self.removed),
                "edited": list(self.edited),
            },
        }


def compare(old: Policy, new: Policy, *, by_bindings: bool = False) -> Difference:
    """Every change of effect per tool, before approvals, for actions that are as declared.

    The rules speak for themselves (mode act) unless `by_bindings`. Who is asked and what a verdict
    obliges to are no part of it; `edited` names the rules to look at. Raises PolicyError if z3
    cannot say within its budget, or if the gate does not confirm an example.
    """
    before = {rule.rule_id: rule for rule in old.rules}
    after = {rule.rule_id: rule for rule in new.rules}
    return Difference(
        changes=tuple(_Comparison(old, new, by_bindings).changes()),
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        edited=tuple(
            sorted(
                name for name in before.keys() & after.keys() if _differ(before[name], after[name])
            )
        ),
    )


class _Comparison:
    def __init__(self, old: Policy, new: Policy, by_bindings: bool) -> None:
        self.old, self.new, self.by_bindings = old, new, by_bindings
        self.symbols = Symbols((old, new))
        self.models = (GateModel(self.symbols, old), GateModel(self.symbols, new))
        self.solver = z3.SimpleSolver()
        self.solver.set("timeout", TIMEOUT_MS)
        self.solver.add(*self.symbols.bounds(), self.symbols.is_executable)

    def changes(self) -> Iterator[Change]:
        for tool in self.symbols.tool_names:
            if self.by_bindings or _of_tool(self.old, tool) != _of_tool(self.new, tool):
                yield from self._of_tool(tool)

    def _of_tool(self, tool: str) -> Iterator[Change]:
        tools = frozenset((tool,))
        old, new = (
            (model.stages(tools).bound if self.by_bindings else model.stages(tools).decided)
            for model in self.models
        )
        self.solver.push()
        self.solver.add(self.models[0].is_judged_by_rules(tools))
        for was in Effect:
            for becomes in Effect:
                if was is not becomes:
                    terms = [old.of(was), new.of(becomes), *self._modes(tools)]
                    yield from self._example(tool, was, becomes, terms)
        self.solver.pop()

    def _modes(self, tools: frozenset[str]) -> list[z3.BoolRef]:
        if not self.by_bindings:
            return [self.symbols.mode == STRICTNESS.index(Mode.ACT)]
        # rules are compared under the bindings that both share
        return [self.symbols.mode == self.models[0].mode_of_bindings(tools)]

    def _example(
        self, tool: str, was: Effect, becomes: Effect, terms: list[z3.BoolRef]
    ) -> Iterator[Change]:
        self.solver.push()
        self.solver.add(*terms)
        found = self.solver.check()
        model = counterexample.plainest(self.solver, self.symbols) if found == z3.sat else None
        self.solver.pop()
        if found == z3.unsat:
            return
        what = f"{tool}: from {was} to {becomes}"
        if model is None:
            raise PolicyError(f"z3 cannot say within {TIMEOUT_MS} ms whether {what} happens")
        example = counterexample.situation(model, self.symbols, self.new)
        before, after = answer(example, self.old), answer(example, self.new)
        if (before.before_approvals, after.before_approvals) != (was, becomes):
            raise PolicyError(
                f"the model says {what}, the gate says {before.effect} to {after.effect}; "
                "report this as a defect"
            )
        sentence = (
            f"When {tell(example, self.new)}: was {before.effect}{_by(before)}, "
            f"becomes {after.effect}{_by(after)}."
        )
        yield Change(tool, was, becomes, example, before, after, sentence)


def _by(said: Answer) -> str:
    return f" by {', '.join(said.rules)}" if said.rules else " (no rule matches)"


def _of_tool(policy: Policy, tool: str) -> list[tuple[str, str]]:
    return [(r.rule_id, _meaning(r)) for r in policy.rules if tool in r.match.tools]


def _differ(old: Rule, new: Rule) -> bool:
    return _meaning(old) != _meaning(new) or old.match.tools != new.match.tools


def _meaning(rule: Rule) -> str:
    """The rule without places, as text: everything but its id and its tools."""
    match = rule.match
    when = unparse(rule.when) if rule.when is not None else ""
    words = [
        sorted(map(str, found)) if found is not None else None
        for found in (match.agents, match.environments, match.services, match.tiers)
    ]
    return repr(
        (words, when, rule.effect, rule.reason, rule.approval, rule.escalate_to,
         sorted(rule.obligations.items()))
    )  # fmt: skip
