"""Rules and bindings as their documents write them (kinds ActionPolicy and PolicyBinding)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from loop4.domain import ApprovalNeed, Effect, Mode, ToolClass
from loop4.policies.cel import CelError, parse
from loop4.policies.check import check_condition
from loop4.policies.documents import Document, Node, unknown
from loop4.policies.facts import FactSchema
from loop4.policies.modes import is_wider
from loop4.policies.plan import PLACEHOLDER
from loop4.policies.rules import (
    AGENTS,
    ESCALATION_ROLES,
    OBLIGATIONS,
    ROLES,
    Binding,
    Match,
    Rule,
    ToolDeclaration,
)
from loop4.policies.tree import Binary as BinaryTree
from loop4.policies.tree import Name, Tree, Unary, names

_MOST_TTL_S = 7 * 24 * 3600
_RULE_ID = re.compile(r"[a-z][a-z0-9-]*")
_NEEDS = {Effect.REQUIRE_APPROVAL: "approval", Effect.ESCALATE: "escalate"}
_MATCH_KEYS = ("tools", "class", "agent", "environment", "service", "tier")


def action_rules(
    documents: Iterable[Document],
    tools: Mapping[str, ToolDeclaration],
    schemas: Mapping[str, FactSchema],
) -> tuple[Rule, ...]:
    """All rules, sorted by id. Raises PolicyError with the place of whatever cannot hold."""
    rules: dict[str, Rule] = {}
    for document in documents:
        for node in document.spec.fields(("rules",))["rules"].items():
            rule = _rule(node, tools, schemas)
            if rule.rule_id in rules:
                raise node.mapping()["id"].error(f"rule {rule.rule_id!r} stands twice")
            rules[rule.rule_id] = rule
    return tuple(rules[rule_id] for rule_id in sorted(rules))


def policy_bindings(
    documents: Iterable[Document], schemas: Mapping[str, FactSchema]
) -> tuple[Binding, ...]:
    """All bindings. An empty match is refused: a binding says where it holds."""
    bindings = []
    for document in documents:
        fields = document.spec.fields(("match", "mode"), ("widest",))
        match = fields["match"].fields((), ("environment", "service", "class"))
        if not match:
            raise fields["match"].error("expected environment, service or class")
        classes = _words(match.get("class"), "class", tuple(ToolClass))
        mode = Mode(fields["mode"].choice("mode", Mode))
        bindings.append(
            Binding(
                name=document.name,
                mode=mode,
                environments=_environments(match.get("environment"), schemas),
                services=_words(match.get("service"), "service", None),
                classes=None if classes is None else frozenset(map(ToolClass, classes)),
                widest=_widest(fields.get("widest"), mode),
            )
        )
    return tuple(bindings)


def _widest(node: Node | None, mode: Mode) -> Mode | None:
    """How far an approval may widen a binding; never less than the binding itself."""
    if node is None:
        return None
    widest = Mode(node.choice("mode", Mode))
    if is_wider(mode, widest):
        raise node.error(f"widest {widest} is narrower than the mode itself ({mode})")
    return widest


def _rule(
    node: Node, tools: Mapping[str, ToolDeclaration], schemas: Mapping[str, FactSchema]
) -> Rule:
    fields = node.fields(
        ("id", "match", "effect"), ("when", "reason", "approval", "escalate", "obligations")
    )
    rule_id = fields["id"].text()
    if not _RULE_ID.fullmatch(rule_id):
        raise fields["id"].error(f"rule id {rule_id!r} is not written lower-case-with-dashes")
    effect = Effect(fields["effect"].choice("effect", Effect))
    _belongs_to_effect(fields, effect)
    match = read_match(fields["match"], tools, schemas)
    when = read_condition(fields["when"], schemas) if "when" in fields else None
    rule = Rule(
        rule_id=rule_id,
        match=match,
        when=when,
        effect=effect,
        reason=_reason(fields, rule_id, schemas),
        approval=_approval(fields["approval"]) if "approval" in fields else None,
        escalate_to=_escalate_to(fields["escalate"]) if "escalate" in fields else "",
        obligations=_obligations(fields["obligations"]) if "obligations" in fields else {},
    )
    _facts_are_declared(rule, fields, tools)
    return rule


def _belongs_to_effect(fields: Mapping[str, Node], effect: Effect) -> None:
    for needing, key in _NEEDS.items():
        if effect is needing and key not in fields:
            raise fields["effect"].error(f"effect {effect!s} needs the key {key!r}")
        if effect is not needing and key in fields:
            raise fields[key].error(f"{key!r} belongs to effect {needing!s}, found {effect!s}")


def read_match(
    node: Node, tools: Mapping[str, ToolDeclaration], schemas: Mapping[str, FactSchema]
) -> Match:
    """Where a rule or an invariant applies. Raises PolicyError if no declared tool is left."""
    fields = node.fields((), _MATCH_KEYS)
    covered = frozenset(tools)
    if "tools" in fields:
        covered &= _expanded(fields["tools"], tools)
    if "class" in fields:
        classes = _words(fields["class"], "class", tuple(ToolClass)) or ()
        covered = frozenset(name for name in covered if tools[name].tool_class in classes)
    if not covered:
        raise node.error("matches no declared tool")
    tiers = None
    if "tier" in fields:
        tier = schemas.get("tier")
        low, high = (tier.low, tier.high) if tier else (0, 0)
        tiers = frozenset(value.integer(low, high) for value in fields["tier"].one_or_more())
    return Match(
        tools=covered,
        agents=_words(fields.get("agent"), "agent", AGENTS),
        environments=_environments(fields.get("environment"), schemas),
        services=_words(fields.get("service"), "service", None),
        tiers=tiers,
    )


def _expanded(node: Node, tools: Mapping[str, ToolDeclaration]) -> frozenset[str]:
    """The declared tools that the names and globs (`workloads.*`) mean; each must mean some."""
    covered: set[str] = set()
    for value in node.one_or_more():
        pattern = value.text()
        found = [name for name in tools if fnmatchcase(name, pattern.replace("[", "[[]"))]
        if not found:
            what = "tool" if "*" not in pattern else "tool: nothing matches"
            raise value.error(unknown(what, pattern, tools))
        covered.update(found)
    return frozenset(covered)


def _words(node: Node | None, what: str, known: Iterable[str] | None) -> frozenset[str] | None:
    if node is None:
        return None
    if known is None:
        return frozenset(value.text() for value in node.one_or_more())
    return frozenset(value.choice(what, known) for value in node.one_or_more())


def _environments(node: Node | None, schemas: Mapping[str, FactSchema]) -> frozenset[str] | None:
    environment = schemas.get("environment")
    return _words(node, "environment", environment.values if environment else ())


def read_condition(node: Node, schemas: Mapping[str, FactSchema]) -> Tree:
    """The checked tree of a condition. Raises PolicyError with the place inside the text."""
    text = node.text()
    try:
        tree = parse(text)
        check_condition(tree, schemas)
    except CelError as error:
        raise node.error_at(error.offset, error.message) from error
    return tree


def _reason(fields: Mapping[str, Node], rule_id: str, schemas: Mapping[str, FactSchema]) -> str:
    if "reason" not in fields:
        when = " ".join(fields["when"].text().split()) if "when" in fields else "always"
        return f"rule {rule_id}: {when}"
    reason = fields["reason"].text()
    for found in PLACEHOLDER.finditer(reason):
        if found[1] not in schemas:
            raise fields["reason"].error(unknown("fact", found[1], schemas))
    if set("{}") & set(PLACEHOLDER.sub("", reason)):
        raise fields["reason"].error("braces in a reason only as {facts.NAME}")
    return reason


def _approval(node: Node) -> ApprovalNeed:
    fields = node.fields(("role", "need", "ttl_s"))
    return ApprovalNeed(
        role=fields["role"].choice("role", ROLES),
        need=fields["need"].integer(1, 10),
        ttl_s=fields["ttl_s"].integer(1, _MOST_TTL_S),
    )


def _escalate_to(node: Node) -> str:
    return node.fields(("to",))["to"].choice("role", ESCALATION_ROLES)


def _obligations(node: Node) -> dict[str, int]:
    fields = node.fields((), OBLIGATIONS)
    return {name: value.integer(1, _MOST_TTL_S) for name, value in fields.items()}


def _facts_are_declared(
    rule: Rule, fields: Mapping[str, Node], tools: Mapping[str, ToolDeclaration]
) -> None:
    """Every tool that the rule matches declares every fact that the rule reads."""
    in_reason = frozenset(found[1] for found in PLACEHOLDER.finditer(rule.reason))
    what = f"rule {rule.rule_id!r}"
    check_declared(what, rule.match, rule.when, fields, tools)
    for tool in sorted(rule.match.tools):
        missing = sorted(in_reason - set(tools[tool].facts))
        if missing:
            raise fields["reason"].error(_undeclared(what, missing[0], tool))


def check_declared(
    what: str,
    match: Match,
    when: Tree | None,
    fields: Mapping[str, Node],
    tools: Mapping[str, ToolDeclaration],
) -> None:
    """Return if every matched tool declares every fact of the condition and of the match.

    Raises PolicyError at the fact in `when`, or at the match (its tier is a fact).
    """
    condition = names(when) if when is not None else frozenset()
    tier = frozenset(("tier",)) if match.tiers is not None else frozenset()
    for tool in sorted(match.tools):
        missing = sorted((condition | tier) - set(tools[tool].facts))
        if when is not None and missing and missing[0] in condition:
            offset = _offset_of(when, missing[0]) or 0
            raise fields["when"].error_at(offset, _undeclared(what, missing[0], tool))
        if missing:
            raise fields["match"].error(_undeclared(what, missing[0], tool))


def _undeclared(what: str, fact: str, tool: str) -> str:
    return (
        f"{what} reads fact {fact!r}, which the matched tool {tool!r} "
        "does not declare; declare it for the tool or match fewer tools"
    )


def _offset_of(tree: Tree, name: str) -> int | None:
    """Where the tree reads the fact first."""
    if isinstance(tree, Name):
        return tree.offset if tree.name == name else None
    if isinstance(tree, Unary):
        return _offset_of(tree.operand, name)
    if isinstance(tree, BinaryTree):
        left = _offset_of(tree.left, name)
        return _offset_of(tree.right, name) if left is None else left
    return None
