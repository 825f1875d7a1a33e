"""The router: customers come in at its edge, services call each other through its mesh.

It balances by the table that the orchestrator pushes, checks health, ejects and re-admits
instances, tries another instance once when one refuses a call, and counts per edge request which
instances were touched in its trace. `edge.jsonl` is its own record of what customers got.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TextIO

from loop4.domain import Clock, Json
from loop4.lab.balancer import Backend, Route, ServiceBalancer, Table
from loop4.lab.clock import WallClock
from loop4.lab.exposition import Registry
from loop4.lab.processes import follow_parent, inherited_socket
from loop4.lab.serving import Receive, Send, holds, serve
from loop4.lab.topology import EDGE_SERVICE, SERVICES, SLOW_MS
from loop4.lab.tracing import EDGE_PARENT, read_traceparent
from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered, Reply
from loop4.lab.wiring import EDGE_LOG, Wiring, read_wiring

EDGE_TIMEOUT_S = 3.0
MESH_TIMEOUT_S = 2.5
CHECK_S = 0.4
EAGER_CHECK_S = 0.1  # while an instance is new or ejected
CHECK_TIMEOUT_S = 0.5
FLUSH_S = 0.2


class Router:
    """Forwarding and its books."""

    def __init__(self, wiring: Wiring, client: HttpClient, clock: Clock, edge_log: TextIO) -> None:
        self._wiring = wiring
        self._client = client
        self._clock = clock
        self._edge_log = edge_log
        self._balancers = {name: ServiceBalancer(name) for name in SERVICES}
        self._touched: dict[str, set[tuple[str, str, str]]] = {}
        self._metrics = Registry()
        self._checks: dict[int, asyncio.Task[None]] = {}
        for outcome in ("ok", "error", "slow"):
            self._metrics.count("router_edge_requests_total", 0, outcome=outcome)

    async def from_edge(self, method: str, path: str) -> Reply:
        """Serve a customer."""
        trace_id = secrets.token_hex(16)
        self._touched[trace_id] = set()
        started_ms = self._clock.now_ms()
        loop = asyncio.get_running_loop()
        started = loop.time()
        headers = {"traceparent": f"00-{trace_id}-{EDGE_PARENT}-01"}
        reply = await self._forward(EDGE_SERVICE, method, path, headers, EDGE_TIMEOUT_S)
        duration_ms = int((loop.time() - started) * 1000)
        outcome = "slow" if duration_ms > SLOW_MS else "ok"
        if reply.status >= 500:
            outcome = "error"
        self._metrics.count("router_edge_requests_total", outcome=outcome)
        touched = sorted(self._touched.pop(trace_id))
        for service, version, instance in touched:
            self._metrics.count(
                "router_edge_touched_total", service=service, version=version, instance=instance
            )
        line = {
            "at_ms": started_ms,
            "route": path.strip("/"),
            "status": reply.status,
            "outcome": outcome,
            "duration_ms": duration_ms,
            "trace_id": trace_id,
            "touched": [instance for _, _, instance in touched],
        }
        self._edge_log.write(json.dumps(line) + "\n")
        return reply

    async def from_mesh(self, method: str, path: str, traceparent: str) -> Reply:
        """Pass a call from service to service: the first part of the path names the callee."""
        service, _, rest = path.lstrip("/").partition("/")
        if service not in self._balancers:
            return Reply(404, b"no such service")
        headers = {"traceparent": traceparent}
        return await self._forward(service, method, f"/{rest}", headers, MESH_TIMEOUT_S)

    async def _forward(
        self, service: str, method: str, path: str, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        balancer = self._balancers[service]
        trace_id = read_traceparent(headers["traceparent"]).trace_id
        refused: list[str] = []
        while len(refused) < 2:
            backend = balancer.pick(refused)
            if backend is None:
                break
            try:
                reply = await self._client.request(
                    method, backend.port, path, headers=headers, timeout_s=timeout_s
                )
            except NotDelivered:
                refused.append(backend.name)
                balancer.failed(backend, self._clock.now_ms())
                continue
            except NoAnswer:
                reply = Reply(504, b"no answer")
            if trace_id in self._touched:
                self._touched[trace_id].add((service, backend.version, backend.name))
            return reply
        return Reply(503, b"no instance")

    def route(self, document: Mapping[str, Json]) -> None:
        """Take the orchestrator's table: {service: {weights: [[version, bp]], routes: [...]}}."""
        now_ms = self._clock.now_ms()
        for service, entry in document.items():
            balancer = self._balancers[service]
            before = {(b.name, b.port) for b in balancer.backends()}
            balancer.apply(_table(entry), now_ms)
            for _, port in before - {(b.name, b.port) for b in balancer.backends()}:
                self._client.forget(port)
            for backend in balancer.backends():
                if id(backend) not in self._checks:
                    check = asyncio.create_task(self._watch(balancer, backend))
                    self._checks[id(backend)] = check

    def status(self) -> Json:
        """What is in force: weights by instance, who is ejected, when routing last changed."""
        return {
            name: {
                "changed_ms": balancer.changed_ms,
                "weights": {
                    instance: bp
                    for shares in balancer.effective().values()
                    for instance, bp in shares.items()
                },
                "ejected": [b.name for b in balancer.backends() if b.ejected],
            }
            for name, balancer in self._balancers.items()
        }

    def render(self) -> bytes:
        """The text exposition."""
        for name in ("router_weight_bp", "router_instance_weight_bp", "router_ejected"):
            self._metrics.reset(name)
        gauge = self._metrics.gauge
        for service, balancer in self._balancers.items():
            for version, shares in balancer.effective().items():
                gauge("router_weight_bp", sum(shares.values()), service=service, version=version)
                for instance, bp in shares.items():
                    labels = {"service": service, "version": version, "instance": instance}
                    gauge("router_instance_weight_bp", bp, **labels)
            for backend in balancer.backends():
                gauge("router_ejected", backend.ejected, service=service, instance=backend.name)
            changed_s = balancer.changed_ms / 1000
            gauge("router_routing_changed_timestamp_seconds", changed_s, service=service)
        return self._metrics.render()

    async def flush(self) -> None:
        """Bring the edge log to its file, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self._edge_log.flush()

    async def _watch(self, balancer: ServiceBalancer, backend: Backend) -> None:
        """Check one instance's health until it leaves the table."""
        while balancer.find(backend.name) is backend:
            try:
                reply = await self._client.request(
                    "GET", backend.port, "/healthz", timeout_s=CHECK_TIMEOUT_S
                )
                healthy = reply.status == 200
            except (NotDelivered, NoAnswer):
                healthy = False
            note = balancer.passed if healthy else balancer.failed
            note(backend, self._clock.now_ms())
            await asyncio.sleep(CHECK_S if backend.routable else EAGER_CHECK_S)
        del self._checks[id(backend)]


