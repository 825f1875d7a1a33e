"""Requests that readers could take in two ways, or that no reader should take at all: one line,
a status in the four hundreds, nothing kept, and the next good one is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
import pytest

from loop4.errors import EngineError
from loop4.ledger import events
from tests.api.conftest import Door
from tests.api.test_front_door import EVENTS, asked, vote_path, webhook
from tests.graphs.conftest import run

GOOD = json.dumps(webhook()).encode()
TWICE = GOOD.replace(b'"version": "4"', b'"version": "3", "version": "4"')
AMBIGUOUS: Mapping[str, tuple[bytes, str]] = {
    "a name that stands twice": (TWICE, "'version' stands twice"),
    "a label that stands twice": (
        GOOD.replace(b'"service": "orders"', b'"service": "orders", "service": "payments"'),
        "'service' stands twice",
    ),
    "infinity by its exponent": (GOOD.replace(b'"4"', b"1e999"), "version"),
    "ten thousand digits": (GOOD.replace(b'"4"', b"9" * 10_000), "not JSON"),
    "half a surrogate": (GOOD.replace(b"TooManyErrors", b"\\ud800"), ""),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not UTF-8"),
    "two documents": (GOOD + GOOD, "not JSON"),
    "cut off": (GOOD[:-20], "not JSON"),
    "a date that is none": (GOOD.replace(b"2026-", b"2026-99-"), "startsAt"),
    "status as a list": (GOOD.replace(b'"firing"', b'["firing"]'), "status"),
}


def is_one_line(answer: httpx.Response) -> str:
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert detail
    assert detail.isprintable()
    assert len(detail) < 500
    return detail


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_webhook_that_can_be_read_in_two_ways_is_refused_and_a_good_one_follows(
    door: Door, name: str
) -> None:
    body, said = AMBIGUOUS[name]
    assert body != GOOD

    async def play() -> None:
        async with door.opened() as open_door:
            answer = await open_door.post(EVENTS, body)
            assert answer.status_code == 400, answer.text
            assert said in is_one_line(answer)
            assert door.play is not None
            with door.play.ledger.read() as tx:
                assert events.unassigned(tx) == ()
            assert (await open_door.post(EVENTS, GOOD)).status_code == 202

    run(play())


@pytest.mark.parametrize(
    "kind", ["text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_body_that_is_declared_as_something_else_is_refused(door: Door, kind: str) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            approval_id = await asked(door)
            yes = b'{"decision": "approve"}'
            for path, body, token in (
                (EVENTS, GOOD, door.machine),
                (vote_path(approval_id), yes, door.token),
            ):
                refused = await open_door.post(path, body, token, **{"content-type": kind})
                assert refused.status_code == 415
                assert "expected content-type: application/json" in is_one_line(refused)
            assert door.play is not None
            assert [r.approval.votes for r in door.play.pending()] == [()]
            typed = {"content-type": "Application/JSON; charset=utf-8"}
            taken = await open_door.post(EVENTS, GOOD, door.machine, **typed)
            assert taken.status_code == 202

    run(play())


VOTES = [
    b'{"decision": "reject", "decision": "approve"}',
    b'{"decision": "approve", "decision": "approve"}',
    b'{"\\u0064ecision": "reject", "decision": "approve"}',
    b'{"decision": NaN}',
    b'{"decision": "approve", "n": Infinity}',
    b'{"decision": "appro\xffve"}',
    '{"decision": "approve"}'.encode("utf-16"),
    b'\xef\xbb\xbf{"decision": "approve"}',
    b'{"decision": "approve"} {"decision": "reject"}',
    b'{"decision": "approve\\u0000"}',
    b'{"decision": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    b'{"decision": "' + b"a" * 5000 + b'"}',
]
NO_IDS = ["%00", "a%00b", "%ff%fe", "..%2f..%2fetc", "%1b[2J", "x" * 8000, "'; DROP TABLE intents"]


def test_a_vote_that_can_be_read_in_two_ways_is_no_vote(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            approval_id = await asked(door)
            assert door.play is not None
            for body in VOTES:
                answer = await open_door.post(vote_path(approval_id), body, door.token)
                assert answer.status_code in (413, 422), (body[:60], answer.text)
                is_one_line(answer)
                assert [r.approval.votes for r in door.play.pending()] == [()], body[:60]
            good = await open_door.post(vote_path(approval_id), {"decision": "reject"}, door.token)
            assert (good.status_code, good.json()["state"]) == (200, "rejected")

    run(play())


def test_a_vote_on_an_id_that_is_none_is_unknown_and_one_line(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            approval_id, yes = await asked(door), {"decision": "approve"}
            for nothing in NO_IDS:
                answer = await open_door.post(vote_path(nothing), yes, door.token)
                assert answer.status_code == 404, (nothing[:40], answer.text)
                is_one_line(answer)
            assert door.play is not None
            assert door.play.chain_holds()
            assert max(len(str(r.body)) for r in door.play.records("vote")) < 2000
            good = await open_door.post(vote_path(approval_id), yes, door.token)
            assert good.status_code == 200

    run(play())


def test_a_method_or_a_path_that_is_not_there_is_told_and_no_error_of_ours(door: Door) -> None:
    async def play() -> None:
        async with door.opened() as open_door:
            assert open_door.http is not None
            for method, path, status in (
                ("GET", EVENTS, 405),
                ("DELETE", "/v1/approvals", 405),
                ("POST", "/v1/events/nagios", 404),
                ("GET", "/openapi.json", 404),
            ):
                answer = await open_door.http.request(method, path)
                assert answer.status_code == status, path
                is_one_line(answer)

    run(play())


def test_without_the_engines_database_events_are_kept_and_metrics_say_what_is_wrong(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with door.opened(engine=True) as open_door:
            assert door.service is not None
            engine = door.service.engine
            assert engine is not None

            async def lost(*_: object, **__: object) -> None:
                raise EngineError("engine 'sqlite:///engine.db' does not answer: disk I/O error")

            with monkeypatch.context() as patch:
                patch.setattr(engine, "_ask", lost)
                answer = await open_door.post(EVENTS, GOOD)
                assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
                scraped = await open_door.get("/metrics", door.machine)
                assert scraped.status_code == 503
                assert "does not answer" in is_one_line(scraped)
            assert (await open_door.get("/metrics", door.machine)).status_code == 200
            assert door.service is not None
            assert await door.service.pump() != "0 promised", "the ledger remembers the event"

    run(play())
