"""What an agent may do, in an operator's words, read from the loaded rules and bindings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loop4.domain import ApprovalNeed, Effect, Json, Mode, ModeSetting
from loop4.policies.policy import Policy
from loop4.policies.rules import LATTICE, SUGGEST_NEED, Rule
from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary, unparse

_RELATION = {"==": "is", "!=": "is not", "<": "is below", "<=": "is at most", ">": "is above",
             ">=": "is at least"}  # fmt: skip
_UNITS = {"_bp": " bp", "_s": " s", "_ms": " ms"}
_EFFECTS = {
    Effect.ALLOW: "may run by itself",
    Effect.REQUIRE_APPROVAL: "a person is asked",
    Effect.ESCALATE: "is handed to a person",
    Effect.DENY: "never",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One rule in words. `who` names role, number of people and lifetime, where somebody is
    asked.
    """

    rule_id: str
    effect: Effect
    when: str
    who: str
    where: str


@dataclass(frozen=True, slots=True)
class ToolPermission:
    """All that the rules say about one tool. `modes` maps an environment to the mode in force;
    `set` is what people set while the fleet runs, of which that is made.
    """

    tool: str
    tool_class: str
    effect: str
    is_executable: bool
    modes: dict[str, Mode]
    set: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one agent may propose, and what becomes of it; `never` is what no rule allows it."""

    agent: str
    tools: tuple[ToolPermission, ...]
    never: tuple[str, ...]
    suggest: str


def permissions(policy: Policy, agent: str, may_propose: Iterable[str]) -> Permissions:
    """What the loaded rules say for each tool that the agent may propose.

    `never` are the declared writes and notices that it cannot propose at all: such a proposal is
    dropped before the gate.
    """
    names = sorted(name for name in may_propose if name in policy.tools)
    others = sorted(
        name
        for name, tool in policy.tools.items()
        if name not in names and tool.tool_class.value != "read"
    )
    return Permissions(
        agent=agent,
        tools=tuple(_tool(policy, agent, name) for name in names),
        never=tuple(others),
        suggest=_need(policy.limits.need(SUGGEST_NEED)),
    )


def _tool(policy: Policy, agent: str, name: str) -> ToolPermission:
    declared = policy.tools[name]
    rules = [
        rule
        for rule in policy.rules
        if name in rule.match.tools and (rule.match.agents is None or agent in rule.match.agents)
    ]
    rules.sort(key=lambda rule: (-LATTICE.index(rule.effect), rule.rule_id))
    kept = [line for rule in rules if (line := _line(rule)) is not None]
    environment = policy.facts.get("environment")
    return ToolPermission(
        tool=name,
        tool_class=declared.tool_class.value,
        effect=declared.effect,
        is_executable=policy.executors is None or name in policy.executors,
        modes={e: _mode(policy, name, e) for e in (environment.values if environment else ())},
        set=tuple(_set(s) for s in policy.settings if s.tool_class is declared.tool_class),
        lines=tuple(kept),
    )


def _set(setting: ModeSetting) -> str:
    place = setting.environment or "everywhere"
    place += f"/{setting.service}" if setting.service else ""
    return f"{place} {setting.mode}" + (" (approved)" if setting.is_approved else "")


def _mode(policy: Policy, tool: str, environment: str) -> Mode:
    """The mode for a service that no binding names by itself."""
    return policy.mode_of(tool, environment, "")


def _line(rule: Rule) -> Line | None:
    """The rule in words for an agent; None if it can only match a person's request."""
    condition = True if rule.when is None else _for_agent(rule.when)
    if condition is False:
        return None
    match = rule.match
    places = [
        f"{name} {', '.join(sorted(str(word) for word in words))}"
        for name, words in (
            ("in", match.environments),
            ("for service", match.services),
            ("for tier", match.tiers),
        )
        if words is not None
    ]
    return Line(
        rule_id=rule.rule_id,
        effect=rule.effect,
        when="always" if condition is True else _words(condition),
        who=_need(rule.approval) if rule.approval is not None else rule.escalate_to,
        where="; ".join(places),
    )


def _need(need: ApprovalNeed) -> str:
    people = "1 person" if need.need == 1 else f"{need.need} people"
    minutes, seconds = divmod(need.ttl_s, 60)
    span = f"{minutes} min" if not seconds else f"{need.ttl_s} s"
    return f"{people} of role {need.role} within {span}"


