"""One replica of one service: the generic program behind gateway, orders and payments.

It does a little work, calls the next service through the router (payments calls the bank), counts,
traces and logs. Started by the orchestrator only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

from loop4.lab.clock import WallClock
from loop4.lab.exposition import Registry
from loop4.lab.faults import ProfileSource, Target
from loop4.lab.local_state import JournalDamaged, damage_journal, open_journal
from loop4.lab.otlp import Telemetry
from loop4.lab.processes import follow_parent, inherited_socket
from loop4.lab.serving import serve
from loop4.lab.topology import BANK, ENVIRONMENT, SERVICES, Service, calls_upstream
from loop4.lab.tracing import TraceContext, new_span_id, read_traceparent
from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered
from loop4.lab.wiring import Wiring, read_wiring

NOISE_ERROR_BP = 5  # errors that a healthy service has anyway, per service
NOISE = (
    "ConnectionResetError: cache-2 closed the connection",
    "TimeoutError: no pooled connection within 250 ms",
    "ValueError: cart is empty",
)
UPSTREAM_TIMEOUT_S = {"orders": 2.0, "payments": 1.2, BANK: 0.4}
GOOD_LOG_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """What this replica is."""

    service: Service
    instance: str
    version: str
    revision: int


class Failure(Exception):
    """A request that goes wrong, with the status for the caller and one line for the log."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(text)


class Replica:
    """Handles requests of one replica."""

    def __init__(
        self,
        identity: Identity,
        wiring: Wiring,
        client: HttpClient,
        telemetry: Telemetry,
        faults: ProfileSource,
        rng: random.Random,
    ) -> None:
        self.identity = identity
        self.idle = asyncio.Event()  # set while no request is being served
        self.idle.set()
        self._in_flight = 0
        self.metrics = Registry(
            {
                "service": identity.service.name,
                "version": identity.version,
                "instance": identity.instance,
            }
        )
        self._wiring = wiring
        self._client = client
        self._telemetry = telemetry
        self._faults = faults
        self._rng = rng
        service = identity.service
        for outcome in ("ok", "error"):
            for route in service.routes:
                self.metrics.count("http_requests_total", 0, route=route, outcome=outcome)
            self._count_call(outcome, 0)

    async def handle(self, route: str, traceparent: str) -> int:
        """Serve one request and return its status."""
        context = read_traceparent(traceparent)
        span_id = new_span_id()
        started_ns, started = time.time_ns(), time.perf_counter()
        status, failure = 200, ""
        self._in_flight += 1
        self.idle.clear()
        try:
            await self._work(route, context, span_id)
        except Failure as error:
            status, failure = error.status, error.text
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self.idle.set()
        seconds = time.perf_counter() - started
        outcome = "error" if failure else "ok"
        self.metrics.count("http_requests_total", route=route, outcome=outcome)
        self.metrics.observe("http_request_duration_seconds", seconds)
        self._telemetry.span(
            trace_id=context.trace_id,
            span_id=span_id,
            parent_id=context.parent_id,
            name=f"{'GET' if route != 'checkout' else 'POST'} /{route}",
            kind="server",
            start_ns=started_ns,
            end_ns=started_ns + int(seconds * 1e9),
            values={"http.route": f"/{route}", "http.response.status_code": status},
            error=failure,
        )
        if failure:
            line = f"{route} failed: {failure} (status {status})"
            self._telemetry.log("ERROR", line, context.trace_id)
        elif self._rng.random() < GOOD_LOG_SHARE:
            line = f"{route} completed in {seconds * 1000:.0f} ms"
            self._telemetry.log("INFO", line, context.trace_id)
        return status

    async def _work(self, route: str, context: TraceContext, span_id: str) -> None:
        service, profile = self.identity.service, self._faults.profile
        await asyncio.sleep(service.work_ms / 1000 * self._rng.lognormvariate(0, 0.35))
        draw = self._rng.random() * 10_000
        if draw < profile.error_bp:
            raise Failure(500, profile.exception)
        if draw > 10_000 - NOISE_ERROR_BP:
            raise Failure(500, self._rng.choice(NOISE))
        if calls_upstream(service.name, route):
            await self._call(route, context, span_id)

    async def _call(self, route: str, context: TraceContext, span_id: str) -> None:
        """Call upstream; a client span and a count whatever happens. Raises Failure."""
        peer = self.identity.service.upstream
        child = new_span_id()
        started_ns, started = time.time_ns(), time.perf_counter()
        status, problem = 0, ""
        try:
            status = await self._ask(peer, route, context.header(child))
            problem = f"{peer} answered {status}" if status >= 500 else ""
        except NotDelivered:
            problem = f"ConnectionError: {peer} refused the connection"
        except NoAnswer:
            problem = f"TimeoutError: {peer} gave no answer in time"
        self._count_call("error" if problem else "ok", 1)
        values: dict[str, str | int] = {"peer.service": peer, "http.response.status_code": status}
        self._telemetry.span(
            trace_id=context.trace_id,
            span_id=child,
            parent_id=span_id,
            name=f"call {peer}",
            kind="client",
            start_ns=started_ns,
            end_ns=started_ns + int((time.perf_counter() - started) * 1e9),
            values=values,
            error=problem,
        )
        if problem:
            kind = "dependency" if peer == BANK else "upstream"
            raise Failure(504 if status == 0 else 502, f"{kind} {problem}")

    async def _ask(self, peer: str, route: str, traceparent: str) -> int:
        """The status of the peer's answer. A broken dependency configuration of this revision is
        real: the call goes to a path that the bank retired, or is given up far too early.
        """
        ports, path, timeout_s = self._wiring.ports, f"/{peer}/{route}", UPSTREAM_TIMEOUT_S[peer]
        port = ports.mesh
        if peer == BANK:
            port, path = ports.bank, "/v2/authorisations"
            profile = self._faults.profile
            if self._rng.random() * 10_000 < profile.dependency_bp:
                if profile.dependency_mode == "timeout":
                    timeout_s = 0.002
                else:
                    path = "/v1/authorisations"
        reply = await self._client.request(
            "POST", port, path, headers={"traceparent": traceparent}, timeout_s=timeout_s
        )
        return reply.status

    def _count_call(self, outcome: str, amount: int) -> None:
        peer = self.identity.service.upstream
        self.metrics.count("dependency_requests_total", amount, dependency=peer, outcome=outcome)


