"""Unit tests of rules as the people who own them write them (kind PolicyTest), and their runner.

A case starts from a context to which no shipped rule objects: every fact of the tool at its `safe`
value from the fact schema, asked for by an agent in the environment that `facts.environment` says,
with well-formed arguments, an executor, and mode `act` so that the rules' own verdict shows. The
case changes what it is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from loop4.domain import (
    Action,
    ApprovalNeed,
    Effect,
    Fact,
    FactScalar,
    Json,
    Mode,
    RequesterKind,
    Verdict,
)
from loop4.policies.documents import Document, Node, unknown
from loop4.policies.gate import judge
from loop4.policies.policy import Policy
from loop4.policies.rules import Binding, ToolDeclaration

NOW_MS = 1_700_000_000_000
BOUND = "bound"

_KEYS = (
    "tools", "facts", "missing", "age_s", "agent", "service", "action_environment", "arguments",
    "mode", "executor", "rules", "includes", "asks", "escalates_to", "obligations",
)  # fmt: skip
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


def policy_cases(documents: Iterable[Document], policy: Policy) -> tuple[Case, ...]:
    """All cases, one per matched tool. Raises PolicyError for an unknown tool, fact or rule."""
    cases: list[Case] = []
    for document in documents:
        if document.kind == "PolicyTest":
            for node in document.spec.fields(("cases",))["cases"].items():
                cases += _cases(node, policy)
    return tuple(cases)


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
            self.views[key] = _under(self.policy, case.mode, case.has_executor)
        verdict = judge(case.action, case.facts, self.views[key], (), NOW_MS)
        return _compare(case, verdict)


def _under(policy: Policy, mode: Mode | None, has_executor: bool) -> Policy:
    bindings = policy.bindings if mode is None else (Binding(name="case", mode=mode),)
    return Policy(
        version=policy.version,
        rules=policy.rules,
        bindings=bindings,
        tools=policy.tools,
        facts=policy.facts,
        executors=None if has_executor else frozenset(),
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


def _cases(node: Node, policy: Policy) -> list[Case]:
    fields = node.fields(("name",), ("tool", "expect", *_KEYS))
    if ("tool" in fields) == ("tools" in fields):
        raise node.error("expected either 'tool' or 'tools'")
    if "expect" not in fields and "includes" not in fields:
        raise node.error("expected the key 'expect', 'includes' or both")
    expected = _expected(fields, policy)
    tools = _tools(fields["tool"] if "tool" in fields else fields["tools"], policy)
    return [_case(fields, policy.tools[tool], policy, expected) for tool in tools]


def _tools(node: Node, policy: Policy) -> list[str]:
    found: list[str] = []
    for value in node.one_or_more():
        pattern = value.text()
        names = [name for name in policy.tools if fnmatchcase(name, pattern)]
        if pattern in ("class:read", "class:write", "class:notify"):
            kind = pattern.removeprefix("class:")
            names = [name for name, tool in policy.tools.items() if tool.tool_class == kind]
        if not names:
            raise value.error(unknown("tool", pattern, policy.tools))
        found += [name for name in names if name not in found]
    return found


def _case(
    fields: Mapping[str, Node], tool: ToolDeclaration, policy: Policy, expected: Expected
) -> Case:
    facts = _facts(fields, tool, policy)
    values = {name: fact.value for name, fact in facts.items()}
    kind = values.get("requester_kind", "agent")
    agent = fields["agent"].text() if "agent" in fields else "remediation"
    mode = fields["mode"].choice("mode", (*Mode, BOUND)) if "mode" in fields else Mode.ACT.value
    environment = str(values.get("environment", "lab"))
    if "action_environment" in fields:
        environment = fields["action_environment"].text()
    action = Action(
        action_id="case",
        incident_id="case",
        tool=tool.name,
        target="orders",
        service=fields["service"].text() if "service" in fields else "orders",
        environment=environment,
        arguments=_arguments(fields, tool),
        target_revision="case",
        agent=agent,
        requester=agent if kind == "agent" else "somebody",
        requester_kind=RequesterKind.PERSON if kind == "person" else RequesterKind.AGENT,
    )
    return Case(
        name=fields["name"].text(),
        tool=tool.name,
        mode=None if mode == BOUND else Mode(mode),
        has_executor="executor" not in fields or fields["executor"].boolean(),
        action=action,
        facts=facts,
        expected=expected,
    )


def _facts(fields: Mapping[str, Node], tool: ToolDeclaration, policy: Policy) -> dict[str, Fact]:
    values: dict[str, FactScalar] = {name: policy.facts[name].safe for name in tool.facts}
    ages: dict[str, int] = {}
    for key, value in _named_facts(fields.get("facts"), tool):
        if not isinstance(value.content, bool | int | str):
            raise value.error(f"found {value.describe()}, expected a value of fact {key!r}")
        values[key] = value.content
    for key, value in _named_facts(fields.get("age_s"), tool):
        ages[key] = value.integer(-1_000_000_000, 1_000_000_000)
    for missing in fields["missing"].items() if "missing" in fields else ():
        values.pop(missing.choice("fact", tool.facts), None)
    return {
        name: Fact(value, NOW_MS - 1000 * ages.get(name, 0), "case")
        for name, value in values.items()
    }


def _named_facts(node: Node | None, tool: ToolDeclaration) -> list[tuple[str, Node]]:
    mapping = node.mapping() if node is not None else {}
    for name in mapping:
        if node is not None and name not in tool.facts:
            raise node.keys[name].error(unknown(f"fact of {tool.name!r}", name, tool.facts))
    return list(mapping.items())


def _arguments(fields: Mapping[str, Node], tool: ToolDeclaration) -> dict[str, Json]:
    arguments = {name: _ARGUMENTS[kind] for name, kind in tool.arguments.items()}
    if "arguments" in fields:
        given = {key: node.plain() for key, node in fields["arguments"].mapping().items()}
        arguments |= given
    return arguments


def _expected(fields: Mapping[str, Node], policy: Policy) -> Expected:
    asks = None
    if "asks" in fields:
        need = fields["asks"].fields(("role", "need", "ttl_s"))
        asks = ApprovalNeed(
            role=need["role"].text(),
            need=need["need"].integer(1, 100),
            ttl_s=need["ttl_s"].integer(1, 10**9),
        )
    obligations = None
    if "obligations" in fields:
        obligations = {
            name: value.integer(1, 10**9) for name, value in fields["obligations"].mapping().items()
        }
    return Expected(
        effect=Effect(fields["expect"].choice("effect", Effect)) if "expect" in fields else None,
        rules=_rule_ids(fields["rules"], policy) if "rules" in fields else None,
        includes=_rule_ids(fields["includes"], policy) if "includes" in fields else (),
        asks=asks,
        escalates_to=fields["escalates_to"].text() if "escalates_to" in fields else None,
        obligations=obligations,
    )


def _rule_ids(node: Node, policy: Policy) -> tuple[str, ...]:
    known = [rule.rule_id for rule in policy.rules]
    return tuple(value.choice("rule", known) for value in node.items())
