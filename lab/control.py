"""The orchestrator's HTTP API and its reconcile loop.

Three identities: `read` sees, `act` rolls back, restarts and scales, `pipeline` deploys. The act
identity cannot deploy: a fleet that is taken over still cannot bring in new code.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from fastapi import Depends, FastAPI, HTTPException, Request, Response, params
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from loop4.domain import Json
from loop4.errors import Conflict, Refused
from loop4.lab.clock import WallClock
from loop4.lab.exposition import Registry
from loop4.lab.orchestrator import Orchestrator
from loop4.lab.processes import follow_parent, inherited_socket
from loop4.lab.replicas import Replicas
from loop4.lab.serving import holds, serve
from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered, bearer
from loop4.lab.wiring import EFFECTS_LOG, Tokens, Wiring, read_wiring

TICK_S = 0.1
SYNC_EVERY = 5  # ticks between pushes of an unchanged table


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RollBack(_Body):
    """Body of a roll back."""

    to_revision: int
    expected: str = Field(min_length=1)
    mark: str = Field(min_length=1)


class Scale(_Body):
    """Body of a scale."""

    replicas: int
    expected: str = Field(min_length=1)
    mark: str = Field(min_length=1)


class Restart(_Body):
    """Body of a restart."""

    restarted_at_ms: int
    expected: str = Field(min_length=1)
    mark: str = Field(min_length=1)


class Deploy(_Body):
    """Body of a deploy."""

    weight_bp: int
    actor: str
    text: str = ""
    settings: dict[str, str] = {}


class Reconciler:
    """Makes what runs follow what is desired, and keeps the router's table."""

    def __init__(self, orchestrator: Orchestrator, wiring: Wiring, client: HttpClient) -> None:
        self._orchestrator = orchestrator
        self._wiring = wiring
        self._client = client
        self._stopping: set[asyncio.Task[None]] = set()
        self._pushed: Json = None

    async def run(self) -> None:
        """Reconcile ten times a second, for ever."""
        tick = 0
        while True:
            await self.reconcile(push=tick % SYNC_EVERY == 0)
            tick += 1
            await asyncio.sleep(TICK_S)

    async def reconcile(self, *, push: bool) -> None:
        """One round."""
        orchestrator = self._orchestrator
        for service, revision, version in orchestrator.missing():
            orchestrator.replicas.add(service, revision, version)
        for replica in orchestrator.surplus():
            task = asyncio.create_task(orchestrator.replicas.stop(replica))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        await orchestrator.replicas.watch()
        if push or orchestrator.table() != self._pushed:
            await self.push()

    async def push(self) -> None:
        """Send the routing table; take the router's view of health and weights."""
        table = self._orchestrator.table()
        try:
            reply = await self._client.request(
                "PUT",
                self._wiring.ports.router,
                "/table",
                headers=bearer(self._wiring.tokens.internal),
                body=json.dumps(table).encode(),
                timeout_s=1.0,
            )
        except (NotDelivered, NoAnswer):
            return  # the next round tries again
        if reply.status != 200:
            return
        self._pushed = table
        self._orchestrator.note_routing(json.loads(reply.body))
        self._orchestrator.note_status()


def render_metrics(orchestrator: Orchestrator) -> bytes:
    """What the supervisor knows: which replicas are up, how often it respawned them."""
    registry = Registry()
    for replica in orchestrator.replicas.all():
        labels = {"service": replica.service, "instance": replica.name}
        registry.gauge("process_up", float(replica.state == "ready"), **labels)
        registry.count("process_restarts_total", replica.respawns_total, **labels)
    return registry.render()


