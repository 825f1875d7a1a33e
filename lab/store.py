"""The telemetry store: scrapes, probes, takes OTLP, answers the Prometheus query API and reads.

In memory; it forgets with the lab. Reading needs the read token, writing the internal one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from loop4.domain import Clock, Json
from loop4.errors import InputError, QueryError
from loop4.lab.clock import WallClock
from loop4.lab.otlp import SEVERITY_NUMBERS
from loop4.lab.processes import follow_parent, inherited_socket
from loop4.lab.scraper import Scraper
from loop4.lab.serving import holds, serve
from loop4.lab.telemetry_store import TelemetryStore
from loop4.lab.wire import HttpClient
from loop4.lab.wiring import Tokens, read_wiring
from loop4.tools.backends.prometheus_json import (
    error_json,
    instant_json,
    parse_step,
    parse_time,
    range_json,
)
from loop4.tools.backends.series import SeriesStore, is_stale

RETENTION_MS = 1_800_000
MAX_SPANS = 50_000


def _needs(*tokens: str) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        if not holds(request.headers.get("authorization", ""), *tokens):
            raise HTTPException(401, "a token is needed")

    return check


def application(
    series: SeriesStore, telemetry: TelemetryStore, tokens: Tokens, clock: Clock
) -> FastAPI:
    """The HTTP API."""
    app = FastAPI(openapi_url=None)
    reads = Depends(_needs(tokens.read, tokens.internal))
    inside = Depends(_needs(tokens.internal))

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(QueryError)
    async def bad_query(request: Request, error: Exception) -> Response:
        status, body = error_json(QueryError(str(error)))
        return JSONResponse(body, status)

    @app.api_route("/api/v1/query", methods=["GET", "POST"], dependencies=[reads])
    async def query(request: Request) -> Response:
        given = await _parameters(request)
        at = given.get("time", "")
        at_ms = parse_time(at) if at else clock.now_ms()
        return _answer(instant_json(_required(given, "query"), series, at_ms))

    @app.api_route("/api/v1/query_range", methods=["GET", "POST"], dependencies=[reads])
    async def query_range(request: Request) -> Response:
        given = await _parameters(request)
        start_ms = parse_time(_required(given, "start"))
        end_ms = parse_time(_required(given, "end"))
        step_ms = parse_step(_required(given, "step"))
        return _answer(range_json(_required(given, "query"), series, start_ms, end_ms, step_ms))

    @app.get("/api/traces", dependencies=[reads])
    async def traces(
        start_ms: int, end_ms: int, service: str = "", errors_only: bool = False, limit: int = 1000
    ) -> Response:
        return _answer(
            telemetry.traces(
                start_ms,
                end_ms,
                service=service,
                errors_only=errors_only,
                limit=min(limit, MAX_SPANS),
            )
        )

    @app.get("/api/logs", dependencies=[reads])
    async def logs(
        start_ms: int, end_ms: int, service: str = "", min_severity: str = "", limit: int = 500
    ) -> Response:
        if min_severity and min_severity not in SEVERITY_NUMBERS:
            raise InputError(
                f"min_severity {min_severity!r} is not one of {', '.join(SEVERITY_NUMBERS)}"
            )
        return _answer(
            telemetry.logs(
                start_ms,
                end_ms,
                service=service,
                min_severity=SEVERITY_NUMBERS.get(min_severity, 0),
                limit=min(limit, MAX_SPANS),
            )
        )

    @app.get("/api/samples", dependencies=[reads])
    async def samples(start_ms: int, end_ms: int) -> Response:
        return _answer({"series": _raw(series, start_ms, end_ms)})

    @app.post("/v1/traces", dependencies=[inside])
    async def take_traces(request: Request) -> Response:
        telemetry.add_traces(await _document(request))
        return _answer({"partialSuccess": {}})

    @app.post("/v1/logs", dependencies=[inside])
    async def take_logs(request: Request) -> Response:
        telemetry.add_logs(await _document(request))
        return _answer({"partialSuccess": {}})

    return app


def _answer(body: Json) -> Response:
    return Response(json.dumps(body), media_type="application/json")


async def _document(request: Request) -> Json:
    try:
        document: Json = json.loads(await request.body())
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from error
    return document


async def _parameters(request: Request) -> dict[str, str]:
    """Query parameters, and those of a form body, as Prometheus takes them."""
    given = dict(request.query_params)
    if request.method == "POST":
        given.update(parse_qsl((await request.body()).decode("utf-8", "replace")))
    return given


def _required(given: dict[str, str], name: str) -> str:
    if not given.get(name):
        raise QueryError(f"the parameter {name!r} is missing")
    return given[name]


def _raw(series: SeriesStore, start_ms: int, end_ms: int) -> list[Json]:
    """Raw samples in [start, end); a staleness mark is null."""
    found: list[Json] = []
    for one in series.all_series():
        points: list[Json] = [
            [at_ms, None if is_stale(value) else value]
            for at_ms, value in zip(one.times, one.values, strict=True)
            if start_ms <= at_ms < end_ms
        ]
        if points:
            found.append({"labels": dict(one.labels), "points": points})
    return found


async def run(directory: Path, descriptor: int) -> None:
    """Serve until told to stop."""
    wiring = read_wiring(directory)
    clock = WallClock()
    series, telemetry = SeriesStore(RETENTION_MS), TelemetryStore()
    scraper = Scraper(wiring, HttpClient(), series, clock)
    app = application(series, telemetry, wiring.tokens, clock)
    await serve(app, [inherited_socket(descriptor)], scraper.run(), scraper.probe())


def main() -> None:
    """Entry point of the process."""
    follow_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--serve-fd", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(run(given.directory, given.serve_fd))


if __name__ == "__main__":
    main()
