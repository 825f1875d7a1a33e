"""A small Prometheus of ours over HTTP, for commands that are given a URL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from loop4.errors import QueryError
from loop4.tools.backends.prometheus_json import (
    error_json,
    instant_json,
    parse_step,
    parse_time,
    range_json,
)
from loop4.tools.backends.series import SeriesStore


def application(store: SeriesStore) -> Starlette:
    """The query API over a store that stands still: later than its newest sample is its newest
    sample, so that a slow machine sees the same.
    """

    async def query(request: Request) -> JSONResponse:
        given = await _parameters(request)
        at_ms = min(parse_time(given["time"]), store.newest_ms)
        try:
            return JSONResponse(instant_json(given["query"], store, at_ms))
        except QueryError as error:
            status, body = error_json(error)
            return JSONResponse(body, status)

    async def query_range(request: Request) -> JSONResponse:
        given = await _parameters(request)
        late_ms = max(0, parse_time(given["end"]) - store.newest_ms)
        start_ms, end_ms = (parse_time(given[k]) - late_ms for k in ("start", "end"))
        body = range_json(given["query"], store, start_ms, end_ms, parse_step(given["step"]))
        return JSONResponse(body)

    return Starlette(
        routes=[
            Route("/api/v1/query", query, methods=["GET", "POST"]),
            Route("/api/v1/query_range", query_range, methods=["GET", "POST"]),
        ]
    )


async def _parameters(request: Request) -> dict[str, str]:
    given = dict(request.query_params)
    if request.method == "POST":
        given |= {k: str(v) for k, v in (await request.form()).items()}
    return given


@contextmanager
def served(store: SeriesStore) -> Iterator[str]:
    """The base URL of a running server; it ends with the block."""
    config = uvicorn.Config(
        application(store), host="127.0.0.1", port=0, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
