"""Past decisions judged again: the same rules give the same, other rules what they would give."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from loop4.domain import Effect, Json
from loop4.policies.cases import NOW_MS, under
from loop4.policies.cel import parse
from loop4.policies.gate import judge
from loop4.policies.policy import Policy
from loop4.policies.replay import PastDecision, PolicyReplay, past_decision
from loop4.policies.situation import Situation
from tests.policies.broken_promises import changed, rule_of
from tests.policies.situations import random_situation


def recorded(policy: Policy, situation: Situation) -> dict[str, Json]:
    """A decision's body as the ledger keeps it, through JSON and back."""
    viewed = under(policy, situation.mode, situation.has_executor)
    action = situation.action
    verdict = judge(action, situation.facts, viewed, (), situation.now_ms)
    body = {
        "tool": action.tool,
        "target": action.target,
        "service": action.service,
        "environment": action.environment,
        "requester_kind": action.requester_kind.value,
        "arguments": action.arguments,
        "agent": action.agent,
        "facts": {
            name: {"value": f.value, "at_ms": f.at_ms, "source": f.source}
            for name, f in situation.facts.items()
        },
        "decided": verdict.decided.value,
        "effect": verdict.effect.value,
        "rules": list(verdict.rules),
    }
    found: dict[str, Json] = json.loads(json.dumps(body))
    return found


def past(policy: Policy, count: int, seed: int) -> list[PastDecision]:
    draw = random.Random(seed)  # noqa: S311  (reproducible situations)
    tools = sorted(policy.tools)
    bodies = [
        recorded(policy, random_situation(policy, tools[index % len(tools)], draw))
        for index in range(count)
    ]
    found = [past_decision(seq, NOW_MS, body, "", "") for seq, body in enumerate(bodies, 1)]
    return [decision for decision in found if decision is not None]


def test_the_same_rules_give_the_same_decisions(shipped: Policy) -> None:
    # a third of the situations have a fact, an argument or a claim that is not as declared
    found = PolicyReplay(shipped).run(past(shipped, 400, 41))
    assert found.judged == 400
    assert (found.turned, found.by_other_rules, found.unknown_tools) == ((), 0, 0)


def test_other_rules_give_what_the_gate_gives_under_them(shipped: Policy) -> None:
    wide = rule_of(shipped, "wide-blast-radius")
    new = changed(shipped, wide.rule_id, replace(wide, when=parse("facts.traffic_share_bp > 0")))
    decisions = past(shipped, 300, 43)
    turned = {t.decision.seq: t for t in PolicyReplay(new).run(decisions).turned}
    draw, tools = random.Random(43), sorted(shipped.tools)  # noqa: S311
    for seq in range(1, 301):
        situation = random_situation(shipped, tools[(seq - 1) % len(tools)], draw)
        viewed = under(new, situation.mode, situation.has_executor)
        verdict = judge(situation.action, situation.facts, viewed, (), NOW_MS)
        was = decisions[seq - 1].decided
        assert (seq in turned) == (verdict.decided != was)
        if seq in turned:
            assert (turned[seq].becomes, turned[seq].rules) == (verdict.decided, verdict.rules)
    assert turned


def test_a_tool_that_is_no_longer_declared_would_be_denied(shipped: Policy) -> None:
    allowed = next(d for d in past(shipped, 400, 47) if d.decided == Effect.ALLOW)
    allowed.tool = "workloads.reboot"
    found = PolicyReplay(shipped).run([allowed])
    assert found.unknown_tools == 1
    (turned,) = found.turned
    assert turned.becomes is Effect.DENY


def test_a_body_from_before_says_who_asked_through_its_facts(shipped: Policy) -> None:
    draw = random.Random(5)  # noqa: S311
    situation = random_situation(shipped, "workloads.restart", draw)
    body = recorded(shipped, situation)
    for key in ("service", "environment", "requester_kind"):
        del body[key]
    found = past_decision(1, NOW_MS, body, "orders", "")
    assert found is not None
    assert found.service == "orders"
    assert found.environment == situation.facts["environment"].value
    assert PolicyReplay(shipped).run([found]).turned == ()


def test_what_is_no_decision_is_not_taken_for_one() -> None:
    assert past_decision(1, NOW_MS, {"tool": "x"}, "", "") is None
    assert past_decision(1, NOW_MS, {"tool": 1, "facts": [], "arguments": {}}, "", "") is None
