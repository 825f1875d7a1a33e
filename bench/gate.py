"""How fast the gate judges, and whether it agrees with Google's CEL: `python bench/gate.py --json`.

Generated rule sets of 20 and 200 rules over 17 facts are written as policy files and loaded by the
real loader; `judge` runs with its full check of facts and arguments. All 200 rules concern the
judged tool and read facts only, so none can be left out beforehand. `cel-expr-python` gets the same
conditions as one list expression and the bare values, without check, age or lattice. Both take
turns over the same contexts in one process. The differential run compares the
effect and the matched rules on random contexts, the shipped rules for every tool included.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import timeit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from loop4.domain import Action, Effect, Fact, FactScalar, Json, Mode
from loop4.policies.cases import NOW_MS, safe_action
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.gate import judge
from loop4.policies.load import load_policy, with_rules
from loop4.policies.policy import Policy
from loop4.policies.rules import LATTICE, Binding, Rule
from loop4.policies.tree import unparse

BATCHES = 5
INSTALL = "cel-expr-python is missing; pip install 'cel-expr-python>=0.1.3'"
WORDS = {
    "environment": ("production", "staging", "development", "lab"),
    "severity": ("SEV1", "SEV2", "SEV3", "SEV4"),
    "runbook": ("none", "typed"),
}
BOOLS = ("known_good", "forward", "frozen", "paused", "complete", "known", "passed")
INTS = ("share_bp", "sources", "restarts", "budget", "failed", "replicas", "cost_bp")
SOURCES = ("router", "ledger", "ledger", "ledger", "evidence", "changes", "workloads")


@dataclass(frozen=True, slots=True)
class Context:
    """One random situation, as the gate and as CEL take it."""

    action: Action
    facts: Mapping[str, Fact]
    values: Mapping[str, FactScalar]


class Cel:
    """The same rules in Google's CEL, as one list of booleans."""

    def __init__(self, rules: Sequence[Rule], schemas: Mapping[str, FactSchema]) -> None:
        from cel_expr_python import cel

        kinds = {
            FactType.BOOL: cel.Type.BOOL,
            FactType.INT: cel.Type.INT,
            FactType.ENUM: cel.Type.STRING,
        }
        variables = {f"facts.{name}": kinds[schema.type] for name, schema in schemas.items()}
        conditions = ["true" if rule.when is None else unparse(rule.when) for rule in rules]
        self.rules = rules
        self.program = cel.NewEnv(variables=variables).compile(f"[{', '.join(conditions)}]")

    def run(self, values: Mapping[str, FactScalar]) -> list[bool]:
        """One boolean per rule: what is timed."""
        answers: list[bool] = self.program.eval(data=values).plain_value()
        return answers

    def verdict(self, values: Mapping[str, FactScalar]) -> tuple[Effect, tuple[str, ...]]:
        """Effect and matched rules, worst first. Only a real True counts."""
        answers = self.run(values)
        matched = [rule for rule, yes in zip(self.rules, answers, strict=True) if yes is True]
        matched.sort(key=lambda rule: (LATTICE.index(rule.effect), rule.rule_id))
        effect = matched[0].effect if matched else Effect.DENY
        return effect, tuple(rule.rule_id for rule in matched)


def generated_policy(count: int, folder: Path) -> Policy:
    """A policy of `count` rules over 17 facts and one tool, through the real loader."""
    draw = random.Random(count)  # noqa: S311  (a reproducible rule set, not a secret)
    facts: dict[str, Json] = {name: _enum(words) for name, words in WORDS.items()}
    facts |= {
        name: _fact(source, "bool", True) for source, name in zip(SOURCES, BOOLS, strict=True)
    }
    facts |= {
        name: _fact(source, "int", 0, min=0, max=10000)
        for source, name in zip(SOURCES, INTS, strict=True)
    }
    tool: Json = {
        "class": "write",
        "effect": "bench",
        "arguments": {"service": "string"},
        "facts": list(facts),
    }
    rules: list[Json] = [_rule(index, draw) for index in range(count)]
    folder.mkdir(parents=True)
    (folder / "rules").mkdir()
    _write(folder / "facts.yaml", "FactSchema", {"facts": facts})
    _write(folder / "tools.yaml", "ToolDeclaration", {"tools": {"bench.act": tool}})
    _write(folder / "rules" / "rules.yaml", "ActionPolicy", {"rules": rules})
    policy = load_policy(folder / "rules", (), folder / "tools.yaml", folder / "facts.yaml")
    return acting(policy)


