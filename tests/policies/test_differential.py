"""The gate against Google's CEL: the same rules, the same contexts, the same verdicts."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop4.domain import Effect
from loop4.policies.cel import parse
from loop4.policies.load import with_rules
from loop4.policies.policy import Policy
from loop4.policies.rules import Match, Rule
from loop4.policies.tree import Tree
from tests.policies.conditions import conditions

pytest.importorskip(
    "cel_expr_python", reason="needs Google's CEL: pip install 'cel-expr-python>=0.1.3'"
)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench/gate.py, which is a script and no part of a package."""
    path = Path(__file__).parents[2] / "bench" / "gate.py"
    spec = importlib.util.spec_from_file_location("bench_gate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_shipped_and_generated_rules_are_judged_as_cel_judges_them(
    bench: ModuleType, acting: Policy, tmp_path: Path
) -> None:
    draw = random.Random(3)  # noqa: S311  (reproducible contexts)
    compared = 0
    for tool in acting.tools:
        assert bench.differences(acting, tool, 15, draw) == 0, tool
        compared += 15
    generated = bench.generated_policy(60, tmp_path / "generated")
    assert bench.differences(generated, "bench.act", 500 - compared, draw) == 0


def test_the_comparison_notices_a_wrong_rule(bench: ModuleType, acting: Policy) -> None:
    draw = random.Random(3)  # noqa: S311
    cel = bench.Cel(
        [r for r in acting.rules if "metrics.query" in r.match.tools],
        {name: acting.facts[name] for name in acting.facts_of("metrics.query")},
    )
    fewer = with_rules(
        acting, [r for r in acting.rules if r.rule_id != "read-of-secrets"], acting.bindings
    )
    found = 0
    for _ in range(50):
        context = bench.random_context(acting, "metrics.query", draw)
        verdict = bench.judge(context.action, context.facts, fewer, (), bench.NOW_MS)
        found += (verdict.decided, verdict.rules) != cel.verdict(context.values)
    assert found > 0


@given(st.lists(conditions, min_size=1, max_size=40), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_any_conditions_mean_what_they_mean_in_cel(
    bench: ModuleType, acting: Policy, trees: list[Tree], seed: int
) -> None:
    rules = [
        Rule(
            rule_id=f"r-{index:02}",
            match=Match(tools=frozenset(["code.patch"])),
            when=tree,
            effect=Effect.ALLOW,
            reason="r",
        )
        for index, tree in enumerate(trees)
    ]
    policy = with_rules(acting, rules, acting.bindings)
    assert bench.differences(policy, "code.patch", 5, random.Random(seed)) == 0  # noqa: S311


def test_the_longest_conditions_still_mean_the_same(bench: ModuleType, acting: Policy) -> None:
    texts = (
        " + ".join(["facts.tier"] * 15) + " > 30",
        " || ".join(["facts.fleet_paused", "facts.deploy_frozen"] * 60),
        " && ".join(f"facts.traffic_share_bp != {number}" for number in range(80)),
        "!" * 12 + "facts.fleet_paused",
        "(" * 12 + "facts.fleet_paused" + ")" * 12,
        "facts.tier - (" * 12 + "facts.tier" + ")" * 12 + " == 1",
        "!(" * 6 + "1 + 1 + 1 + 1 + 1 + 1 + 1 == facts.tier" + ")" * 6,
    )
    rules = [
        Rule(f"r-{n}", Match(frozenset(["code.patch"])), parse(text), Effect.ALLOW, "r")
        for n, text in enumerate(texts)
    ]
    policy = with_rules(acting, rules, acting.bindings)
    assert bench.differences(policy, "code.patch", 50, random.Random(5)) == 0  # noqa: S311
