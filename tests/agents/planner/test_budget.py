"""Budgets: tokens, steps, money, seconds, repeated calls; and what usage counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.agents.planner.budget import (
    Budget,
    Limits,
    Loops,
    Prices,
    Stopped,
    counted,
    least_tokens,
    load_prices,
    most_tokens,
)
from loop4.agents.planner.port import Usage
from loop4.errors import PolicyError
from tests.agents.conftest import Case, planner_on, refine
from tests.agents.model_server import Body, Say, natively, report_of

PRICES = Prices(1, {"scripted": (1_000_000, 4_000_000)})


def look(body: Body) -> Say:
    """Another read each time, for ever."""
    seconds = 5 + len(body["messages"])
    return Say(calls=(("logs_records", {"service": "orders", "seconds_back": seconds}),))


def test_a_model_that_never_reports_ends_with_its_steps(case: Case) -> None:
    with planner_on(natively(look), limits=Limits(steps=4)) as (planner, served):
        before, refined = refine(planner, case)
    assert refined.report == before
    assert refined.note is not None
    assert refined.note.turns == len(served.seen) == 5  # the probe is booked too
    assert [t["function"]["name"] for t in served.seen[-1]["tools"]] == ["report"]


def test_tokens_of_an_incident_are_shared_by_its_agents(case: Case) -> None:
    limits = Limits(tokens=9_000)
    with planner_on(natively(look), limits=limits) as (planner, _):
        _, first = refine(planner, case)
        _, second = refine(planner, case, "health")
    assert first.note is not None
    assert second.note is not None
    assert "tokens does not hold another turn" in first.note.fallback
    assert second.note.turns == 0
    assert first.note.usage.tokens + second.note.usage.tokens <= 9_000


def test_money_ends_a_run_and_an_unknown_price_is_unknown(case: Case) -> None:
    say = Say(calls=(("workloads_inventory", {}),), usage=(5_000, 100))
    with planner_on(natively(lambda b: say), limits=Limits(microusd=5_000)) as (planner, _):
        planner.turns._prices = PRICES
        _, refined = refine(planner, case)
        assert refined.note is not None
        assert "microdollars is used up" in refined.note.fallback
        assert refined.note.usage.microusd == 5_600  # with the probe
        assert "loop4_model_cost_microusd_total" in planner.metrics()
    with planner_on(natively(lambda b: report_of()), model="nobody-knows") as (planner, _):
        _, refined = refine(planner, case)
        assert refined.note is not None
        assert refined.note.usage.microusd is None
        assert refined.note.to_json()["cost_microusd"] == "unknown"
        assert "cost" not in planner.metrics()


def test_usage_that_lies_is_not_believed(case: Case) -> None:
    for reported in ((0, 0), (1, 1), (-5, -5), None):
        say = Say(calls=(("report", {"findings": []}),), usage=reported)
        with planner_on(natively(lambda b, s=say: s)) as (planner, _):  # type: ignore[misc]  # bound
            _, refined = refine(planner, case)
        assert refined.note is not None
        assert refined.note.usage.is_doubtful
        assert refined.note.usage.prompt_tokens > 1_000


def test_usage_that_claims_too_much_ends_the_run_and_nothing_else(case: Case) -> None:
    say = Say(calls=(("workloads_inventory", {}),), usage=(10**9, 10**9))
    with planner_on(natively(lambda b: say)) as (planner, _):
        before, refined = refine(planner, case)
    assert refined.report == before
    assert refined.note is not None
    assert refined.note.turns == 2  # the probe and the one that claimed it


def test_the_same_call_is_answered_from_memory_once() -> None:
    loops = Loops()
    assert not loops.again("a", {"x": 1})
    assert loops.again("a", {"x": 1})
    assert not loops.again("a", {"x": 2})
    with pytest.raises(Stopped, match="repeats the call 'a'"):
        loops.again("a", {"x": 1})


def test_a_budget_says_what_is_used_and_needed() -> None:
    budget = Budget(Limits(tokens=1_000, answer_tokens=100))
    budget.take(Usage(500, 100, None))
    with pytest.raises(Stopped, match="600 used, 500 needed"):
        budget.reserve(400)
    assert budget.reserve(200) == 300
    with pytest.raises(Stopped, match="900 used, 101 needed"):
        budget.reserve(1)
    budget.release(300)
    assert budget.reserve(1) == 101


@given(st.text(max_size=400))
def test_the_estimate_is_above_the_least(text: str) -> None:
    assert most_tokens(text) >= least_tokens(text)


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_fewer_tokens(first: str, second: str) -> None:
    assert most_tokens(first + "\n" + second) >= most_tokens(first)


def test_digits_and_other_scripts_are_counted_dearly() -> None:
    assert most_tokens("1790000000000") == 13
    assert most_tokens("ж") == 2
    assert most_tokens("failing requests") == 6


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["scripted", "other"]))
def test_cost_is_rounded_up_and_only_known_with_a_price(
    prompt: int, answer: int, model: str
) -> None:
    cost = PRICES.cost(model, prompt, answer)
    assert cost == (prompt + 4 * answer if model == "scripted" else None)


def test_reported_usage_counts_where_it_can_be() -> None:
    usage = counted(PRICES, "scripted", prompt="a" * 120, answer="b" * 12, reported=(40, 5))
    assert usage == Usage(40, 5, 60, is_doubtful=False)


def test_the_shipped_prices_have_a_version_and_no_zero() -> None:
    prices = load_prices()
    assert prices.version >= 1
    assert all(p > 0 and a > 0 for p, a in prices.per_million.values())


def test_a_price_file_that_cannot_be_read_says_where(tmp_path: object) -> None:
    path = tmp_path / "prices.yaml"  # type: ignore[operator]  # a Path
    path.write_text("version: 1\nper_million_tokens:\n  m: {prompt: 1}\n")
    with pytest.raises(PolicyError, match=r"prices.yaml:3"):
        load_prices(path)


def test_the_same_findings_are_not_shown_to_a_model_twice(case: Case) -> None:
    with planner_on(natively(lambda b: report_of())) as (planner, served):
        refine(planner, case)
        asked = len(served.seen)
        before, again = refine(planner, case)
        assert len(served.seen) == asked
        assert again.report == before
        assert again.note is not None
        assert again.note.notes == ("nothing new since the model was last asked",)
        assert again.note.turns == 0
        refine(planner, case, "health")
        assert len(served.seen) == asked + 1


def test_a_model_that_failed_is_asked_again(case: Case) -> None:
    with planner_on(natively(lambda b: Say("no call"))) as (planner, served):
        _, failed = refine(planner, case)
        asked = len(served.seen)
        refine(planner, case)
    assert failed.note is not None
    assert failed.note.fallback
    assert len(served.seen) > asked


BROKEN = {
    "cut in the middle": Say("half of an answer that goes on and on " * 20, cut_after=10),
    "without an end": Say("word " * 100_000),
    "no completion": Say(body="data: {nope\n\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_turn_that_breaks_off_is_booked_with_the_most_that_it_took(name: str, case: Case) -> None:
    with planner_on(natively(lambda b: BROKEN[name])) as (planner, _):
        _, refined = refine(planner, case)
        _, text = refine(planner, case, "health")
    assert refined.note is not None
    assert text.note is not None
    assert refined.note.turns == 2  # and the probe
    assert refined.note.usage.prompt_tokens > 1_000
    assert refined.note.usage.is_doubtful
    assert (refined.note.usage.answer_tokens > 1_000) == (name == "without an end")
    assert planner.totals.turns == refined.note.turns + text.note.turns


def test_a_request_that_nobody_took_is_no_turn(case: Case) -> None:
    with planner_on(natively(lambda b: Say(status=400))) as (planner, _):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.turns == 1  # the probe
