"""The fault injector: who is hit by what, and the clockwork of a scenario.

A process of its own with its own token. Services ask it for their profile; nothing else of the lab
knows about faults. `injector.jsonl` is its record, for tests and benchmarks only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from loop4.domain import Clock, Json
from loop4.errors import InputError, LabError
from loop4.lab.clock import WallClock
from loop4.lab.faults import NO_FAULT, Profile, Target
from loop4.lab.processes import follow_parent, inherited_socket
from loop4.lab.scenarios import DeployStep, FaultStep, Plan, draw
from loop4.lab.serving import holds, serve
from loop4.lab.wire import HttpClient, bearer
from loop4.lab.wiring import INJECTOR_LOG, Wiring, read_wiring

POLL_S = 0.1
ROUTED_WITHIN_POLLS = 200


@dataclass(slots=True)
class _Fault:
    target: Target
    profile: Profile


class Injector:
    """The faults in force, and scenarios being played."""

    def __init__(self, wiring: Wiring, client: HttpClient, clock: Clock, log: TextIO) -> None:
        self._wiring = wiring
        self._client = client
        self._clock = clock
        self._log = log
        self._faults: list[_Fault] = []
        self._playing: set[asyncio.Task[None]] = set()

    def profile_for(self, service: str, revision: int, instance: str) -> Profile:
        """The fault of one process. Damage to local state is handed out once."""
        for fault in self._faults:
            if fault.target.covers(service, revision, instance):
                if fault.profile.corrupt_state:
                    self._faults.remove(fault)
                return fault.profile
        return NO_FAULT

    def play(self, plan: Plan, not_before_ms: int) -> None:
        """Begin a scenario; returns at once."""
        task = asyncio.create_task(self._play(plan, not_before_ms))
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)

    def begin(self, target: Target, profile: Profile, lasts_s: float) -> None:
        """Put a fault in force, for `lasts_s` seconds (0: until the lab ends)."""
        fault = _Fault(target, profile)
        self._faults.append(fault)
        self._note("fault", target=asdict(target), profile=asdict(profile))
        if lasts_s:
            task = asyncio.create_task(self._clear_after(fault, lasts_s))
            self._playing.add(task)
            task.add_done_callback(self._playing.discard)

    async def _clear_after(self, fault: _Fault, lasts_s: float) -> None:
        await asyncio.sleep(lasts_s)
        if fault in self._faults:
            self._faults.remove(fault)
            self._note("clear", target=asdict(fault.target))

    async def _play(self, plan: Plan, not_before_ms: int) -> None:
        try:
            await asyncio.sleep(max(0, not_before_ms - self._clock.now_ms()) / 1000)
            self._note("scenario", scenario=plan.scenario, seed=plan.seed, culprit=plan.culprit)
            deployed: dict[str, int] = {}
            for step in plan.steps:
                if isinstance(step, DeployStep):
                    await asyncio.sleep(step.after_s)
                    deployed[step.service] = await self._deploy(step)
                    continue
                await self._fault(step, deployed)
            self._note("done", scenario=plan.scenario)
        except LabError as error:
            self._note("failed", reason=str(error))

    async def _fault(self, step: FaultStep, deployed: dict[str, int]) -> None:
        target = step.target
        if step.newest_revision:
            target = replace(target, revision=deployed[target.service])
            await self._wait_until_routed(target)
        await asyncio.sleep(step.after_s)
        self.begin(target, step.profile, step.lasts_s)

    async def _deploy(self, step: DeployStep) -> int:
        body = {"weight_bp": step.weight_bp, "actor": step.actor, "text": step.text}
        reply = await self._client.request(
            "POST",
            self._wiring.ports.control,
            f"/api/workloads/{step.service}/deploy",
            headers=bearer(self._wiring.tokens.pipeline) | {"content-type": "application/json"},
            body=json.dumps(body).encode(),
            timeout_s=5.0,
        )
        if reply.status != 200:
            raise LabError(f"deploy of {step.service}: the orchestrator answered {reply.status}")
        revision = int(json.loads(reply.body)["to_revision"])
        self._note("deploy", service=step.service, revision=revision, weight_bp=step.weight_bp)
        return revision

    async def _wait_until_routed(self, target: Target) -> None:
        for _ in range(ROUTED_WITHIN_POLLS):
            if await self._is_routed(target):
                return
            await asyncio.sleep(POLL_S)
        raise LabError(f"{target.service} revision {target.revision} never took traffic")

    async def _is_routed(self, target: Target) -> bool:
        reply = await self._client.request(
            "GET",
            self._wiring.ports.control,
            "/api/inventory",
            headers=bearer(self._wiring.tokens.pipeline),
        )
        return any(
            instance["weight_bp"] > 0 and instance["revision"] == target.revision
            for workload in json.loads(reply.body)["workloads"]
            if workload["service"] == target.service
            for instance in workload["instances"]
        )

    def _note(self, what: str, **details: Json) -> None:
        line = {"at_ms": self._clock.now_ms(), "what": what} | details
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


class _Play(BaseModel):
    model_config = ConfigDict(extra="forbid")
    scenario: str
    seed: int
    not_before_ms: int


class _Begin(BaseModel):
    model_config = ConfigDict(extra="forbid")
    target: Target
    profile: Profile
    lasts_s: float = 0.0


def application(injector: Injector, injector_token: str, internal_token: str) -> FastAPI:
    """The HTTP API."""
    app = FastAPI(openapi_url=None)

    def needs(token: str) -> Callable[[Request], None]:
        def check(request: Request) -> None:
            if not holds(request.headers.get("authorization", ""), token):
                raise HTTPException(401, "a token is needed")

        return check

    @app.get("/profile", dependencies=[Depends(needs(internal_token))])
    async def profile(service: str, revision: int, instance: str) -> Response:
        return JSONResponse(asdict(injector.profile_for(service, revision, instance)))

    @app.post("/scenario", dependencies=[Depends(needs(injector_token))])
    async def scenario(body: _Play) -> Response:
        try:
            plan = draw(body.scenario, body.seed)
        except InputError as error:
            return JSONResponse({"detail": str(error)}, 422)
        injector.play(plan, body.not_before_ms)
        return JSONResponse({"scenario": plan.scenario, "seed": plan.seed})

    @app.post("/faults", dependencies=[Depends(needs(injector_token))])
    async def fault(body: _Begin) -> Response:
        injector.begin(body.target, body.profile, body.lasts_s)
        return JSONResponse({})

    return app


async def run(directory: Path, descriptor: int) -> None:
    """Serve until told to stop."""
    wiring = read_wiring(directory)
    with (directory / INJECTOR_LOG).open("a", encoding="utf-8") as log:
        injector = Injector(wiring, HttpClient(), WallClock(), log)
        app = application(injector, wiring.tokens.injector, wiring.tokens.internal)
        await serve(app, [inherited_socket(descriptor)])


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
