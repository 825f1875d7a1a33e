from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop4.domain import EventKind, Json
from loop4.errors import InputError
from loop4.tools.alerts import DEEPEST, LARGEST_BYTES, LONGEST_TEXT, alert_events


class Alert(TypedDict):
    status: str
    labels: dict[str, Json]
    annotations: dict[str, Json]
    startsAt: str
    endsAt: str
    generatorURL: str
    fingerprint: str


def firing() -> Alert:
    return {
        "status": "firing",
        "labels": {
            "alertname": "ErrorBudgetBurn",
            "service": "orders",
            "environment": "production",
            "severity": "page",
        },
        "annotations": {"summary": "orders burns its budget", "runbook_url": "https://x.example"},
        "startsAt": "2026-11-25T10:00:05.5Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "c0ffee0000000001",
    }


def resolved() -> Alert:
    return {
        **firing(),
        "status": "resolved",
        "labels": {"alertname": "InstanceDown", "job": "payments"},
        "annotations": {},
        "startsAt": "2026-11-25T09:00:00Z",
        "endsAt": "2026-11-25T10:00:00Z",
        "fingerprint": "c0ffee0000000002",
    }


def webhook(*alerts: Alert) -> bytes:
    return json.dumps(
        {
            "receiver": "loop4",
            "status": "firing",
            "alerts": alerts,
            "groupLabels": {"alertname": "ErrorBudgetBurn"},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example",
            "version": "4",
            "groupKey": '{}:{alertname="ErrorBudgetBurn"}',
            "truncatedAlerts": 0,
        }
    ).encode()


def test_a_group_of_a_firing_and_a_resolved_alert_gives_two_events_oldest_first() -> None:
    first, second = alert_events(webhook(firing(), resolved()), environment="lab")
    assert first.resolved
    assert first.event_id == "alertmanager:c0ffee0000000002:2026-11-25T09:00:00Z:resolved"
    assert (first.service, first.environment) == ("payments", "lab")
    assert first.at_ms == int(datetime(2026, 11, 25, 10, tzinfo=UTC).timestamp() * 1000)
    assert not second.resolved
    assert second.event_id == "alertmanager:c0ffee0000000001:2026-11-25T10:00:05.5Z"
    assert second.kind is EventKind.ALERT
    assert second.source == "alertmanager"
    assert second.correlation == "production/orders"
    assert second.at_ms == first.at_ms + 5500
    assert second.labels == firing()["labels"]
    assert second.text == "orders burns its budget"
    assert second.request is None
    assert second.requester == ""


def test_a_body_that_a_real_alertmanager_sent_is_read() -> None:
    """Alertmanager 0.25: one of two grouped alerts has resolved, the other still fires."""
    orders, payments = alert_events(Path(__file__).with_name("alertmanager_v4.json").read_bytes())
    assert orders.event_id == "alertmanager:cbe6a2bf0df437c4:2026-11-25T02:58:34.123Z"
    assert (orders.correlation, orders.resolved) == ("lab/orders", False)
    assert payments.event_id.endswith(":2026-11-25T02:58:34.123Z:resolved")
    assert payments.at_ms - orders.at_ms == 55_000
    assert payments.text == "payments burns its budget\n60s and 10s windows above 4x"


def test_a_second_delivery_has_the_same_ids_and_a_repeated_alert_is_one_event() -> None:
    body = webhook(firing(), firing(), resolved())
    assert len(alert_events(body)) == 2
    assert alert_events(body) == alert_events(body)


def test_an_alert_that_fires_again_later_is_another_event() -> None:
    again: Alert = {**firing(), "startsAt": "2026-11-25T11:00:00Z"}
    assert len({event.event_id for event in alert_events(webhook(firing(), again))}) == 2


@given(hours=st.integers(-12, 12))
def test_the_id_does_not_depend_on_the_senders_time_zone(hours: int) -> None:
    moment = datetime(2026, 11, 25, 10, 0, 5, 500_000, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
    (event,) = alert_events(webhook({**firing(), "startsAt": there}))
    assert event.event_id == "alertmanager:c0ffee0000000001:2026-11-25T10:00:05.5Z"


def test_text_from_outside_is_cut_to_a_fixed_length() -> None:
    (event,) = alert_events(webhook({**firing(), "annotations": {"description": "x" * 60_000}}))
    assert len(event.text) == LONGEST_TEXT


def without(field: str) -> bytes:
    return webhook(firing()).replace(f'"{field}"'.encode(), b'"other"', 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"status=firing", "not JSON"),
        (webhook(firing())[:-9], "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "version: is missing"),
        (webhook(firing()).replace(b'"version": "4"', b'"version": "3"'), "version"),
        (webhook(firing()).replace(b'"alerts"', b'"alarms"'), "alerts: is missing"),
        (without("fingerprint"), "alerts[0].fingerprint: is missing"),
        (without("startsAt"), "alerts[0].startsAt: is missing"),
        (without("labels"), "alerts[0].labels: is missing"),
        (webhook({**firing(), "labels": {"service": "x"}}), "no alertname"),
        (webhook({**firing(), "labels": {"alertname": 7}}), "alerts[0].labels.alertname"),
        (webhook({**firing(), "status": "sleeping"}), "alerts[0].status"),
        (webhook({**firing(), "startsAt": "yesterday"}), "alerts[0].startsAt"),
        (webhook({**firing(), "startsAt": "2026-11-25T10:00:00"}), "alerts[0].startsAt"),
        (webhook({**firing(), "fingerprint": "../../etc"}), "alerts[0].fingerprint"),
        (webhook({**resolved(), "endsAt": "0001-01-01T00:00:00Z"}), "alerts[0].endsAt"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * (DEEPEST + 1), "nested deeper"),
        (b" " * (LARGEST_BYTES + 1), "expected at most"),
        (webhook(*[firing()] * 1001), "1001 alerts"),
    ],
)
def test_what_is_no_webhook_is_refused_in_one_line(body: bytes, said: str) -> None:
    with pytest.raises(InputError) as refused:
        alert_events(body, name="hook.json")
    assert said in str(refused.value)
    assert str(refused.value).startswith("hook.json:")
    assert "\n" not in str(refused.value)


def test_brackets_inside_text_are_not_depth() -> None:
    alert: Alert = {**firing(), "annotations": {"summary": '[[{"\\' * 50}}
    assert len(alert_events(webhook(alert))) == 1


@given(body=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_input_error(body: bytes) -> None:
    with pytest.raises(InputError):
        alert_events(body)