class Access:
    """Which tokens may do what; each is a dependency for FastAPI."""

    def __init__(self, tokens: Tokens) -> None:
        self._known = (tokens.read, tokens.act, tokens.pipeline)
        self.reads = self._needs(tokens.read, tokens.internal, tokens.pipeline)
        self.acts = self._needs(tokens.act)
        self.deploys = self._needs(tokens.pipeline)
        self.inside = self._needs(tokens.internal)

    def _needs(self, *accepted: str) -> list[params.Depends]:
        def check(request: Request) -> None:
            header = request.headers.get("authorization", "")
            if holds(header, *accepted):
                return
            if holds(header, *self._known):
                raise HTTPException(403, "this identity may not do that")
            raise HTTPException(401, "a token is needed")

        return [Depends(check)]


def application(orchestrator: Orchestrator, reconciler: Reconciler, tokens: Tokens) -> FastAPI:
    """The HTTP API."""
    app = FastAPI(openapi_url=None)
    access = Access(tokens)

    @app.exception_handler(Conflict)
    async def conflict(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 422)

    _add_reads(app, access, orchestrator, reconciler)
    _add_writes(app, access, orchestrator, reconciler)
    return app


def _add_reads(
    app: FastAPI, access: Access, orchestrator: Orchestrator, reconciler: Reconciler
) -> None:
    @app.get("/api/inventory", dependencies=access.reads)
    async def inventory() -> Response:
        await reconciler.push()
        return JSONResponse(orchestrator.inventory())

    @app.get("/api/changes", dependencies=access.reads)
    async def changes(start_ms: int, end_ms: int, service: str = "") -> Response:
        found = [
            asdict(change)
            for change in orchestrator.changes
            if start_ms <= change.at_ms < end_ms and service in ("", change.service)
        ]
        return JSONResponse({"changes": found})

    @app.get("/targets", dependencies=access.inside)
    async def targets() -> Response:
        return JSONResponse([r.port for r in orchestrator.replicas.all() if r.state == "ready"])

    @app.get("/metrics", dependencies=access.inside)
    async def metrics() -> Response:
        return Response(render_metrics(orchestrator), media_type="text/plain; version=0.0.4")


def _add_writes(
    app: FastAPI, access: Access, orchestrator: Orchestrator, reconciler: Reconciler
) -> None:
    @app.post("/api/workloads/{service}/roll-back", dependencies=access.acts)
    async def roll_back(service: str, body: RollBack) -> Response:
        result = orchestrator.roll_back(
            service, body.to_revision, expected=body.expected, mark=body.mark
        )
        await reconciler.push()
        return JSONResponse(asdict(result))

    @app.post("/api/workloads/{service}/scale", dependencies=access.acts)
    async def scale(service: str, body: Scale) -> Response:
        result = orchestrator.scale(service, body.replicas, expected=body.expected, mark=body.mark)
        return JSONResponse(asdict(result))

    @app.post("/api/instances/{instance}/restart", dependencies=access.acts)
    async def restart(instance: str, body: Restart) -> Response:
        result = await orchestrator.restart(
            instance, body.restarted_at_ms, expected=body.expected, mark=body.mark
        )
        return JSONResponse(asdict(result))

    @app.post("/api/workloads/{service}/deploy", dependencies=access.deploys)
    async def deploy(service: str, body: Deploy) -> Response:
        change = orchestrator.deploy(
            service,
            weight_bp=body.weight_bp,
            actor=body.actor,
            text=body.text,
            settings=body.settings,
        )
        return JSONResponse(asdict(change))


async def run(directory: Path, descriptor: int) -> None:
    """Serve until told to stop, then end every replica."""
    wiring = read_wiring(directory)
    client, clock = HttpClient(), WallClock()
    replicas = Replicas(directory, client, clock)
    with (directory / EFFECTS_LOG).open("a", encoding="utf-8") as effects:
        orchestrator = Orchestrator(replicas, clock, wiring.started_ms, wiring.seed, effects)
        reconciler = Reconciler(orchestrator, wiring, client)
        app = application(orchestrator, reconciler, wiring.tokens)
        try:
            await serve(app, [inherited_socket(descriptor)], reconciler.run())
        finally:
            replicas.end_all()


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
