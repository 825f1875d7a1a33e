"""`loop4 handle`: one event, once; a request is asked by whoever holds the token."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import pytest

from loop4.lab.folder import make_operations
from tests.cli.conftest import Desk


def event(**changes: object) -> dict[str, object]:
    return {
        "event_id": "check-1",
        "kind": "alert",
        "service": "orders",
        "environment": "lab",
        "at_ms": time.time_ns() // 1_000_000,
        **changes,
    }


def request(**changes: object) -> dict[str, object]:
    wanted = {
        "tool": "deployments.deploy",
        "target": "orders",
        "arguments": {"service": "orders", "digest": "0" * 64, "weight_bp": 1000},
    }
    return event(kind="request", event_id="ask-1", request=wanted, **changes)


def test_an_event_starts_a_run_then_feeds_it_then_is_a_duplicate(watched: Desk) -> None:
    first = watched.write("1.json", event())
    second = watched.write("2.json", event(event_id="check-2", service="gateway"))
    started = watched.json("handle", first)
    assert (started["started"], started["duplicate"]) == (True, False)
    fed = watched.json("handle", second)
    assert (fed["started"], fed["incident"]) == (False, started["incident"])
    head = watched.head()
    assert watched.json("handle", first)["duplicate"] is True
    assert watched.head() == head
    _, out, _ = watched.say("handle", first)
    assert out == "check-1 was accepted before; nothing changed\n"


def test_an_event_may_come_on_standard_input_with_a_byte_order_mark(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"\xef\xbb\xbf" + json.dumps(event()).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert watched.json("handle", "-")["started"] is True


def test_a_requests_requester_is_the_person_of_the_token(
    watched: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = make_operations(tmp_path / "ours")
    monkeypatch.setenv("LOOP4_TOKEN", copy.token)
    file = watched.write("r.json", request())
    watched.json("handle", file, "--operations", copy.root)
    (decision,) = watched.records("decision")
    assert decision.body["requester"] == copy.person
    assert decision.body["effect"] == "deny"


def test_nobody_asks_without_a_token(watched: Desk) -> None:
    watched.json("handle", watched.write("r.json", request()))
    (decision,) = watched.records("decision")
    assert decision.body["effect"] == "deny"
    assert decision.body["requester"] not in ("mira", "dana")


def test_a_token_of_nobody_is_refused(watched: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP4_TOKEN", "not a token of anybody")
    code, err = watched.refused("handle", watched.write("r.json", request()))
    assert code == 1
    assert "belongs to nobody" in err


def test_telemetry_that_cannot_be_sent_is_one_line_and_stops_nothing(
    watched: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    code, out, err = watched.say("handle", watched.write("1.json", event()))
    assert code == 0
    assert "went as far as it can now" in out
    assert err == "loop4: traces not exported: protocol 'grpc', expected 'http/protobuf'\n"
    assert all(len(r.trace_id) == 32 for r in watched.records("triage"))
