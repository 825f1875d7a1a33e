"""The API over a real session on the toy world; requests go through the ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from loop4.api.access import Access
from loop4.api.app import application
from loop4.domain import Json
from loop4.graphs.legs import Worker
from loop4.graphs.runner import Runner
from loop4.heartbeat import Heartbeat
from loop4.lab.duty import clients_file
from loop4.lab.folder import make_operations
from loop4.policies.fleet_schedule import load_fleet_schedule
from loop4.service import SWEEPS, Service
from tests.graphs.conftest import Play, Stage


@dataclass
class Door:
    """The API, who may use it, and what lies behind it."""

    stage: Stage
    person: str
    token: str
    machine: str
    play: Play | None = None
    http: httpx.AsyncClient | None = None
    service: Service | None = None

    @asynccontextmanager
    async def opened(self, *, engine: bool = False) -> AsyncIterator[Door]:
        schedule = load_fleet_schedule(self.stage.operations, sweeping=tuple(SWEEPS))
        async with self.stage.opened() as play:
            session = play.session
            worker = Worker("local", schedule.lease_s * 1000)
            session.runner.legs = Runner(session.fleet, session.runner.legs.saver, worker).legs
            service = Service(session, schedule, Heartbeat(self.stage.data, "local"))
            if engine:
                await service.start(f"sqlite:///{self.stage.data / 'engine.db'}", "local")
            access = Access(self.stage.operations / "policies", session.fleet.clock)
            transport = httpx.ASGITransport(application(service, access), raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://loop4") as http:
                self.play, self.http, self.service = play, http, service
                try:
                    yield self
                finally:
                    await service.drain(2)

    async def post(
        self, path: str, body: bytes | Json, token: str | None = None, **headers: str
    ) -> httpx.Response:
        assert self.http is not None
        given = self.machine if token is None else token
        sent = dict(headers)
        if given:
            sent["authorization"] = f"Bearer {given}"
        if isinstance(body, bytes):
            return await self.http.post(path, content=body, headers=sent)
        return await self.http.post(path, json=body, headers=sent)

    async def get(self, path: str, token: str) -> httpx.Response:
        assert self.http is not None
        return await self.http.get(path, headers={"authorization": f"Bearer {token}"})


@pytest.fixture
def door(tmp_path: Path) -> Door:
    copy = make_operations(tmp_path / "operations")
    machine = clients_file(copy.root)
    return Door(Stage(tmp_path), copy.person, copy.token, machine)
