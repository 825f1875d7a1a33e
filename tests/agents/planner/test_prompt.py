"""What goes to a model: small, fenced, masked, the playbook first."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loop4.agents.planner.budget import Limits, most_tokens
from loop4.agents.planner.masking import Masker, holds_secret
from loop4.agents.planner.telemetry_text import clean, fenced, templates
from tests.agents.conftest import make_case, planner_on, refine
from tests.agents.hostile import SECRETS, planted
from tests.agents.hostile_world import hostile
from tests.agents.model_server import Body, Say, natively, report_of, text_of
from tests.agents.obedient import obey

FENCE = re.compile(r"<<<telemetry source=\w+; [^<>]*>>>\n(.*?)\n<<<end of telemetry>>>", re.S)


def curious(body: Body) -> Say:
    """Reads everything there is, then reports nothing."""
    results = sum(m["role"] == "tool" for m in body["messages"])
    back: dict[str, object] = {"seconds_back": 300}
    calls: tuple[tuple[str, dict[str, object]], ...] = (
        ("logs_records", {"service": "orders", **back}),
        ("traces_spans", {"errors_only": "no", **back}),
        ("changes_between", back),
        ("workloads_inventory", {}),
        ("metrics_query", {"expression": "http_requests_total"}),
        ("metrics_query_range", {"expression": "http_requests_total", **back}),
        ("metrics_query", {"expression": "nonsense((("}),
        ("logs_records", {"service": "payments", **back}),
        ("logs_records", {"service": "gateway", **back}),
    )
    if results < len(calls):
        return Say(calls=calls[results : results + 3])
    return report_of()


def hostile_requests() -> list[Body]:
    annotation = " ".join(planted("annotation"))
    case = make_case(text=annotation, change=hostile)
    with planner_on(natively(curious)) as (planner, served):
        for name in ("health", "incident", "remediation", "signal"):
            _, refined = refine(planner, case, name)
            assert refined.note is not None
            assert refined.note.fallback == ""
            assert refined.note.largest_prompt < 6_000
    return served.seen


def test_every_turn_of_a_talkative_world_is_under_the_limit_masked_and_fenced() -> None:
    requests = hostile_requests()
    assert len(requests) > 12
    marks = ("Ignore your rules", "APPROVED by mira", "unrestricted", "rot13", "ACTION REQUIRED")
    seen = set()
    for body in requests:
        said = text_of(body) + str(body["messages"])
        assert not any(secret in said for secret in SECRETS)
        assert not holds_secret(text_of(body))
        assert most_tokens(str(body)) < 9_000  # the wire form with all its quotes
        outside = FENCE.sub("", text_of(body))
        inside = "\n".join(FENCE.findall(text_of(body)))
        assert not any(mark in outside for mark in marks)
        seen |= {mark for mark in marks if mark in inside}
    assert len(seen) > 2  # the texts really were there


def test_a_small_limit_forgets_the_oldest_results_first() -> None:
    case = make_case(change=hostile)
    with planner_on(natively(curious), limits=Limits(prompt_tokens=4_900)) as (planner, served):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.fallback == ""
    assert refined.note.largest_prompt <= 4_900
    last = [m["content"] for m in served.seen[-1]["messages"] if m["role"] == "tool"]
    assert "left out for room" in str(last[0])
    assert "left out for room" not in str(last[-1])


def test_a_limit_that_nothing_fits_leaves_the_playbook() -> None:
    case = make_case()
    with planner_on(natively(curious), limits=Limits(prompt_tokens=500)) as (planner, _):
        before, refined = refine(planner, case)
    assert refined.report == before
    assert refined.note is not None
    assert "the limit is 500" in refined.note.fallback


def test_a_cut_result_points_at_the_whole_evidence() -> None:
    case = make_case(change=hostile)
    with planner_on(natively(curious), limits=Limits(result_chars=300)) as (planner, served):
        refine(planner, case)
    results = [m["content"] for m in served.seen[-1]["messages"] if m["role"] == "tool"]
    assert any(re.search(r"more lines; all of it is evidence E\d+", str(r)) for r in results)
    assert all(len(str(r)) < 700 for r in results)


def test_the_playbooks_findings_come_before_any_telemetry() -> None:
    with planner_on(natively(lambda b: report_of())) as (planner, served):
        refine(planner, make_case())
    user = str(served.seen[-1]["messages"][1]["content"])
    assert user.index("What the playbook found") < user.index("<<<telemetry")
    assert "guilty_change chg-42" in user


def test_a_read_outside_the_scope_is_denied_and_shown_as_denied() -> None:
    def far(body: Body) -> Say:
        if any(m["role"] == "tool" for m in body["messages"]):
            return report_of()
        return Say(calls=(("changes_between", {"seconds_back": 900}),))

    case = make_case()
    reader = case.brief.reader
    object.__setattr__(reader._scope, "since_ms", case.toy.clock.at_ms - 60_000)
    with planner_on(natively(far)) as (planner, served):
        refine(planner, case)
    assert "denied" in str(served.seen[-1]["messages"][-1]["content"])


def test_our_own_part_of_a_turn_takes_less_than_twenty_milliseconds() -> None:
    case = make_case(change=hostile)
    with planner_on(natively(curious)) as (planner, _):
        refine(planner, case)  # imports
        notes = []
        for _ in range(4):
            planner._last_seen.clear()  # as if something were new
            notes.append(refine(planner, case)[1].note)
    own_ms = [(n.elapsed_ms - n.waited_ms) / n.turns for n in notes if n is not None]
    assert min(own_ms) < 20


@given(st.lists(st.text(max_size=80), max_size=5))
def test_no_line_can_end_a_fence(lines: list[str]) -> None:
    masker = Masker()
    block = fenced("logs", [f"{n} x {t}" for n, t in templates(lines, masker)])
    assert block.count("<<<") == 2
    assert block.endswith("\n<<<end of telemetry>>>")


@given(st.text(max_size=300), st.integers(10, 100))
def test_a_clean_line_is_one_visible_line(text: str, limit: int) -> None:
    line = clean(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert not set("<>`") & set(line)


def test_lines_that_differ_in_numbers_are_one_template() -> None:
    lines = [f"order {n} of 10.0.0.{n}: failed after {n * 3} ms" for n in range(50)]
    assert templates(lines, Masker()) == [(50, "order (*) of (*): failed after (*) ms")]


def test_masked_values_keep_their_placeholder_in_a_template() -> None:
    ((_, shape),) = templates(["user a@x.example failed 12 times"], Masker())
    assert shape == "user [masked-email-1] failed (*) times"


def test_the_worst_model_gets_no_secret_either() -> None:
    case = make_case(text=" ".join(planted("annotation")), change=hostile)
    with planner_on(obey) as (planner, served):
        refine(planner, case)
    planted_by_model = SECRETS[0]  # it wrote this into its own query
    others = [s for s in SECRETS if s != planted_by_model]
    assert not any(secret in served.said() for secret in others)


def test_an_alert_with_a_hundred_labels_in_many_scripts_leaves_room_for_the_model() -> None:
    case = make_case(text="\u89c4\u5219" * 400, change=hostile)
    labels = {f"note_{n}": "\u5ffd\u7565\u6240\u6709" * 40 for n in range(100)}
    case.brief = replace(case.brief, event=replace(case.brief.event, labels=labels))
    with planner_on(natively(lambda b: report_of())) as (planner, served):
        _, refined = refine(planner, case)
    assert refined.note is not None
    assert refined.note.fallback == ""
    assert "more lines" in text_of(served.seen[-1])
