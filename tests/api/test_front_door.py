from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from loop4.domain import Json
from loop4.ledger import events, evidence, runs
from loop4.policies.people import People, Person, render, token_digest
from tests.api.conftest import Door
from tests.graphs.conftest import run

EVENTS = "/v1/events/alertmanager"
ALERT = json.loads((Path(__file__).parents[1] / "tools" / "alertmanager_v4.json").read_text())


def webhook(count: int = 1, *, same: bool = False, service: str = "orders") -> dict[str, Json]:
    alerts = [
        {
            **ALERT["alerts"][0],
            "status": "firing",
            "endsAt": "0001-01-01T00:00:00Z",
            "labels": {"alertname": "TooManyErrors", "service": service},
            "fingerprint": f"{0 if same else n:016x}",
        }
        for n in range(count)
    ]
    return {**ALERT, "status": "firing", "alerts": alerts}


def vote_path(approval_id: str) -> str:
    return f"/v1/approvals/{approval_id}/votes"


async def asked(door: Door) -> str:
    """Up to a question that waits for a person."""
    assert door.play is not None
    door.stage.bad_deploy()
    return (await door.play.asked()).approval.approval_id


def test_an_alert_is_accepted_once_however_often_it_is_delivered(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            first = await open_door.post(EVENTS, webhook())
            again = await open_door.post(EVENTS, webhook())
            assert (first.status_code, first.json()) == (202, {"events": 1, "accepted": 1})
            assert (again.status_code, again.json()) == (200, {"events": 1, "accepted": 0})
            assert door.play is not None
            with door.play.ledger.read() as tx:
                (event,) = events.unassigned(tx)
            assert event.environment == "lab", "from the catalogue"

    run(play())


def test_ten_thousand_duplicates_are_one_event_in_bounded_time_and_memory(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            body = json.dumps(webhook(1000, same=True)).encode()
            await open_door.post(EVENTS, body)
            tracemalloc.start()
            began = time.monotonic()
            for _ in range(10):
                answer = await open_door.post(EVENTS, body)
                assert answer.json() == {"events": 1, "accepted": 0}
            for _ in range(200):
                assert (await open_door.post(EVENTS, webhook(1, same=True))).status_code == 200
            took_s = time.monotonic() - began
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert door.play is not None
            with door.play.ledger.read() as tx:
                assert len(events.unassigned(tx)) == 1
            assert peak < 64 * 1024 * 1024
            assert took_s < 60

    run(play())


NAMELESS = {**ALERT["alerts"][0], "labels": {}}
HOSTILE: Mapping[str, tuple[bytes, int]] = {
    "deep": (b"[" * 100_000 + b"]" * 100_000, 400),
    "deep object": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400),
    "huge": (b'{"x": "' + b"a" * (1 << 20) + b'"}', 413),
    "no JSON": (b"alert!", 400),
    "not UTF-8": (b'{"version": "\xff"}', 400),
    "a list": (b"[]", 400),
    "wrong types": (b'{"version": 4, "groupKey": [], "status": 1, "alerts": {}}', 400),
    "a number that is none": (b'{"version": NaN}', 400),
    "empty": (b"", 400),
    "control characters": (b'{"version": "4\\u001b[2J", "groupKey": ""}', 400),
    "no alert name": (
        json.dumps({**ALERT, "alerts": [{**ALERT["alerts"][0], "labels": {}}]}).encode(),
        400,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_webhook_is_refused_in_one_line_and_leaves_nothing(door: Door, name: str) -> None:
    body, status = HOSTILE[name]

    async def play() -> None:
        async with door.opened() as open_door:
            answer = await open_door.post(EVENTS, body)
            assert answer.status_code == status, answer.text
            detail = answer.json()["detail"]
            assert detail
            assert detail.isprintable()
            assert len(detail) < 500
            assert door.play is not None
            with door.play.ledger.read() as tx:
                assert events.unassigned(tx) == ()

    run(play())


def test_who_holds_no_token_gets_nowhere(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            for token in ("", "wrong", "x" * 10_000, door.token + " "):
                for path in ("/v1/approvals", "/metrics"):
                    answer = await open_door.get(path, token.strip() + "?")
                    assert answer.status_code == 401
                refused = await open_door.post(EVENTS, b"{}", token.strip() + "?")
                assert refused.status_code == 401
            assert (await open_door.post(EVENTS, b"{}", "")).status_code == 401
            assert (await open_door.post(EVENTS, webhook(), door.token)).status_code == 403
            voted = await open_door.post(vote_path("x"), {"decision": "approve"}, door.machine)
            assert (voted.status_code, voted.json()["detail"]) == (403, "only a person may vote")
            assert open_door.http is not None
            assert (await open_door.http.get("/healthz")).json() == {"status": "ok"}

    run(play())


def test_an_expired_or_withdrawn_token_is_worth_nothing_at_the_next_request(door: Door) -> None:
    path = door.stage.operations / "policies" / "people.yaml"

    async def play() -> None:
        async with door.opened() as open_door:
            assert (await open_door.get("/v1/approvals", door.token)).status_code == 200
            now_ms = door.stage.toy.clock.now_ms()
            late = Person(door.person, ("on-call",), token_digest(door.token), now_ms + 1000)
            path.write_text(render([late]), encoding="utf-8")
            assert People.load(path).persons == (late,)
            assert (await open_door.get("/v1/approvals", door.token)).status_code == 200
            door.stage.toy.run(1)
            expired = await open_door.get("/v1/approvals", door.token)
            assert expired.status_code == 401
            assert "expired" in expired.json()["detail"]
            path.write_text("people: [", encoding="utf-8")
            broken = await open_door.get("/v1/approvals", door.token)
            assert broken.status_code == 503
            assert "people.yaml" in broken.json()["detail"]

    run(play())


def test_a_person_votes_over_http_and_the_body_never_says_who(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            approval_id = await asked(door)
            shown = (await open_door.get("/v1/approvals", door.token)).json()["approvals"]
            assert [a["approval_id"] for a in shown] == [approval_id]
            claimed = {"decision": "approve", "person": "jonas"}
            assert (
                await open_door.post(vote_path(approval_id), claimed, door.token)
            ).status_code == 422
            answer = await open_door.post(
                vote_path(approval_id), {"decision": "approve"}, door.token
            )
            assert answer.status_code == 200
            assert (answer.json()["person"], answer.json()["state"]) == ("mira", "approved")
            assert door.play is not None
            await door.play.resolved()
            assert door.stage.toy.effects == ["roll_back orders 41"]

    run(play())


@pytest.mark.parametrize(
    "body",
    [
        {"decision": {"approve": True}},
        {"decision": True},
        {"decision": "yes"},
        {"approve": True},
        {},
        [],
        "approve",
        {"decision": ["approve"]},
        b"",
        b"[" * 5000,
        b"{" * 500,
        b'{"decision": "approve"',
    ],
)
def test_a_truthy_answer_is_no_vote(door: Door, body: bytes | Json) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            approval_id = await asked(door)
            answer = await open_door.post(vote_path(approval_id), body, door.token)
            assert answer.status_code in (413, 422), answer.text
            assert answer.json()["detail"].isprintable()
            assert door.play is not None
            assert [r.approval.votes for r in door.play.pending()] == [()]

    run(play())


def test_unknown_double_and_late_votes_are_refused_with_their_reason(door: Door) -> None:
    async def play() -> None:
        yes, no = {"decision": "approve"}, {"decision": "reject"}
        async with door.opened() as open_door:
            approval_id = await asked(door)
            unknown = await open_door.post(vote_path("apr-nothing"), yes, door.token)
            assert unknown.status_code == 404
            assert (await open_door.post(vote_path(approval_id), no, door.token)).status_code == 200
            late = await open_door.post(vote_path(approval_id), yes, door.token)
            assert late.status_code == 409
            assert "rejected" in late.json()["detail"]
            assert door.play is not None
            votes = door.play.records("vote")
            assert [(v.body["accepted"]) for v in votes] == [False, True, False]
            for _ in range(30):
                await door.play.second()
            assert door.stage.toy.effects == []

    run(play())


def test_metrics_tell_what_waits_and_what_was_decided(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            await asked(door)
            first = (await open_door.get("/metrics", door.machine)).text
            again = (await open_door.get("/metrics", door.machine)).text
            assert "loop4_approvals_waiting 1" in first
            assert "loop4_intents_unknown 0" in first
            assert 'loop4_runs_live{state="waiting_approval"} 1' in first
            needle = 'loop4_decisions_total{effect="require_approval",rule="wide-blast-radius"} 1'
            assert needle in first
            assert needle in again, "counted once, however often it is scraped"
            assert door.play is not None
            with door.play.ledger.read() as tx:
                decided = len(evidence.list_records(tx, kinds=("decision",)))
                assert len(runs.list_open(tx)) == 1
            counted = [
                int(line.rsplit(" ", 1)[1])
                for line in again.splitlines()
                if line.startswith("loop4_decisions_total{")
            ]
            assert sum(counted) == decided

    run(play())
