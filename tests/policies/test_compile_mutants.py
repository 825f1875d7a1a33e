"""Would the differential tests notice a wrong compiler? Each small fault in its source must show.

A fault is put into `policies/compile.py`: a comparison moved or turned, `and` and `or` swapped, a
`not` or a check dropped, a number moved by one, a piece of the generated text changed. The wrong
compiler's functions are held against the plain interpreter and the declared checks. What survives
must stand in EQUIVALENT with the reason why nobody could tell. Faults in the order of the lattice
and in what `plan.py` makes of a mode are tried likewise.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loop4.domain import Action, Effect, Fact, Json, Mode, ToolClass
from loop4.policies import compile as compiler
from loop4.policies import plan as planner
from loop4.policies.cases import NOW_MS, safe_action
from loop4.policies.cel import parse
from loop4.policies.evaluate import holds
from loop4.policies.facts import FactSchema
from loop4.policies.policy import Policy
from loop4.policies.rules import Match, Rule, ToolDeclaration
from tests.policies.compiler_faults import Fault, faults, module_of
from tests.policies.situations import random_situation

COMPILER = Path(compiler.__file__)
WRONG = (
    SyntaxError, LookupError, NameError, TypeError, ValueError, AttributeError, ArithmeticError,
    RecursionError, AssertionError,
)  # fmt: skip
"""A wrong compiler may raise; that is noticed too."""
PLANNER = Path(planner.__file__)
WORST_FIRST = (Effect.DENY, Effect.ESCALATE, Effect.REQUIRE_APPROVAL, Effect.ALLOW)
JUDGING = frozenset((
    "matching", "_function", "_fact_check", "_argument_checks", "_branches", "_without",
    "_conjuncts", "_split", "_python", "_operator", "_tuple", "is_strings",
))  # fmt: skip

CONDITIONS = (
    "facts.traffic_share_bp > 2500", "facts.traffic_share_bp >= 2500",
    "facts.traffic_share_bp < 2501", "facts.traffic_share_bp <= 2500",
    "!facts.fleet_paused", "!(facts.fleet_paused && facts.deploy_frozen)",
    "!facts.fleet_paused || facts.deploy_frozen", "!(facts.fleet_paused || facts.deploy_frozen)",
    "facts.fleet_paused && (facts.deploy_frozen || facts.forward_change)",
    "facts.fleet_paused && facts.deploy_frozen || facts.forward_change",
    "facts.fleet_paused == facts.deploy_frozen", "facts.fleet_paused != facts.deploy_frozen",
    "facts.evidence_sources - facts.tier - 1 > 0", "facts.evidence_sources - (facts.tier - 1) > 2",
    "facts.evidence_sources + facts.tier >= 4", "-facts.tier + 2 >= 0", "-(facts.tier - 3) > 1",
    "facts.tier in [1, 3]", "facts.tier in [2]", "-facts.tier in [-2, -1]",
    'facts.runbook_match in ["none"]', 'facts.runbook_match == "none"',
    'facts.environment in ["lab", "staging"] && facts.tier != 1',
    "(facts.tier > 1) == (facts.evidence_sources > 1)", "facts.tier > 1 == facts.fleet_paused",
    "(facts.tier == 1) != facts.fleet_paused && !facts.deploy_frozen",
    "facts.failed_remediations >= facts.flap_limit", "true", "false || facts.service_known",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """One input with what must come out: None, or the ids of the matching rules."""

    tool: ToolDeclaration
    rules: tuple[Rule, ...]
    action: Action
    facts: Mapping[str, Fact]
    expected: tuple[str, ...] | None


def is_declared(action: Action, facts: Mapping[str, Fact], tool: ToolDeclaration,
                schemas: Mapping[str, FactSchema]) -> bool:  # fmt: skip
    """By the slow check in words of every fact, and by a check of arguments written here."""
    if any(schemas[name].fault(facts, NOW_MS) for name in tool.facts):
        return False
    for name, claimed in (
        ("environment", action.environment),
        ("requester_kind", action.requester_kind),
    ):
        if name in tool.facts and facts[name].value != claimed:
            return False
    kinds = {"string": str, "int": int, "bool": bool, "strings": list, "object": dict}
    given = action.arguments
    if not all(n in given and type(given[n]) is kinds[k] for n, k in tool.arguments.items()):
        return False
    for name, kind in tool.arguments.items():
        value = given[name]
        if kind == "strings" and isinstance(value, list) and not all(type(v) is str for v in value):
            return False
    return tool.has_more_arguments or len(given) == len(tool.arguments)


def example(
    tool: ToolDeclaration,
    rules: Sequence[Rule],
    action: Action,
    facts: Mapping[str, Fact],
    schemas: Mapping[str, FactSchema],
) -> Example:
    """The input with its expected outcome by the interpreter."""
    if not is_declared(action, facts, tool, schemas):
        return Example(tool, tuple(rules), action, facts, None)
    values = {name: facts[name].value for name in tool.facts}
    matched = tuple(
        rule.rule_id
        for rule in rules
        if (rule.match.tiers is None or values["tier"] in rule.match.tiers)
        and holds(rule.when, values)
    )
    return Example(tool, tuple(rules), action, facts, matched)


def rich(policy: Policy) -> tuple[ToolDeclaration, list[Rule]]:
    """A tool with an argument of each kind, and more rules than one integer of bits holds."""
    tool = replace(
        policy.tools["workloads.restart"],
        arguments={"a": "string", "b": "int", "c": "bool", "d": "strings", "e": "object"},
    )
    match = Match(frozenset((tool.name,)))
    rules = [
        Rule(f"r-{index:02}", match, parse(text), Effect.ALLOW, "r")
        for index, text in enumerate((*CONDITIONS, *(f"{c} && facts.tier > 1" for c in CONDITIONS)))
    ]
    rules.append(Rule("tiers", replace(match, tiers=frozenset((1, 3))), None, Effect.ALLOW, "r"))
    return tool, rules


GOOD: Mapping[str, Json] = {"a": "x", "b": 1, "c": True, "d": ["x"], "e": {}}
LOOSE: tuple[Mapping[str, Json], ...] = ({"a": "x"}, {"a": "x", "f": 1}, {"f": 1}, {})
BAD: tuple[Mapping[str, Json], ...] = (
    {**GOOD, "a": 1}, {**GOOD, "b": True}, {**GOOD, "b": "1"}, {**GOOD, "c": 1},
    {**GOOD, "d": "x"}, {**GOOD, "d": ["x", 1]}, {**GOOD, "d": [1, "x"]}, {**GOOD, "e": []},
    {**GOOD, "f": 1}, {k: v for k, v in GOOD.items() if k != "e"}, {},
)  # fmt: skip


def examples(policy: Policy) -> Iterator[Example]:
    """Inputs over a rich tool and over shipped ones, well formed and broken in every way."""
    draw = random.Random(23)  # noqa: S311  (reproducible inputs)
    schemas = policy.facts
    tool, rules = rich(policy)
    for arguments in (*[GOOD] * 200, *BAD):
        situation = random_situation(policy, tool.name, draw)
        action = replace(situation.action, arguments=arguments)
        yield example(tool, rules, action, situation.facts, schemas)
    loose = replace(tool, arguments={"a": "string"}, has_more_arguments=True)
    for arguments in LOOSE:
        situation = random_situation(policy, tool.name, random.Random(1))  # noqa: S311
        action = replace(situation.action, arguments=arguments)
        yield example(loose, rules, action, situation.facts, schemas)
    yield from every_break(policy, tool, rules)
    for name in ("oncall.page", "metrics.query", "chaos.run"):
        own = [rule for rule in policy.rules if name in rule.match.tools]
        for _ in range(40):
            found = random_situation(policy, name, draw)
            yield example(policy.tools[name], own, found.action, found.facts, schemas)


def every_break(policy: Policy, tool: ToolDeclaration, rules: list[Rule]) -> Iterator[Example]:
    """Every fact at and beyond each of its bounds, alone."""
    safe = {n: Fact(policy.facts[n].safe, NOW_MS, "s") for n in tool.facts}
    action = replace(safe_action(policy, tool.name, safe), arguments=GOOD)
    yield example(tool, rules, action, safe, policy.facts)
    for moved in (replace(action, environment="staging"), replace(action, requester_kind="person")):  # type: ignore[arg-type]  # the word is all that counts
        yield example(tool, rules, moved, safe, policy.facts)
    for name in tool.facts:
        schema, fact = policy.facts[name], safe[name]
        limit = schema.max_age_s * 1000
        wrong: list[Fact] = [replace(fact, at_ms=NOW_MS - age) for age in (limit, limit + 1)]
        wrong += [replace(fact, at_ms=NOW_MS + ahead) for ahead in (1, 5000, 5001)]
        values = (
            0,
            1,
            True,
            None,
            "many",
            schema.low,
            schema.low - 1,
            schema.high,
            schema.high + 1,
        )
        wrong += [replace(fact, value=value) for value in values]  # type: ignore[arg-type]  # hostile
        wrong.append(replace(fact, value=[]))  # type: ignore[arg-type]  # hostile
        wrong.append(replace(fact, at_ms="now"))  # type: ignore[arg-type]  # hostile
        for bad in wrong:
            yield example(tool, rules, action, {**safe, name: bad}, policy.facts)
        yield example(
            tool, rules, action, {k: v for k, v in safe.items() if k != name}, policy.facts
        )
        bare: Mapping[str, Fact] = {**safe, name: schema.safe}  # type: ignore[dict-item]  # no Fact
        yield example(tool, rules, action, bare, policy.facts)


def is_noticed(source: str, wanted: Sequence[Example], schemas: Mapping[str, FactSchema]) -> bool:
    """Whether some example comes out otherwise, or raises, under this compiler."""
    try:
        module = module_of(source, "wrong_compiler")
        made: dict[tuple[str, int], object] = {}
        for one in wanted:
            key = (one.tool.name, len(one.tool.arguments))
            decide = made.get(key)
            if decide is None:
                decide = made[key] = module.compile_rules(one.tool, one.rules, schemas)
            assert callable(decide)
            matched = decide(one.facts, NOW_MS, one.action)
            found = None
            if matched is not None:
                found = tuple(r.rule_id for r in module.matching(one.rules, matched))
            if found != one.expected:
                return True
    except WRONG:
        return True
    return False


SHARING = "which conditions are tested once for several rules is a matter of speed"
BRACKETS = "one pair of brackets more, or one that the split at && never needs"
EQUIVALENT: Mapping[str, str] = {
    "_branches uses < 2 -> uses <= 2": SHARING,
    "_branches depth > _DEEPEST -> depth >= _DEEPEST": SHARING,
    "_branches 'not ' -> ''": SHARING,
    "_branches 2 -> 3": SHARING,
    "_branches 2 -> 1": SHARING,
    "_branches 0 -> 1": SHARING,
    "_branches 0 -> -1": SHARING,
    "_branches 1 -> 0": SHARING,
    "_branches 1 -> 2": "a deeper indentation is still one",
    "_branches depth + 1 -> depth - 1": "the branch of an else, indented otherwise",
    "_python own < level -> own <= level": BRACKETS,
    "_python 1 -> 2": BRACKETS,
    "_conjuncts 1 -> 2": BRACKETS,
    "_conjuncts 1 -> 0": BRACKETS,
    "_function -len(rules) // CHUNK -> -len(rules) * CHUNK": "integers that stay 0",
}
"""Faults that change nothing anybody could see, and why."""

# What would be wrong about the lattice, a mode or the executor in `plan.py`: text, its fault.
PLAN_FAULTS = (
    ("rules[0].effect if rules", "rules[-1].effect if rules"),
    ("if rules else Effect.DENY", "if rules else Effect.ALLOW"),
    ("LATTICE.index(rule.effect), rule.rule_id", "-LATTICE.index(rule.effect), rule.rule_id"),
    ("LATTICE.index(rule.effect), rule.rule_id", "rule.rule_id, rule.rule_id"),
    ("self.mode is Mode.SUGGEST and", "self.mode is Mode.OBSERVE and"),
    ("self._is_write and decided is Effect.ALLOW", "decided is Effect.ALLOW"),
    ("self._is_write and decided is Effect.ALLOW", "self._is_write and decided is not Effect.DENY"),
    ("self.mode is Mode.OBSERVE and", "self.mode is Mode.SUGGEST and"),
    ("self._is_bound and decided is not", "decided is not"),
    ("self._is_bound and decided is not", "self._is_write and decided is not"),
    ("not in (ToolClass.READ, ToolClass.FLEET)", "not in (ToolClass.READ,)"),
    ("not in (ToolClass.READ, ToolClass.FLEET)", "not in (ToolClass.FLEET,)"),
    ("if self._is_of_fleet and decided", "if self._is_bound and decided"),
    ("if self._is_of_fleet and decided", "if False and decided"),
    ("if not self.is_executable and", "if self.is_executable and"),
    ("if matched is None:", "if matched is not None:"),
    ("self._verdict(Effect.DENY, (), tuple(reasons))", "self._verdict(Effect.ALLOW, (), ())"),
)


def test_the_compiler_itself_passes_what_its_faults_must_not(shipped: Policy) -> None:
    wanted = list(examples(shipped))
    assert not is_noticed(COMPILER.read_text(encoding="utf-8"), wanted, shipped.facts)
    assert sum(one.expected is None for one in wanted) > 100
    assert sum(bool(one.expected) for one in wanted) > 100


def test_every_fault_in_the_compiler_is_noticed(shipped: Policy) -> None:
    wanted = list(examples(shipped))
    found = list(faults(COMPILER, JUDGING.__contains__))
    survived = [f for f in found if not is_noticed(f.source, wanted, shipped.facts)]
    assert len(found) > 140
    assert [f"{f.place} {f.change}" for f in survived if _key(f) not in EQUIVALENT] == []
    assert {_key(f) for f in survived} == set(EQUIVALENT), "an entry that is no longer needed"


def test_every_fault_in_lattice_and_modes_is_noticed(shipped: Policy) -> None:
    source = PLANNER.read_text(encoding="utf-8")
    assert not _is_wrong_plan(source, shipped)
    for old, new in PLAN_FAULTS:
        assert source.count(old) == 1, old
        assert _is_wrong_plan(source.replace(old, new), shipped), f"{old} -> {new}"


def _key(fault: Fault) -> str:
    return f"{fault.place.split(':')[0]} {fault.change}"


def _is_wrong_plan(source: str, policy: Policy) -> bool:
    """Whether a plan made by this source gives another effect than the table of DESIGN does."""
    module = module_of(source, "wrong_plan")
    draw = random.Random(29)  # noqa: S311  (reproducible situations)
    for tool in [*policy.tools] * 12:
        found = random_situation(policy, tool, draw)
        declared, action = policy.tools[tool], found.action
        covering = [
            rule
            for rule in policy.rules
            if rule.match.covers(tool, action.agent, action.environment, action.service)
        ]
        trusting = Rule("trusting", Match(frozenset((tool,))), parse("true"), Effect.ALLOW, "r")
        for rules in (covering, [trusting]):
            plan = module.Plan(
                declared, rules, policy.facts, found.mode, found.has_executor, policy.version
            )
            matched = plan.decide(found.facts, NOW_MS, action)
            verdict = plan.answer(matched, action, found.facts, NOW_MS)
            one = example(declared, rules, action, found.facts, policy.facts)
            if verdict.effect is not expected_effect(one, found.mode, found.has_executor):
                return True
    return False


def expected_effect(one: Example, mode: Mode | None, has_executor: bool) -> Effect:
    """The effect before approvals as DESIGN writes it, row by row."""
    effects = {rule.effect for rule in one.rules if rule.rule_id in (one.expected or ())}
    decided = min(effects, key=WORST_FIRST.index, default=Effect.DENY)
    is_write = one.tool.tool_class is ToolClass.WRITE
    if not has_executor:
        return Effect.DENY
    if one.tool.tool_class is ToolClass.FLEET:  # people's: no mode binds it, nobody does it alone
        return Effect.REQUIRE_APPROVAL if decided is Effect.ALLOW else decided
    if mode is Mode.OBSERVE and one.tool.tool_class is not ToolClass.READ:
        return Effect.DENY
    if mode is Mode.SUGGEST and is_write and decided is Effect.ALLOW:
        return Effect.REQUIRE_APPROVAL
    return decided
