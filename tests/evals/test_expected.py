"""What counts as a right decision, and how two replays are told apart."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import Json
from loop4.evals.incidents import (
    Decided,
    decided_in_replay,
    decided_live,
    expected_of,
    problems,
    truths,
)
from loop4.evals.replay import Comparison, Replay, compare
from loop4.lab.results import ActTaken, Result
from loop4.lab.scenarios import SCENARIOS, DeployStep, Plan, draw

NAMES = [s.name for s in SCENARIOS]
plans = st.builds(draw, st.sampled_from(NAMES), st.integers(0, 500))
NOTICES = frozenset({"oncall.page", "incidents.draft_customer_update", "signals.file"})


def right(plan: Plan) -> Decided:
    """The decisions that the table asks for."""
    wanted = expected_of(plan)
    severity = min(wanted.severities - {"none"}) if plan.culprit else "none"
    act = ActTaken(wanted.tool, wanted.target, wanted.effect, ("mira",), "done")
    return Decided(
        severity,
        wanted.cause,
        (act,) if wanted.tool else (),
        NOTICES if plan.culprit else frozenset(),
        "resolved" if plan.culprit else "",
    )


def weight_of(plan: Plan, service: str) -> int:
    return next(
        s.weight_bp for s in plan.steps if isinstance(s, DeployStep) and s.service == service
    )


@given(plan=plans)
def test_what_the_table_asks_for_is_right(plan: Plan) -> None:
    assert problems(plan, right(plan)) == ()


@given(plan=plans)
def test_the_wrong_severity_cause_or_state_is_each_one_problem(plan: Plan) -> None:
    good = right(plan)
    wrong = {
        "severity SEV9": replace(good, severity="SEV9", state="resolved"),
        "cause guilty_change:router": replace(good, cause="guilty_change:router"),
    }
    if plan.culprit:
        wrong["state open"] = replace(good, state="open")
    for told, decided in wrong.items():
        (problem,) = problems(plan, decided)
        assert problem.startswith(f"{told}, expected ")


@given(plan=plans)
def test_an_act_too_many_is_a_problem(plan: Plan) -> None:
    good = right(plan)
    more = ActTaken("workloads.restart", "gateway-9", "allow", (), "done")
    (problem,) = problems(plan, replace(good, acts=(*good.acts, more)))
    assert "gateway-9" in problem


@given(plan=plans.filter(lambda p: bool(expected_of(p).tool)))
def test_no_act_a_wrong_one_or_one_that_failed_is_a_problem(plan: Plan) -> None:
    good = right(plan)
    (act,) = good.acts
    wrong = [
        (),
        (act, act),
        (replace(act, target="router"),),
        (replace(act, tool="workloads.scale"),),
        (replace(act, effect="deny"),),
        (replace(act, outcome="failed"),),
        (replace(act, outcome="unknown"),),
    ]
    for acts in wrong:
        (problem,) = problems(plan, replace(good, acts=acts))
        assert problem.startswith("acts ")


@given(seed=st.integers(0, 500))
def test_a_wide_change_must_have_been_asked_about_and_a_narrow_one_not(seed: int) -> None:
    plan = draw("dependency-change", seed)
    wide = weight_of(plan, "payments") > 2_500
    assert expected_of(plan).effect == ("require_approval" if wide else "allow")
    good = right(plan)
    (act,) = good.acts
    other = replace(act, effect="allow" if wide else "require_approval")
    assert len(problems(plan, replace(good, acts=(other,)))) == 1


@pytest.mark.parametrize("notice", ["oncall.page", "incidents.draft_customer_update"])
def test_an_outage_of_others_needs_a_page_and_a_customer_draft(notice: str) -> None:
    plan = draw("dependency-down", 1)
    good = right(plan)
    assert problems(plan, replace(good, notices=good.notices - {notice})) == (f"no {notice}",)
    assert good.acts == ()


def test_a_quiet_time_must_stay_quiet() -> None:
    plan = draw("quiet", 1)
    assert problems(plan, Decided("SEV4", "none", (), frozenset(), "resolved")) == ()
    false_alarm = Decided("SEV2", "guilty_change:orders", (), NOTICES, "resolved")
    assert len(problems(plan, false_alarm)) == 2


def test_every_scenario_stands_in_the_table_with_its_culprit() -> None:
    causes = {name: expected_of(draw(name, 1)).cause.partition(":")[0] for name in NAMES}
    assert causes == {
        "bad-deploy": "guilty_change",
        "crash-loop": "instance_fault",
        "dependency-down": "external_dependency",
        "dependency-change": "guilty_change",
        "quiet": "none",
    }


def test_every_shipped_recording_has_its_plan_and_every_plan_its_recording() -> None:
    folder = files("loop4.evals") / "incidents"
    recorded = {f.name for f in folder.iterdir() if f.name.endswith(".jsonl.gz")}
    assert {name for name, _ in truths()} == recorded
    assert recorded


def test_a_live_result_is_judged_by_what_it_says() -> None:
    plan = draw("crash-loop", 2)
    good = right(plan)
    result = Result(
        scenario=plan.scenario,
        seed=2,
        severity=good.severity,
        cause=good.cause,
        acts=good.acts,
        denied=(),
        detected_s=1.0,
        mitigated_s=2.0,
        verified_s=20.0,
        paths=(),
        notices=tuple(sorted(NOTICES)),
        state="resolved",
        is_fault=True,
        needs_act=True,
    )
    assert decided_live(result) == good
    assert problems(plan, decided_live(replace(result, cause="none")))


def decision(
    tool: str = "deployments.roll_back",
    target: str = "orders",
    effect: str = "require_approval",
    *,
    decided: str = "",
    share: int = 5_000,
    **arguments: Json,
) -> dict[str, Json]:
    return {
        "tool": tool,
        "target": target,
        "effect": effect,
        "decided": decided or effect,
        "arguments": arguments,
        "facts": {"traffic_share_bp": {"value": share, "at_ms": 1, "source": "router"}},
    }


def test_a_replay_is_judged_by_its_first_incident_and_by_acts_that_ran() -> None:
    plan = draw("bad-deploy", 1)
    service = plan.culprit.partition(":")[2]
    incident: dict[str, Json] = {
        "severity": "SEV1",
        "cause": f"guilty_change:{service}",
        "state": "resolved",
    }
    asked = decision(target=service)
    done = decision(target=service, effect="allow", decided="require_approval")
    page = decision("oncall.page", "orders", "allow", path="work/incidents/page-01.md")
    denied = decision("workloads.scale", service, "deny")
    outcomes = [
        {"tool": "deployments.roll_back", "target": service, "state": "done"},
        {"tool": "oncall.page", "target": "orders", "state": "done"},
    ]
    replayed = Replay((incident,), (page, asked, done, denied), tuple(outcomes), ())
    assert problems(plan, decided_in_replay(replayed)) == ()
    failed = [{**outcomes[0], "state": "failed"}, outcomes[1]]
    assert problems(plan, decided_in_replay(replace(replayed, outcomes=tuple(failed))))
    assert problems(plan, decided_in_replay(replace(replayed, incidents=())))


decisions = st.builds(
    decision,
    st.sampled_from(["deployments.roll_back", "workloads.restart", "oncall.page"]),
    st.sampled_from(["orders", "gateway"]),
    st.sampled_from(["allow", "deny", "require_approval"]),
    share=st.integers(0, 3),
)


@given(made=st.lists(decisions, max_size=6))
def test_a_replay_compared_with_itself_has_no_change(made: list[dict[str, Json]]) -> None:
    assert compare(made, list(made)) == Comparison(len(made), (), ())


@given(made=st.lists(decisions, min_size=1, max_size=6), data=st.data())
def test_one_other_verdict_is_the_one_change_with_the_facts_that_differ(
    made: list[dict[str, Json]], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(made) - 1))
    old = made[at]
    new = {**old, "effect": "escalate", "decided": "escalate", "facts": {}}
    compared = compare(made, [*made[:at], new, *made[at + 1 :]])
    assert compared.same == at
    (changed,) = compared.changed
    assert (changed["tool"], changed["target"]) == (old["tool"], old["target"])
    assert (changed["was"], changed["is"]) == (old["effect"], "escalate")
    assert compared.following == ()


def test_other_facts_under_the_same_verdict_are_no_change() -> None:
    assert compare([decision(share=1)], [decision(share=2)]) == Comparison(1, (), ())


def test_the_change_names_old_and_new_value_of_each_fact_that_differs() -> None:
    compared = compare([decision(share=2_600)], [decision(effect="allow", share=2_400)])
    assert compared.changed[0]["facts"] == {"traffic_share_bp": {"was": 2_600, "is": 2_400}}
    same = compare([decision(share=2_600)], [decision(effect="allow", share=2_600)])
    assert same.changed[0]["facts"] == {}


def test_what_comes_only_before_or_only_after_follows() -> None:
    first, asked = decision("oncall.page", effect="allow"), decision()
    restart = decision("workloads.restart", "orders-1", "allow")
    ended = compare([first, asked], [first])
    assert (ended.same, ended.changed) == (1, ())
    assert ended.following == (
        {"was": "deployments.roll_back on orders: require_approval", "is": None},
    )
    went_on = compare([first], [first, restart])
    assert went_on.following == ({"was": None, "is": "workloads.restart on orders-1: allow"},)
    other = compare([first, asked], [first, restart])
    assert (other.changed, len(other.following)) == ((), 2)


def test_what_a_changed_verdict_leads_to_stands_apart_from_it() -> None:
    asked = decision()
    approved = decision(effect="allow", decided="require_approval")
    compared = compare([asked, approved], [decision(effect="allow")])
    assert [(c["was"], c["is"]) for c in compared.changed] == [("require_approval", "allow")]
    assert compared.following == ({"was": "deployments.roll_back on orders: allow", "is": None},)


def test_the_comparison_can_be_printed_as_json() -> None:
    compared = compare([decision()], [decision(effect="allow"), decision(effect="deny")])
    body = compared.to_json()
    assert body["same"] == 0
    assert body["changed"] == [dict(c) for c in compared.changed]
    assert body["following"] == [dict(f) for f in compared.following]
