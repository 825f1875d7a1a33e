"""When two replays count as the same, and what the comparison says of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loop4.domain import Json
from loop4.evals.model_share import AddedFinding, ModelShare, told
from loop4.evals.replay import Replay
from loop4.evals.with_model import Pair, table


def decision(tool: str, target: str, effect: str, **more: Json) -> dict[str, Json]:
    return {
        "tool": tool,
        "target": target,
        "arguments": dict(more),
        "effect": effect,
        "decided": effect,
        "rules": [],
    }


BARE = Replay(
    incidents=({"severity": "SEV2", "cause": "guilty_change:payments", "state": "resolved"},),
    decisions=(
        decision("deployments.roll_back", "payments", "require_approval"),
        decision("incidents.write_context", "work/a.md", "allow", path="work/a.md"),
    ),
    outcomes=({"tool": "deployments.roll_back", "target": "payments", "state": "done"},),
    verifications=(),
)
SHARE = ModelShare(
    tasks=5,
    turns=3,
    prompt_tokens=4_000,
    answer_tokens=200,
    microusd=None,
    findings=(AddedFinding("incident/model", "observation", "orders", "orders is slow."),),
    dropped=(
        ("claim fails the fact check", 2),
        ("finding cites evidence that is not there", 3),
        ("finding cites no evidence", 4),
    ),
    fallbacks=(("the model took more than 30 s", 1),),
)


def pair(aided: Replay) -> Pair:
    return Pair("a.jsonl.gz", BARE, replace(aided, model=SHARE), 1.0, 2.5)


def test_a_proposal_that_was_denied_and_another_cause_are_still_the_same_decision() -> None:
    more = decision("workloads.restart", "orders-1", "deny")
    other = {**BARE.incidents[0], "cause": "instance_fault:orders-1"}
    aided = replace(BARE, decisions=(*BARE.decisions, more), incidents=(other,))
    assert pair(aided).is_same


@pytest.mark.parametrize(
    "aided",
    [
        replace(BARE, incidents=({**BARE.incidents[0], "severity": "SEV1"},)),
        replace(BARE, incidents=()),
        replace(BARE, outcomes=()),
        replace(BARE, outcomes=({**BARE.outcomes[0], "state": "failed"},)),
        replace(BARE, decisions=({**BARE.decisions[0], "effect": "allow", "decided": "allow"},)),
        replace(
            BARE,
            decisions=(*BARE.decisions, decision("workloads.restart", "orders-1", "allow")),
            outcomes=(
                *BARE.outcomes,
                {"tool": "workloads.restart", "target": "orders-1", "state": "done"},
            ),
        ),
    ],
    ids=["severity", "no incident", "not done", "failed", "effect", "one act more"],
)
def test_another_severity_act_effect_or_outcome_is_not_the_same(aided: Replay) -> None:
    assert not pair(aided).is_same
    assert "NOT the same decisions" in table([pair(aided)])


def test_the_table_says_what_the_model_cost_added_and_lost() -> None:
    shown = table([pair(BARE)])
    head, without, aided, *_ = shown.splitlines()
    assert head.split()[-3:] == ["turns", "tokens", "seconds"]
    assert without.split()[-3:] == ["-", "-", "1.0"]
    assert aided.split()[-3:] == ["3", "4200", "2.5"]
    assert "deployments.roll_back payments" in without
    assert "require_approval" in aided
    assert "incident/model: observation orders: orders is slow." in shown


def test_an_unknown_price_is_said_and_uncited_findings_are_counted() -> None:
    assert SHARE.uncited == 7
    assert SHARE.to_json()["cost_microusd"] == "unknown"
    said = "\n".join(told(SHARE))
    assert "price unknown" in said
    assert "dropped: 9, 7 of them findings without evidence" in said
    assert "the playbook took over in 1 of 5 tasks: the model took more than 30 s" in said
    assert "0.0000 USD" in "\n".join(told(replace(SHARE, microusd=0)))
