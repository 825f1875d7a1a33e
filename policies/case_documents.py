"""Cases as the people who own the rules write them (kind PolicyTest, `*_test.yaml`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from loop4.domain import Action, ApprovalNeed, Effect, Fact, Json, Mode
from loop4.policies.cases import NOW_MS, Case, Expected, safe_action, safe_facts
from loop4.policies.documents import Document, Node, unknown
from loop4.policies.policy import Policy
from loop4.policies.rules import ToolDeclaration

BOUND = "bound"

_KEYS = (
    "tools", "facts", "missing", "age_s", "agent", "service", "action_environment", "arguments",
    "mode", "executor", "rules", "includes", "asks", "escalates_to", "obligations",
)  # fmt: skip


def policy_cases(documents: Iterable[Document], policy: Policy) -> tuple[Case, ...]:
    """All cases, one per matched tool. Raises PolicyError for an unknown tool, fact or rule."""
    cases: list[Case] = []
    for document in documents:
        if document.kind == "PolicyTest":
            for node in document.spec.fields(("cases",))["cases"].items():
                cases += _cases(node, policy)
    return tuple(cases)


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
    safe = safe_action(policy, tool.name, facts)
    action = replace(
        safe,
        agent=_word(fields, "agent", safe.agent),
        service=_word(fields, "service", safe.service),
        environment=_word(fields, "action_environment", safe.environment),
        arguments=_arguments(fields, safe),
    )
    mode = fields["mode"].choice("mode", (*Mode, BOUND)) if "mode" in fields else Mode.ACT.value
    return Case(
        name=fields["name"].text(),
        tool=tool.name,
        mode=None if mode == BOUND else Mode(mode),
        has_executor="executor" not in fields or fields["executor"].boolean(),
        action=action,
        facts=facts,
        expected=expected,
    )


def _word(fields: Mapping[str, Node], key: str, otherwise: str) -> str:
    return fields[key].text() if key in fields else otherwise


def _facts(fields: Mapping[str, Node], tool: ToolDeclaration, policy: Policy) -> dict[str, Fact]:
    facts = safe_facts(policy, tool.name)
    for key, value in _named_facts(fields.get("facts"), tool):
        if not isinstance(value.content, bool | int | str):
            raise value.error(f"found {value.describe()}, expected a value of fact {key!r}")
        facts[key] = replace(facts[key], value=value.content)
    for key, value in _named_facts(fields.get("age_s"), tool):
        age_s = value.integer(-1_000_000_000, 1_000_000_000)
        facts[key] = replace(facts[key], at_ms=NOW_MS - 1000 * age_s)
    for missing in fields["missing"].items() if "missing" in fields else ():
        facts.pop(missing.choice("fact", tool.facts), None)
    return facts


def _named_facts(node: Node | None, tool: ToolDeclaration) -> list[tuple[str, Node]]:
    mapping = node.mapping() if node is not None else {}
    for name in mapping:
        if node is not None and name not in tool.facts:
            raise node.keys[name].error(unknown(f"fact of {tool.name!r}", name, tool.facts))
    return list(mapping.items())


def _arguments(fields: Mapping[str, Node], action: Action) -> dict[str, Json]:
    given = fields["arguments"].mapping() if "arguments" in fields else {}
    return {**action.arguments, **{key: node.plain() for key, node in given.items()}}


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
