"""Our own event files: read strictly, refused in one sentence that names the field."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.canonical import digest
from loop4.domain import Event, EventKind, Json
from loop4.errors import InputError
from loop4.tools.events import MAX_BYTES, read_event

REQUEST: dict[str, Json] = {
    "tool": "workloads.restart",
    "target": "orders-2",
    "arguments": {"instance": "orders-2", "restarted_at_ms": 1},
}


NAMES: list[Json] = ["", 7, None, "a b", "x\ny", "../x", "x" * 129, ["x"], "x\n"]
WRONG: dict[str, list[Json]] = {
    "event_id": NAMES,
    "service": NAMES,
    "environment": NAMES,
    "source": NAMES,
    "at_ms": [-1, 1.5, "1", True, None, 2**60, 1e300],
    "kind": ["", "Alert", "pager", 1, None],
    "resolved": ["yes", 1, None],
    "labels": [[], "x", {"a": 1}, {"a": None}, {"a": {"b": "c"}}, {"a": "\ud800"}, None],
    "text": [1, None, ["x"], "\ud800"],
    "request": [[], "x", {}, REQUEST],
    "requester": ["mira"],
    "unknown": [1],
}


def body(**changes: Json) -> dict[str, Json]:
    return {
        "event_id": "e-1",
        "kind": "alert",
        "service": "orders",
        "environment": "lab",
        "at_ms": 1_790_000_000_000,
        **changes,
    }


def read(**changes: Json) -> Event:
    return read_event(json.dumps(body(**changes)), path="e.json")


def without(name: str) -> str:
    return json.dumps({k: v for k, v in body().items() if k != name})


def said(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_event(text, path="e.json")
    message = str(caught.value)
    assert message.startswith("e.json: ")
    assert "\n" not in message
    return message


def test_an_event_keeps_what_it_says() -> None:
    event = read(labels={"team": "a"}, text="free text", resolved=True, source="pager")
    assert (event.event_id, event.kind, event.service) == ("e-1", EventKind.ALERT, "orders")
    assert (event.labels, event.text, event.resolved) == ({"team": "a"}, "free text", True)
    assert (event.source, event.correlation) == ("pager", "lab/orders")
    assert event.request is None


def test_a_request_is_an_incident_of_its_own_and_nobody_is_its_requester_yet() -> None:
    event = read(kind="request", request=REQUEST)
    assert event.request == REQUEST
    assert event.correlation == "request/lab/orders/e-1"
    assert event.requester == ""


@pytest.mark.parametrize("name", ["event_id", "kind", "service", "environment", "at_ms"])
def test_a_missing_field_is_named(name: str) -> None:
    assert said(without(name)) == f"e.json: {name}: Field required"


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_and_its_field_named(name: str, value: Json) -> None:
    assert said(json.dumps(body(**{name: value}))).startswith(f"e.json: {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tool", "a tool"),
        ("tool", None),
        ("target", ""),
        ("target", "a\nb"),
        ("arguments", []),
        ("arguments", {"replicas": 1.5}),
        ("arguments", {"replicas": None}),
        ("arguments", {"replicas": [1]}),
        ("arguments", {"replicas": 2**53}),
        ("arguments", {"replicas": -(10**30)}),
        ("arguments", {"text": "\udfff"}),
        ("more", 1),
    ],
)
def test_a_wrong_part_of_a_request_is_refused_and_its_place_named(name: str, value: Json) -> None:
    wrong = {**REQUEST, name: value}
    message = said(json.dumps(body(kind="request", request=wrong)))
    assert message.startswith(f"e.json: request.{name}")


def test_a_request_belongs_to_the_kind_request_and_to_no_other() -> None:
    assert said(json.dumps(body(kind="request"))).startswith("e.json: request: ")
    assert said(json.dumps(body(request=REQUEST))).startswith("e.json: request: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        "null",
        "[]",
        '"text"',
        "1",
        "[" * 5000,
        '{"a":' * 5000,
        '{"at_ms": ' + "9" * 5000 + "}",
        '{"labels": ' + "[" * 900 + "]" * 900 + "}",
        json.dumps(body())[:-1],
        json.dumps(body()) + "x",
    ],
)
def test_what_is_no_event_at_all_is_refused(text: str) -> None:
    said(text)


def test_a_key_that_stands_twice_is_refused() -> None:
    text = json.dumps(body())[:-1] + ', "service": "payments"}'
    assert "service" in said(text)


def test_numbers_that_json_does_not_know_are_refused() -> None:
    assert "NaN" in said(json.dumps(body(at_ms=float("nan"))))


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    assert str(MAX_BYTES) in said(json.dumps(body(text="x" * MAX_BYTES)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.sampled_from(["event_id", "kind", "at_ms", "labels", "text", "request", "source", "more"]),
)
def test_any_value_of_any_field_is_an_event_that_can_be_kept_or_an_input_error(
    value: Json, name: str
) -> None:
    text = json.dumps(body(**{name: value}))
    try:
        event = read_event(text, path="e.json")
    except InputError:
        return
    assert digest({"labels": event.labels, "text": event.text, "request": event.request})


@given(st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.text())
def test_a_requests_arguments_can_always_be_digested(value: int | bool | str) -> None:
    wanted = {**REQUEST, "arguments": {"value": value}}
    try:
        event = read(kind="request", request=wanted)
    except InputError:
        return
    assert digest(event.request)
