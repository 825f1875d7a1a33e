"""Where errors begin, in traces written down by hand and in random ones."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.tools.analysis.diagnosis.origin import Origin, calls_fail_since, error_origins
from loop4.tools.backends.ports import Span

CHAIN = ("gateway", "orders", "payments", "ledger")


def span(
    trace: str,
    name: str,
    parent: str,
    service: str,
    kind: str,
    *,
    peer: str = "",
    failed: bool = True,
    version: str = "v1",
) -> Span:
    return Span(
        trace,
        name,
        parent,
        f"{kind} {service}",
        service,
        version,
        f"{service}-1",
        kind,
        peer,
        1_000,
        5,
        failed,
        500 if failed else 200,
    )


def chain(trace: str, *, depth: int, begins: int, external: str = "") -> list[Span]:
    """A call through `depth` services. It fails in service number `begins` and in all above it."""
    spans = []
    for i, service in enumerate(CHAIN[:depth]):
        failed = i <= begins
        parent = f"c{i - 1}" if i else ""
        spans.append(span(trace, f"s{i}", parent, service, "server", failed=failed))
        if i + 1 < depth:
            called = span(
                trace,
                f"c{i}",
                f"s{i}",
                service,
                "client",
                peer=CHAIN[i + 1],
                failed=failed and i < begins,
            )
            spans.append(called)
    if external:
        spans.append(
            span(trace, "x", f"s{begins}", CHAIN[begins], "client", peer=external, failed=True)
        )
    return spans


def test_a_failure_begins_in_the_deepest_failing_service() -> None:
    spans = [
        span("t1", "s1", "", "gateway", "server"),
        span("t1", "c1", "s1", "gateway", "client", peer="orders"),
        span("t1", "s2", "c1", "orders", "server", version="v2"),
    ]
    assert error_origins(spans, ["bank"]) == (Origin("orders", "v2", "orders-1", "", 1),)


@given(depth=st.integers(1, 4), data=st.data())
def test_whatever_fails_above_the_deepest_failing_service_is_not_blamed(
    depth: int, data: st.DataObject
) -> None:
    begins = data.draw(st.integers(0, depth - 1))
    (found,) = error_origins(chain("t1", depth=depth, begins=begins), ["bank"])
    assert (found.service, found.traces) == (CHAIN[begins], 1)


def test_a_failed_call_to_an_external_dependency_names_caller_and_dependency() -> None:
    spans = chain("t1", depth=3, begins=2, external="bank")
    assert error_origins(spans, ["bank"]) == (Origin("payments", "v1", "payments-1", "bank", 1),)


def test_the_same_call_to_something_of_ours_that_nobody_answered_names_the_callee() -> None:
    spans = chain("t1", depth=3, begins=2, external="ledger")
    assert error_origins(spans, ["bank"]) == (Origin("ledger", "", "", "", 1),)


def test_a_call_that_was_answered_is_never_an_origin() -> None:
    spans = chain("t1", depth=2, begins=1)
    assert [o.service for o in error_origins(spans, [])] == ["orders"]


def test_a_service_that_fails_although_its_calls_went_well_is_the_origin() -> None:
    spans = chain("t1", depth=3, begins=0)
    assert [o.service for o in error_origins(spans, ["bank"])] == ["gateway"]


def test_a_trace_that_tried_the_same_call_again_counts_once() -> None:
    spans = [
        span("t1", "s1", "", "payments", "server"),
        span("t1", "c1", "s1", "payments", "client", peer="bank"),
        span("t1", "c2", "s1", "payments", "client", peer="bank"),
        span("t1", "c3", "s1", "payments", "client", peer="bank"),
    ]
    assert [(o.external, o.traces) for o in error_origins(spans, ["bank"])] == [("bank", 1)]


def test_a_trace_that_fails_at_two_places_counts_once_at_each() -> None:
    spans = [
        span("t1", "s1", "", "gateway", "server"),
        span("t1", "c1", "s1", "gateway", "client", peer="orders"),
        span("t1", "s2", "c1", "orders", "server"),
        span("t1", "c2", "s1", "gateway", "client", peer="payments"),
        span("t1", "s3", "c2", "payments", "server"),
    ]
    found = error_origins(spans, ["bank"])
    assert [(o.service, o.traces) for o in found] == [("orders", 1), ("payments", 1)]


def test_traces_with_the_same_span_ids_are_kept_apart() -> None:
    answered = chain("t1", depth=2, begins=1)
    unanswered = [s for s in chain("t2", depth=2, begins=1) if s.service != "orders"]
    found = error_origins([*answered, *unanswered], [])
    assert {(o.service, o.instance, o.traces) for o in found} == {
        ("orders", "orders-1", 1),
        ("orders", "", 1),
    }


def test_traces_without_an_error_have_no_origin() -> None:
    well = [span("t1", "s1", "", "gateway", "server", failed=False)]
    assert error_origins(well, ["bank"]) == ()
    assert error_origins([], ["bank"]) == ()


def test_the_place_with_most_traces_comes_first_and_names_break_ties() -> None:
    spans = [
        *chain("t1", depth=3, begins=2),
        *chain("t2", depth=3, begins=1),
        *chain("t3", depth=3, begins=1),
        *chain("t4", depth=3, begins=0),
    ]
    found = error_origins(spans, [])
    assert [(o.service, o.traces) for o in found] == [
        ("orders", 2),
        ("gateway", 1),
        ("payments", 1),
    ]


def calls_at(*times_ms: int, peer: str = "bank", failed: bool = True) -> list[Span]:
    return [
        replace(span(f"t{t}", "c", "", "payments", "client", peer=peer, failed=failed), start_ms=t)
        for t in times_ms
    ]


def test_calls_fail_since_half_of_the_failed_ones_had_begun() -> None:
    spans = [*calls_at(100, 9_000, 9_100, 9_200, 9_300), *calls_at(5_000, failed=False)]
    assert calls_fail_since(spans, ["bank"]) == {"bank": 9_100}
    assert calls_fail_since(spans, []) == {}


def test_calls_to_a_service_of_ours_say_nothing_of_a_dependency() -> None:
    assert calls_fail_since(calls_at(100, peer="orders"), ["bank"]) == {}


@pytest.mark.parametrize("externals", [[], ["bank"]])
@given(
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans()), max_size=12),
    rng=st.randoms(use_true_random=False),
)
def test_every_failing_trace_is_counted_once_in_whatever_order_spans_arrive(
    externals: list[str], shapes: list[tuple[int, int, bool]], rng: Random
) -> None:
    spans = []
    for number, (depth, begins, to_bank) in enumerate(shapes):
        external = "bank" if to_bank else ""
        spans += chain(f"t{number}", depth=depth, begins=min(begins, depth - 1), external=external)
    found = error_origins(spans, externals)
    assert sum(o.traces for o in found) == len(shapes)
    shuffled = list(spans)
    rng.shuffle(shuffled)
    assert error_origins(shuffled, externals) == found