def application(replica: Replica) -> FastAPI:
    """The replica's HTTP face: its routes, /healthz and /metrics."""
    app = FastAPI(openapi_url=None)

    def endpoint(route: str) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            status = await replica.handle(route, request.headers.get("traceparent", ""))
            body = b'{"ok":true}' if status == 200 else b'{"ok":false}'
            return Response(body, status, media_type="application/json")

        return handle

    for route in replica.identity.service.routes:
        app.add_route(f"/{route}", endpoint(route), methods=["GET", "POST"])

    async def healthz(request: Request) -> Response:
        return Response(b"ok")

    async def metrics(request: Request) -> Response:
        return Response(replica.metrics.render(), media_type="text/plain; version=0.0.4")

    app.add_route("/healthz", healthz)
    app.add_route("/metrics", metrics)
    return app


async def watch_local_state(
    replica: Replica, faults: ProfileSource, state: Path, telemetry: Telemetry
) -> None:
    """Crash between two requests once the local state is damaged."""
    await faults.damaged.wait()
    damage_journal(state)
    await replica.idle.wait()
    await report_crash(state, telemetry)


async def report_crash(state: Path, telemetry: Telemetry) -> None:
    """Say why in the log and leave, as an unhandled exception would."""
    try:
        open_journal(state)
    except JournalDamaged as error:
        telemetry.log("ERROR", f"fatal: {error}")
        await telemetry.flush()
        os._exit(1)


async def run(identity: Identity, directory: Path, descriptor: int) -> None:
    """Serve until told to stop; leave with 1 at once if the local state is damaged."""
    wiring = read_wiring(directory)
    client = HttpClient()
    resource = {
        "service.name": identity.service.name,
        "service.version": identity.version,
        "service.instance.id": identity.instance,
        "deployment.environment.name": ENVIRONMENT,
    }
    ports, internal = wiring.ports, wiring.tokens.internal
    telemetry = Telemetry(resource, ports.store, internal, WallClock(), client)
    state = directory / "state" / identity.instance
    await report_crash(state, telemetry)
    me = Target(identity.service.name, identity.revision, identity.instance)
    faults = ProfileSource(client, ports.injector, internal, me)
    await faults.refresh()
    seed = f"{wiring.seed}:{identity.instance}:{identity.revision}"
    rng = random.Random(seed)  # noqa: S311  (noise, not a secret)
    replica = Replica(identity, wiring, client, telemetry, faults, rng)
    telemetry.log("INFO", f"serving {identity.service.name} {identity.version}")
    await serve(
        application(replica),
        [inherited_socket(descriptor)],
        telemetry.run(),
        faults.run(),
        watch_local_state(replica, faults, state, telemetry),
    )


def main() -> None:
    """Entry point of the process."""
    follow_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument("instance")
    parser.add_argument("version")
    parser.add_argument("revision", type=int)
    parser.add_argument("--serve-fd", type=int, required=True)
    given = parser.parse_args()
    identity = Identity(SERVICES[given.service], given.instance, given.version, given.revision)
    asyncio.run(run(identity, given.directory, given.serve_fd))


if __name__ == "__main__":
    main()
