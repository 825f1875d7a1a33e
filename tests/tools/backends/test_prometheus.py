from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qs

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loop4.domain import Json
from loop4.errors import BackendError, Loop4Error, QueryError, Refused, SettingsError, Unreachable
from loop4.tools.backends.ports import Series
from loop4.tools.backends.prometheus import PrometheusMetrics
from loop4.tools.backends.prometheus_json import (
    error_json,
    instant_json,
    parse_answer,
    parse_step,
    parse_time,
    range_json,
)
from loop4.tools.backends.promql import EmbeddedMetrics, compiled
from loop4.tools.backends.series import SeriesStore

ORIGIN_MS = 1_790_000_000_000


class Server:
    """A server of ours: answers `/api/v1/*` from a store, or as a test tells it."""

    def __init__(self, store: SeriesStore) -> None:
        self.store = store
        self.url = ""
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.answers: list[tuple[int, bytes]] = []
        self.delay_s = 0.0

    async def answer(self, request: Request) -> Response:
        self.requests.append(f"{request.method} {request.url.path}")
        self.tokens += request.headers.getlist("authorization")
        await asyncio.sleep(self.delay_s)
        query = request.url.query or (await request.body()).decode()
        status, body = (
            self.answers.pop(0) if self.answers else self._evaluated(request.url.path, query)
        )
        return Response(body, status)

    def _evaluated(self, path: str, query: str) -> tuple[int, bytes]:
        given = {key: values[0] for key, values in parse_qs(query).items()}
        try:
            if path == "/prefix/api/v1/query":
                found = instant_json(given["query"], self.store, parse_time(given["time"]))
            else:
                found = range_json(
                    given["query"],
                    self.store,
                    parse_time(given["start"]),
                    parse_time(given["end"]),
                    parse_step(given["step"]),
                )
        except QueryError as error:
            status, refused = error_json(error)
            return status, json.dumps(refused).encode()
        return 200, json.dumps(found).encode()


@contextmanager
def serving(application: Server) -> Iterator[None]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    application.url = f"http://127.0.0.1:{listener.getsockname()[1]}/prefix"
    route = Route("/{path:path}", application.answer, methods=["GET", "POST"])
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=[route]), log_level="error", lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def running(store: SeriesStore) -> Iterator[Server]:
    server = Server(store)
    with serving(server):
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.requests, running.tokens, running.answers, running.delay_s = [], [], [], 0.0
    return running


def query(
    url: str, expression: str, *, token: str = "", deadline_s: float = 5.0, most: int = 1_000_000
) -> Sequence[Series]:
    async def ask() -> Sequence[Series]:
        async with PrometheusMetrics(
            url, token=token, deadline_s=deadline_s, largest_bytes=most
        ) as metrics:
            return await metrics.query(expression, ORIGIN_MS + 301_000)

    return asyncio.run(ask())


RATIO = "sum by (service) (rate(http_requests_total[1m]))"


def test_an_instant_query_over_http_is_the_evaluators_own_answer(server: Server) -> None:
    there = query(server.url, RATIO)
    assert there == compiled(RATIO).instant(server.store, ORIGIN_MS + 301_000)
    assert len(there) == 3
    assert server.requests == ["GET /prefix/api/v1/query"]
    assert server.tokens == []


def test_a_range_query_over_http_is_the_evaluators_own_answer(server: Server) -> None:
    async def ask() -> tuple[Sequence[Series], Sequence[Series]]:
        window = (ORIGIN_MS + 60_000, ORIGIN_MS + 120_000, 15_000)
        async with PrometheusMetrics(server.url) as metrics:
            there = await metrics.query_range(RATIO, *window)
        return there, await EmbeddedMetrics(server.store).query_range(RATIO, *window)

    there, here = asyncio.run(ask())
    assert list(there) == list(here)
    assert len(there[0].points) == 5


def test_numbers_that_are_none_and_scalars_survive_the_way(server: Server) -> None:
    shown = {s.labels["kind"]: repr(s.points[0][1]) for s in query(server.url, "odd_value")}
    assert shown == {"none": "nan", "huge": "inf", "zero": "0.0"}
    assert query(server.url, "1 + 1") == (Series({}, ((ORIGIN_MS + 301_000, 2.0),)),)
    assert query(server.url, "nothing") == ()


def test_a_token_is_sent_and_a_long_query_goes_by_post(server: Server) -> None:
    long = " + ".join([f'sum(queue_length{{service="{"x" * 40}"}})'] * 60)
    assert query(server.url, long, token="t-1") == ()  # noqa: S106  (made up)
    assert server.requests == ["POST /prefix/api/v1/query"]
    assert server.tokens == ["Bearer t-1"]


def test_a_query_that_the_server_refuses_is_a_query_error_with_its_reason(server: Server) -> None:
    with pytest.raises(QueryError, match="'topk' is not supported"):
        query(server.url, "topk(3, queue_length)")
    server.answers = [(422, b'{"status":"error","errorType":"execution","error":"many-to-many"}')]
    with pytest.raises(QueryError, match="execution: many-to-many"):
        query(server.url, "a / b")
    assert len(server.requests) == 2


def test_a_busy_server_is_asked_again_until_it_answers(server: Server) -> None:
    server.answers = [(503, b""), (429, b"later")]
    assert len(query(server.url, RATIO)) == 3
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_or_silent_is_unreachable_within_the_deadline(
    server: Server,
) -> None:
    server.answers = [(503, b"")] * 1000
    began = time.monotonic()
    with pytest.raises(Unreachable, match="HTTP 503"):
        query(server.url, RATIO, deadline_s=0.5)
    server.answers, server.delay_s = [], 3.0
    with pytest.raises(Unreachable, match=r"no answer") as refused:
        query(server.url, RATIO, deadline_s=0.3)
    assert server.url in str(refused.value)
    assert time.monotonic() - began < 2.5
    server.delay_s = 0.0