def acting(policy: Policy) -> Policy:
    """The same rules where the binding lets them speak for themselves."""
    return with_rules(policy, policy.rules, [Binding("bench", Mode.ACT)])


def random_context(policy: Policy, tool: str, draw: random.Random) -> Context:
    """A situation with well-formed facts; bounds that rules mention are hit often."""
    declared = policy.tools[tool]
    values = {name: _value(policy.facts[name], draw) for name in declared.facts}
    read_ms = {  # a source is read once; all its facts have that time
        source: NOW_MS - draw.randrange(0, 60_000)
        for source in sorted({policy.facts[name].source for name in declared.facts})
    }
    facts = {
        name: Fact(value, read_ms[policy.facts[name].source], policy.facts[name].source)
        for name, value in values.items()
    }
    action = safe_action(policy, tool, facts)
    return Context(action, facts, {f"facts.{name}": value for name, value in values.items()})


def differences(policy: Policy, tool: str, contexts: int, draw: random.Random) -> int:
    """On how many random contexts the gate and CEL disagree, by effect or by matched rules."""
    rules = [rule for rule in policy.rules if tool in rule.match.tools]
    declared = {name: policy.facts[name] for name in policy.tools[tool].facts}
    cel = Cel(rules, declared)
    found = 0
    for _ in range(contexts):
        context = random_context(policy, tool, draw)
        verdict = judge(context.action, context.facts, policy, (), NOW_MS)
        found += (verdict.decided, verdict.rules) != cel.verdict(context.values)
    return found


def measure(policy: Policy, repeats: int) -> tuple[float, float]:
    """p50 over contexts, in microseconds, of the gate and of CEL.

    The time of one context is the best of `BATCHES` means of `repeats` decisions in a row: the
    clock itself takes a twentieth of what is measured, and other processes share the machine.
    """
    draw = random.Random(7)  # noqa: S311
    contexts = [random_context(policy, "bench.act", draw) for _ in range(200)]
    cel = Cel(policy.rules, policy.facts)
    ours: list[float] = []
    theirs: list[float] = []
    for context in contexts:
        scope = {
            **{"judge": judge, "action": context.action, "facts": context.facts, "now": NOW_MS},
            **{"policy": policy, "run": cel.run, "values": context.values},
        }
        ours.append(_best("judge(action, facts, policy, (), now)", scope, repeats))
        theirs.append(_best("run(values)", scope, repeats))
    return median(ours), median(theirs)


