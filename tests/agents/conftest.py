"""One incident of the toy world as a brief, and planners over a scripted endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import pytest

from loop4.agents import health, incident, remediation, signal
from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.planner.budget import Limits
from loop4.agents.planner.endpoint import ModelSettings, ToolMode
from loop4.agents.planner.model_planner import ModelPlanner, quiet
from loop4.agents.planner.port import Refined
from loop4.domain import Event, EventKind, Severity
from loop4.policies.catalogue import load_catalogue
from loop4.policies.load import load_policy
from loop4.policies.openslo import load_targets
from loop4.policies.runbooks import load_runbooks
from loop4.settings import Secret
from loop4.tools.backends.ports import World
from loop4.tools.reader import Reader, Scope
from tests.agents.model_server import Script, Served, serve
from tests.graphs.toy import ToyWorld

T = TypeVar("T")
KEY = "sk-test-9f8e7d6c5b4a39281706"
AGENTS = {a.name: a for a in (health.AGENT, incident.AGENT, remediation.AGENT, signal.AGENT)}


def run(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


@dataclass
class Case:
    """A brief on the toy world, some seconds after the bad deploy."""

    toy: ToyWorld
    brief: Brief

    async def playbook(self, name: str) -> Report:
        return await AGENTS[name].playbook(self.brief)

    def agent(self, name: str) -> Agent:
        return AGENTS[name]


def make_case(
    *, text: str = "", change: Callable[[World], World] = lambda w: w, deploy: bool = True
) -> Case:
    toy = ToyWorld()
    toy.run(60)
    if deploy:
        toy.deploy()
        toy.run(12)
    operations = Path(str(files("loop4.lab") / "operations")) / "policies"
    catalogue = load_catalogue(operations / "services.yaml")
    policy = load_policy(None, bindings_files=(operations / "bindings.yaml",))
    scope = Scope("INC-2026-001", "lab", frozenset(catalogue.names()), toy.clock.at_ms - 3_600_000)
    reader = Reader(change(toy.world()), policy, toy.clock, scope)
    event = Event(
        event_id="breach:1",
        kind=EventKind.BREACH,
        source="sweep",
        service="orders",
        environment="lab",
        at_ms=toy.clock.at_ms,
        correlation="lab/orders",
        text=text,
    )
    return Case(
        toy,
        Brief(
            event=event,
            incident_id="INC-2026-001",
            severity=Severity.SEV1,
            now_ms=toy.clock.at_ms,
            catalogue=catalogue,
            targets=load_targets(operations / "targets"),
            runbooks=load_runbooks(operations / "runbooks", tools=set(policy.tools)),
            reader=reader,
        ),
    )


@pytest.fixture
def case() -> Case:
    return make_case()


@contextmanager
def planner_on(
    script: Script,
    *,
    mode: ToolMode = ToolMode.AUTO,
    limits: Limits | None = None,
    timeout_s: float = 5.0,
    max_retries: int = 0,
    model: str = "scripted",
    tell: Callable[[str], None] = quiet,
) -> Iterator[tuple[ModelPlanner, Served]]:
    """A model planner over a scripted server."""
    with serve(script) as served:
        settings = ModelSettings(
            model=model,
            base_url=served.url,
            api_key=Secret(KEY),
            tool_mode=mode,
            timeout_s=timeout_s,
            max_retries=max_retries,
        )
        yield ModelPlanner(settings, limits=limits or Limits(), tell=tell), served


def refine(planner: ModelPlanner, case: Case, name: str = "incident") -> tuple[Report, Refined]:
    """The playbook's report and what the planner made of it."""

    async def work() -> tuple[Report, Refined]:
        report = await case.playbook(name)
        try:
            return report, await planner.refine(case.agent(name), case.brief, report)
        finally:
            await planner.close()

    return run(work())


def with_settings(planner: ModelPlanner, **changes: object) -> ModelSettings:
    return replace(planner.settings, **changes)  # type: ignore[arg-type]  # for tests of settings