def test_nobody_at_the_address_is_unreachable_and_names_it() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unreachable, match=url):
            query(url, "up", deadline_s=0.4)


def test_while_nobody_listens_a_query_is_tried_once_until_one_is_answered(server: Server) -> None:
    """An incident reads dozens: they must not wait for the deadline of each."""

    async def ask() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            async with PrometheusMetrics(f"http://127.0.0.1:{port}", deadline_s=2.0) as metrics:
                began = time.monotonic()
                with pytest.raises(Unreachable):
                    await metrics.query(RATIO, ORIGIN_MS + 301_000)
                assert time.monotonic() - began > 1.0, "at first it may be starting"
                began = time.monotonic()
                for _ in range(10):
                    with pytest.raises(Unreachable):
                        await metrics.query(RATIO, ORIGIN_MS + 301_000)
                assert time.monotonic() - began < 5.0, "ten tries, not ten deadlines"
                metrics._client.base_url = f"{server.url}/"  # now somebody listens
                assert len(await metrics.query(RATIO, ORIGIN_MS + 301_000)) == 3
                server.answers = [(503, b"")]
                assert len(await metrics.query(RATIO, ORIGIN_MS + 301_000)) == 3, "tried again"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (200, b"<html>hello</html>", BackendError, "expected the base address"),
        (200, b'{"status":"green"}', BackendError, "no status"),
        (200, b'{"status":"success"}', BackendError, "no data"),
        (200, b"[" * 100_000, BackendError, "expected the base address"),
        (404, b"not found", BackendError, "HTTP 404"),
        (302, b"", BackendError, "HTTP 302"),
        (500, b"oops", BackendError, "HTTP 500"),
        (401, b"", Refused, "token"),
        (403, b"", Refused, "token"),
    ],
)
def test_an_answer_that_is_none_of_prometheus_is_one_clear_error(
    server: Server, status: int, body: bytes, kind: type[Loop4Error], said: str
) -> None:
    server.answers = [(status, body)]
    with pytest.raises(kind, match=said) as refused:
        query(server.url, "up")
    assert "\n" not in str(refused.value)
    assert len(server.requests) == 1


def test_an_answer_that_is_too_large_is_not_read_to_the_end(server: Server) -> None:
    with pytest.raises(BackendError, match="larger than 500 bytes"):
        query(server.url, "http_requests_total", most=500)


@pytest.mark.parametrize("url", ["", "prometheus:9090", "ftp://h", "http://", "http://h:x", "/x"])
def test_an_address_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(SettingsError, match="metrics URL"):
        PrometheusMetrics(url)


def test_a_password_in_the_address_never_stands_in_a_message() -> None:
    with pytest.raises(SettingsError) as refused:
        PrometheusMetrics("http://dana:hunter2@h/?x=1")
    assert "hunter2" not in str(refused.value)
    assert PrometheusMetrics("http://dana:hunter2@h/").url == "http://h"


@pytest.mark.parametrize(
    "result",
    [
        "x",
        [1],
        [{"value": [1, "2"]}],
        [{"metric": {}, "value": [1, 2]}],
        [{"metric": {}, "value": ["1", "2"]}],
        [{"metric": {}, "value": [1, "two"]}],
        [{"metric": {}, "values": [[1, "2"]]}],
        [{"metric": {}, "histogram": [1, {}]}],
    ],
)
def test_a_malformed_result_is_an_error_of_the_back_end(result: Json) -> None:
    with pytest.raises(BackendError):
        parse_answer({"status": "success", "data": {"resultType": "vector", "result": result}})


def test_times_and_steps_of_the_api_are_read() -> None:
    assert parse_time("1790000000.137") == 1_790_000_000_137
    assert parse_time("2026-11-25T10:00:00.5Z") == parse_time("2026-11-25T11:00:00.5+01:00")
    assert parse_step("15") == parse_step("15s") == 15_000
    assert parse_step("0.5") == 500
    for wrong in ("", "now", "NaN", "1e400", "2026-11-25T10:00:00"):
        with pytest.raises(QueryError):
            parse_time(wrong)
    for wrong in ("", "0", "-1", "0s", "fast"):
        with pytest.raises(QueryError):
            parse_step(wrong)


def test_a_real_prometheus_answers_instant_and_range_queries(
    prometheus: str, store: SeriesStore
) -> None:
    async def ask() -> None:
        window = (ORIGIN_MS + 100_000, ORIGIN_MS + 400_000, 20_000)
        async with PrometheusMetrics(prometheus) as metrics:
            there = await metrics.query_range(RATIO, *window)
            here = await EmbeddedMetrics(store).query_range(RATIO, *window)
            assert [s.labels for s in sorted(there, key=lambda s: s.labels["service"])] == [
                s.labels for s in here
            ]
            for theirs, ours in zip(
                sorted(there, key=lambda s: s.labels["service"]), here, strict=True
            ):
                assert [p[0] for p in theirs.points] == [p[0] for p in ours.points]
                assert [p[1] for p in theirs.points] == pytest.approx([p[1] for p in ours.points])
            with pytest.raises(QueryError, match="bad_data"):
                await metrics.query("sum(", ORIGIN_MS)
            with pytest.raises(QueryError, match="many-to-many"):
                await metrics.query("queue_length / on(service) queue_length", ORIGIN_MS + 60_000)

    asyncio.run(ask())