def run(repeats: int, contexts: int) -> dict[str, float | int]:
    """All figures of this benchmark."""
    figures: dict[str, float | int] = {}
    ratios, differing, compared = [], 0, 0
    draw = random.Random(11)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        for count in (20, 200):
            policy = generated_policy(count, Path(folder) / str(count))
            ours, theirs = measure(policy, repeats)
            figures[f"p50_us_{count}"] = round(ours, 2)
            figures[f"cel_p50_us_{count}"] = round(theirs, 2)
            ratios.append(theirs / ours)
            differing += differences(policy, "bench.act", contexts // 4, draw)
            compared += contexts // 4
    shipped = acting(load_policy())
    each = -(-(contexts - compared) // len(shipped.tools))
    for tool in shipped.tools:
        differing += differences(shipped, tool, each, draw)
        compared += each
    return figures | {
        "ratio_cel": round(min(ratios), 2),
        "differences": differing,
        "contexts": compared,
    }


def main() -> int:
    """Print the figures; exit 1 if one misses its target, 2 without cel-expr-python."""
    parser = argparse.ArgumentParser(description="Time the gate and compare it with Google's CEL.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--repeats", type=int, default=20, help="decisions in a row")
    parser.add_argument("--contexts", type=int, default=10_000, help="random contexts compared")
    arguments = parser.parse_args()
    try:
        figures = run(arguments.repeats, arguments.contexts)
    except ModuleNotFoundError as error:
        if error.name != "cel_expr_python":
            raise
        print(f"bench: {INSTALL}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<16}{value}")
    met = (
        figures["p50_us_20"] <= 2
        and figures["p50_us_200"] <= 6
        and figures["ratio_cel"] >= 5
        and figures["differences"] == 0
    )
    return 0 if met else 1


def _best(statement: str, scope: dict[str, object], repeats: int) -> float:
    timer = timeit.Timer(statement, globals=scope)
    timer.timeit(1)  # compiled plans and verdicts are made on first use
    return min(timer.repeat(BATCHES, repeats)) / repeats * 1e6


def _value(schema: FactSchema, draw: random.Random) -> FactScalar:
    if schema.type is FactType.BOOL:
        return draw.random() < 0.5
    if schema.type is FactType.ENUM:
        return draw.choice(schema.values)
    if draw.random() < 0.5:  # near the bounds that rules use
        edge = draw.choice((0, 1, 2, 3, 2500, 20000, 604800)) + draw.choice((-1, 0, 1))
        return min(max(edge, schema.low), schema.high)
    return draw.randint(schema.low, schema.high)


def _rule(index: int, draw: random.Random) -> dict[str, Json]:
    """A rule as policies have them: a switch or a word, and one or two bounds."""
    effect = draw.choice(tuple(Effect))
    bounds = [f"facts.{draw.choice(INTS)} {draw.choice(('<', '<=', '>', '>='))} {draw.randrange(9000)}" for _ in range(2)]  # noqa: E501  # fmt: skip
    name = draw.choice(tuple(WORDS))
    word = f'facts.{name} {draw.choice(("==", "!="))} "{draw.choice(WORDS[name])}"'
    switch = f"{draw.choice(('', '!'))}facts.{draw.choice(BOOLS)}"
    when = draw.choice(
        (
            f"{switch} && {bounds[0]}",
            f"{word} && {bounds[0]} && {switch}",
            f"{word} && ({bounds[0]} || {bounds[1]})",
            f"facts.restarts + {draw.randrange(100)} >= facts.budget && {word}",
            f'facts.severity in ["SEV1", "{draw.choice(("SEV2", "SEV3"))}"] && {switch}',
        )
    )
    rule: dict[str, Json] = {
        "id": f"rule-{index:03}",
        "match": {"tools": ["bench.act"]},
        "when": when,
        "effect": str(effect),
    }
    if effect is Effect.REQUIRE_APPROVAL:
        rule["approval"] = {"role": "on-call", "need": 1, "ttl_s": 900}
    if effect is Effect.ESCALATE:
        rule["escalate"] = {"to": "on-call"}
    return rule


def _fact(source: str, kind: str, safe: FactScalar, **more: Json) -> dict[str, Json]:
    return {"type": kind, "source": source, "max_age_s": 60, "safe": safe, **more}


def _enum(words: Sequence[str]) -> dict[str, Json]:
    return _fact("catalogue", "enum", words[0], values=list(words))


def _write(path: Path, kind: str, spec: Json) -> None:
    document = {
        "apiVersion": "loop4/v1",
        "kind": kind,
        "metadata": {"name": "bench"},
        "spec": spec,
    }
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML


if __name__ == "__main__":
    sys.exit(main())