def _for_agent(tree: Tree) -> Tree | bool:
    """The condition for a request by an agent: what depends on the requester alone is settled."""
    if isinstance(tree, Constant) and isinstance(tree.value, bool):
        return tree.value
    if isinstance(tree, Unary) and tree.operator == "!":
        inner = _for_agent(tree.operand)
        return (not inner) if isinstance(inner, bool) else Unary("!", inner, tree.offset)
    if not isinstance(tree, Binary):
        return tree
    if tree.operator in ("&&", "||"):
        left, right = _for_agent(tree.left), _for_agent(tree.right)
        decides = tree.operator == "||"  # the value that settles it
        for one, other in ((left, right), (right, left)):
            if isinstance(one, bool):
                return one if one is decides else other
        assert not isinstance(left, bool)  # noqa: S101  (returned above)
        assert not isinstance(right, bool)  # noqa: S101  (returned above)
        return Binary(tree.operator, left, right, tree.offset)
    if isinstance(tree.left, Name) and tree.left.name == "requester_kind":
        if isinstance(tree.right, Constant) and tree.operator in ("==", "!="):
            return (tree.right.value == "agent") is (tree.operator == "==")
    return tree


def _words(tree: Tree, *, inside: str = "") -> str:
    """The condition as a sentence part."""
    if isinstance(tree, Name):
        return _fact(tree.name)
    if isinstance(tree, Unary):
        return (
            f"not ({_words(tree.operand)})" if _is_long(tree) else (f"not {_words(tree.operand)}")
        )
    if isinstance(tree, Constant):
        return str(tree.value)
    if isinstance(tree, ListOf):
        return " or ".join(str(value.value) for value in tree.values)
    if tree.operator in ("&&", "||"):
        word = " and " if tree.operator == "&&" else " or "
        text = word.join(_words(side, inside=tree.operator) for side in (tree.left, tree.right))
        return f"({text})" if inside and inside != tree.operator else text
    relation = _RELATION.get(tree.operator, tree.operator)
    return f"{_words(tree.left)} {relation} {_value(tree)}"


def _value(tree: Binary) -> str:
    """The right side with the unit of the left one; a share also in per cent."""
    if not isinstance(tree.right, Constant) or type(tree.right.value) is not int:
        return _words_of(tree.right)
    name = tree.left.name if isinstance(tree.left, Name) else ""
    number = tree.right.value
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    return f"{number}{unit} ({number / 100:g} %)" if unit == " bp" else f"{number}{unit}"


def _words_of(tree: Tree) -> str:
    if isinstance(tree, Name):
        return _fact(tree.name)
    if isinstance(tree, ListOf):
        return " or ".join(str(value.value) for value in tree.values)
    return str(tree.value) if isinstance(tree, Constant) else unparse(tree)


def _is_long(tree: Unary) -> bool:
    return isinstance(tree.operand, Binary)


def _fact(name: str) -> str:
    """The fact's name as words, without the unit that stands behind the number."""
    for suffix in _UNITS:
        name = name.removesuffix(suffix)
    return name.removesuffix("_1h").replace("_", " ") + (
        " in an hour" if name.endswith("_1h") else ""
    )


def lines(found: Permissions) -> Iterator[str]:
    """The permissions as text."""
    yield f"agent {found.agent} may propose {len(found.tools)} tools; the gate judges each time"
    for tool in found.tools:
        modes = ", ".join(f"{name} {mode.value}" for name, mode in tool.modes.items())
        yield ""
        yield f"{tool.tool} ({tool.tool_class}): {tool.effect}"
        if not tool.is_executable:
            yield "  has no executor here: whatever the rules say, it is denied"
        yield f"  mode: {modes}"
        if tool.set:
            yield f"  set by people while it runs: {', '.join(tool.set)}"
        if tool.tool_class == "write" and Mode.SUGGEST in tool.modes.values():
            yield f"  suggest asks for every write: {found.suggest}"
        for line in tool.lines:
            asked = f": {line.who}" if line.who else ""
            where = f" {line.where}" if line.where else ""
            yield f"  {_EFFECTS[line.effect]}{asked}{where} if {line.when} [{line.rule_id}]"
        if not any(line.effect is not Effect.DENY for line in tool.lines):
            yield "  no rule allows it: always denied"
    yield ""
    yield "strictest of the matching rules holds: never > handed over > asked > by itself;"
    yield "a fact that is missing, stale or of the wrong type denies"
    yield f"never, since it cannot even propose it: {', '.join(found.never) or 'nothing'}"


def to_json(found: Permissions) -> Json:
    """The same as JSON."""
    return {
        "agent": found.agent,
        "suggest_asks": found.suggest,
        "tools": [
            {
                "tool": tool.tool,
                "class": tool.tool_class,
                "effect": tool.effect,
                "executable": tool.is_executable,
                "modes": {name: mode.value for name, mode in tool.modes.items()},
                "set": list(tool.set),
                "rules": [
                    {
                        "rule": line.rule_id,
                        "effect": line.effect.value,
                        "when": line.when,
                        "who": line.who,
                        "where": line.where,
                    }
                    for line in tool.lines
                ],
            }
            for tool in found.tools
        ],
        "never": list(found.never),
    }
