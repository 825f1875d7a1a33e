"""Unit tests of rules: what a case is, the safe context that it starts from, and the runner.

A case starts from a context to which no shipped rule objects: every fact of the tool at its `safe`
value from the fact schema, asked for by an agent in the environment that `facts.environment` says,
with well-formed arguments, an executor, and mode `act` so that the rules' own verdict shows. The
case changes what it is about. `case_documents.py` reads cases from files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loop4.domain import (
    Action,
    ApprovalNeed,
    Effect,
    Fact,
    Json,
    Mode,
    RequesterKind,
    Verdict,
)
from loop4.policies.gate import judge
from loop4.policies.policy import Policy
from loop4.policies.rules import Binding

NOW_MS = 1_700_000_000_000
_ARGUMENTS: Mapping[str, Json] = {
    "string": "x", "int": 1, "bool": True, "strings": ["x"], "object": {},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expected:
    """What a case expects. None = not looked at. `rules` is the exact list, worst first."""

    effect: Effect | None
    rules: tuple[str, ...] | None = None
    includes: tuple[str, ...] = ()
    asks: ApprovalNeed | None = None
    escalates_to: str | None = None
    obligations: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One case for one tool. `mode` None = the loaded bindings decide."""

    name: str
    tool: str
    mode: Mode | None
    has_executor: bool
    action: Action
    facts: Mapping[str, Fact]
    expected: Expected


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that came out otherwise, with what was expected and what was found."""

    case: str
    tool: str
    expected: str
    found: str
    reasons: tuple[str, ...] = field(default=())


def safe_facts(policy: Policy, tool: str, now_ms: int = NOW_MS) -> dict[str, Fact]:
    """Every fact of the tool, fresh and at the value to which no shipped rule objects."""
    return {
        name: Fact(policy.facts[name].safe, now_ms, policy.facts[name].source)
        for name in policy.tools[tool].facts
    }


def safe_action(policy: Policy, tool: str, facts: Mapping[str, Fact]) -> Action:
    """A well-formed action that agrees with these facts about environment and requester."""
    values = {name: fact.value for name, fact in facts.items()}
    is_person = values.get("requester_kind") == "person"
    return Action(
        action_id="case",
        incident_id="case",
        tool=tool,
        target="orders",
        service="orders",
        environment=str(values.get("environment", "lab")),
        arguments={name: _ARGUMENTS[kind] for name, kind in policy.tools[tool].arguments.items()},
        target_revision="case",
        agent="remediation",
        requester="somebody" if is_person else "remediation",
        requester_kind=RequesterKind.PERSON if is_person else RequesterKind.AGENT,
    )


def run_cases(cases: Sequence[Case], policy: Policy) -> tuple[Failure, ...]:
    """The failures, in the order of the cases."""
    views = _Views(policy)
    return tuple(failure for case in cases if (failure := views.run(case)) is not None)


def first_failure(cases: Iterable[Case], policy: Policy) -> Failure | None:
    """The first case that fails, or None if all pass."""
    views = _Views(policy)
    return next((failure for case in cases if (failure := views.run(case)) is not None), None)


class _Views:
    """The same policy under each mode that a case may ask for."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.views: dict[tuple[Mode | None, bool], Policy] = {}

    def run(self, case: Case) -> Failure | None:
        key = (case.mode, case.has_executor)
        if key not in self.views:
            self.views[key] = under(self.policy, case.mode, case.has_executor)
        verdict = judge(case.action, case.facts, self.views[key], (), NOW_MS)
        return _compare(case, verdict)


def under(policy: Policy, mode: Mode | None, has_executor: bool) -> Policy:
    """The same policy under one mode (None = its bindings), with all executors or none."""
    bindings = policy.bindings if mode is None else (Binding(name="case", mode=mode),)
    return Policy(
        version=policy.version,
        rules=policy.rules,
        bindings=bindings,
        tools=policy.tools,
        facts=policy.facts,
        executors=None if has_executor else frozenset(),
        limits=policy.limits,
        settings=policy.settings if mode is None else (),
    )


def _compare(case: Case, verdict: Verdict) -> Failure | None:
    expected, wrong = case.expected, []
    if expected.effect not in (None, verdict.effect):
        wrong.append((f"effect {expected.effect}", f"effect {verdict.effect}"))
    if expected.rules is not None and verdict.rules != expected.rules:
        wrong.append((f"rules {_list(expected.rules)}", f"rules {_list(verdict.rules)}"))
    if not set(expected.includes) <= set(verdict.rules):
        wrong.append((f"rules with {_list(expected.includes)}", f"rules {_list(verdict.rules)}"))
    if expected.asks is not None and verdict.approval != expected.asks:
        wrong.append((f"asks {_need(expected.asks)}", f"asks {_need(verdict.approval)}"))
    if expected.escalates_to not in (None, verdict.escalate_to):
        found = verdict.escalate_to or "nobody"
        wrong.append((f"escalates to {expected.escalates_to}", f"escalates to {found}"))
    if expected.obligations not in (None, verdict.obligations):
        found = str(dict(verdict.obligations))
        wrong.append((f"obligations {dict(expected.obligations or {})}", f"obligations {found}"))
    if not wrong:
        return None
    return Failure(
        case=case.name,
        tool=case.tool,
        expected="; ".join(expected for expected, _ in wrong),
        found="; ".join(found for _, found in wrong),
        reasons=verdict.reasons,
    )


def _list(rules: Sequence[str]) -> str:
    return "[" + ", ".join(rules) + "]"


def _need(need: ApprovalNeed | None) -> str:
    return f"{need.need} {need.role} within {need.ttl_s} s" if need else "nobody"
