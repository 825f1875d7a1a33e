"""What must hold under every rule set, whatever the facts: promises that `prove.py` checks.

An invariant says where it holds (`match`, `when`, `mode`, `broken`) and what it claims there. An
organisation may add its own beside its rules; the shipped ones are proved with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from loop4.domain import Effect, Mode
from loop4.policies.documents import Document, Node, read_documents, unknown
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.policy import Policy
from loop4.policies.rule_documents import check_declared, read_condition, read_match
from loop4.policies.rules import ROLES, Match
from loop4.policies.tree import Tree

BOUND = "bound"
SHIPPED = Path(__file__).parent / "invariants"
_CLAIMS = ("never", "unchanged_by", "no_better_with", "asks")
_KEYS = ("match", "when", "mode", "broken", "unless", "without_approval", *_CLAIMS)


class Broken(StrEnum):
    """Why an action cannot be judged by the rules: something is not as it was declared."""

    FACT = "fact"  # missing, stale, from the future, mistyped or out of range
    ARGUMENTS = "arguments"
    CLAIM = "claim"  # says another environment or requester than the facts
    TOOL = "tool"  # not declared
    EXECUTOR = "executor"  # declared only


class Direction(StrEnum):
    """In which way a fact moves."""

    MORE = "more"
    LESS = "less"


@dataclass(frozen=True, slots=True)
class Never:
    """The verdict is none of these effects."""

    effects: frozenset[Effect]


@dataclass(frozen=True, slots=True)
class UnchangedBy:
    """Other values of these facts leave the effect as it is, before approvals.

    Compares actions whose facts can all be used, before and after.
    """

    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoBetterWith:
    """If this fact alone moves so, the effect before approvals is the same or a stricter one.

    `to` is the word of an enum or the boolean that the fact moves to, or a direction for integers.
    """

    fact: str
    to: Direction | str | bool


@dataclass(frozen=True, slots=True)
class Asks:
    """Where the verdict asks for an approval, it asks this role or a stronger one."""

    role: str


Claim: TypeAlias = "Never | UnchangedBy | NoBetterWith | Asks"


@dataclass(frozen=True, slots=True)
class Invariant:
    """One promise. `says` is the sentence for people.

    `mode` None = under every mode, "bound" = under the loaded bindings. `unless_approved` looks at
    the verdict without any approval; otherwise it must hold with every approval too.
    `without_approval` narrows it to situations in which the verdict without one is among these.
    """

    name: str
    says: str
    match: Match
    when: Tree | None
    mode: Mode | str | None
    broken: Broken | None
    unless_approved: bool
    without_approval: frozenset[Effect]
    claim: Claim


def load_invariants(
    policy: Policy, rules_documents: Iterable[Document], folder: Path | None = None
) -> tuple[Invariant, ...]:
    """The shipped invariants (or those of `folder`) and those beside the rules, sorted by name.

    Raises PolicyError with file, line and column; a name that stands twice is an error, so that
    nobody replaces a shipped promise by a weaker one unseen.
    """
    documents = _shipped() if folder is None else _folder(folder, str(folder))
    documents += [d for d in rules_documents if d.kind == "Invariant"]
    found: dict[str, Invariant] = {}
    for document in documents:
        for node in document.spec.fields(("invariants",))["invariants"].items():
            invariant = _invariant(node, policy)
            if invariant.name in found:
                message = f"invariant {invariant.name!r} stands twice; give yours another name"
                raise node.mapping()["name"].error(message)
            found[invariant.name] = invariant
    return tuple(found[name] for name in sorted(found))


def _shipped() -> list[Document]:
    return _folder(SHIPPED, "policies/invariants")


def _folder(folder: Path, shown_as: str) -> list[Document]:
    documents: list[Document] = []
    for path in sorted(folder.glob("*.yaml")):
        documents += read_documents(path, ("Invariant",), f"{shown_as}/{path.name}")
    return documents


def _invariant(node: Node, policy: Policy) -> Invariant:
    fields = node.fields(("name", "says"), _KEYS)
    name = fields["name"].text()
    match = Match(tools=frozenset(policy.tools))
    if "match" in fields:
        match = read_match(fields["match"], policy.tools, policy.facts)
    when = read_condition(fields["when"], policy.facts) if "when" in fields else None
    check_declared(f"invariant {name!r}", match, when, fields, policy.tools)
    if "unless" in fields:
        fields["unless"].choice("word", ("approved",))
    return Invariant(
        name=name,
        says=fields["says"].text(),
        match=match,
        when=when,
        mode=_mode(fields),
        broken=Broken(fields["broken"].choice("word", Broken)) if "broken" in fields else None,
        unless_approved="unless" in fields,
        without_approval=_effects(fields.get("without_approval")),
        claim=_claim(node, fields, policy.facts),
    )


def _mode(fields: Mapping[str, Node]) -> Mode | str | None:
    if "mode" not in fields:
        return None
    word = fields["mode"].choice("mode", (*Mode, BOUND))
    return BOUND if word == BOUND else Mode(word)


def _effects(node: Node | None) -> frozenset[Effect]:
    if node is None:
        return frozenset()
    return frozenset(Effect(value.choice("effect", Effect)) for value in node.one_or_more())


def _claim(node: Node, fields: Mapping[str, Node], facts: Mapping[str, FactSchema]) -> Claim:
    claims = [key for key in _CLAIMS if key in fields]
    if len(claims) != 1:
        found = " and ".join(claims) or "none"
        raise node.error(f"found {found}, expected exactly one of {', '.join(_CLAIMS)}")
    value = fields[claims[0]]
    if claims[0] == "never":
        return Never(_effects(value))
    if claims[0] == "asks":
        return Asks(value.choice("role", ROLES))
    if claims[0] == "unchanged_by":
        return UnchangedBy(tuple(one.choice("fact", facts) for one in value.one_or_more()))
    return _no_better(value, facts)


def _no_better(node: Node, facts: Mapping[str, FactSchema]) -> NoBetterWith:
    mapping = node.mapping()
    if len(mapping) != 1:
        raise node.error(f"found {len(mapping)} facts, expected one")
    ((fact, value),) = mapping.items()
    if fact not in facts:
        raise node.keys[fact].error(unknown("fact", fact, facts))
    schema = facts[fact]
    if schema.type is FactType.BOOL:
        return NoBetterWith(fact, value.boolean())
    if schema.type is FactType.INT:
        return NoBetterWith(fact, Direction(value.choice("direction", Direction)))
    return NoBetterWith(fact, value.choice(f"value of {fact!r}", schema.values))