def _table(entry: Json) -> Table:
    """A table from its JSON form; it comes from our own orchestrator."""
    if not isinstance(entry, dict):
        raise ValueError(f"expected a routing table, found {entry!r}")
    return Table(
        weights=tuple((version, weight) for version, weight in entry["weights"]),
        routes=tuple(Route(**route) for route in entry["routes"]),
    )


class RouterApp:
    """The ASGI face: the port that a call came in by says what it is."""

    def __init__(self, router: Router, wiring: Wiring) -> None:
        self._router = router
        self._wiring = wiring

    async def __call__(
        self, scope: MutableMapping[str, object], receive: Receive, send: Send
    ) -> None:
        """Answer one request."""
        reply = await self._answer(scope, receive)
        kind = reply.content_type or "application/json"
        headers = [
            (b"content-length", str(len(reply.body)).encode()),
            (b"content-type", kind.encode()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, scope: MutableMapping[str, object], receive: Receive) -> Reply:
        method, path, server = str(scope["method"]), str(scope["path"]), scope["server"]
        port = server[1] if isinstance(server, tuple) else 0
        if port == self._wiring.ports.edge:
            return await self._router.from_edge(method, path)
        headers = scope["headers"]
        named = dict(headers) if isinstance(headers, list) else {}
        if port == self._wiring.ports.mesh:
            parent = named.get(b"traceparent", b"").decode("latin-1")
            return await self._router.from_mesh(method, path, parent)
        if not holds(named.get(b"authorization", b"").decode(), self._wiring.tokens.internal):
            return Reply(401, b'{"detail":"a token is needed"}')
        if path == "/metrics":
            return Reply(200, self._router.render(), "text/plain; version=0.0.4")
        if method == "PUT" and path == "/table":
            self._router.route(json.loads(await _body(receive)))
        return Reply(200, json.dumps(self._router.status()).encode())


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        chunks.append(chunk if isinstance(chunk, bytes) else b"")
        if not message.get("more_body"):
            return b"".join(chunks)


async def run(directory: Path, descriptors: list[int]) -> None:
    """Serve edge, mesh and administration until told to stop."""
    wiring = read_wiring(directory)
    with (directory / EDGE_LOG).open("a", encoding="utf-8") as edge_log:
        router = Router(wiring, HttpClient(), WallClock(), edge_log)
        sockets = [inherited_socket(descriptor) for descriptor in descriptors]
        await serve(RouterApp(router, wiring), sockets, router.flush())


def main() -> None:
    """Entry point of the process."""
    follow_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    for purpose in ("edge", "mesh", "admin"):
        parser.add_argument(f"--{purpose}-fd", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(run(given.directory, [given.edge_fd, given.mesh_fd, given.admin_fd]))


if __name__ == "__main__":
    main()
