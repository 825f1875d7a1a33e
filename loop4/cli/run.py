"""`loop4 run`: the fleet on duty, in one process over one data folder, with its HTTP front door."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, JsonOption
from loop4.cli.fleet_options import (
    OperationsOption,
    RulesOption,
    operations_of,
    session_for,
    settings_with,
    signing_of,
    signing_told,
)
from loop4.errors import UsageError

if TYPE_CHECKING:
    from loop4.ledger.checkpoints import Signing
    from loop4.settings import Settings

PORT = 8470
WORKER = "local"

PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")
]


def command(
    data: DataOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    port: PortOption = PORT,
    as_json: JsonOption = False,
) -> None:
    """Watch, decide and act until SIGTERM; take alerts and votes over HTTP on 127.0.0.1."""
    from loop4.api.serving import bound_socket

    settings = settings_with(data, operations, rules)
    if settings.db:
        raise UsageError(
            "a database is set (LOOP4_DB), which many workers share; use `loop4 worker`, or name a "
            "data folder with --data"
        )
    with bound_socket(port) as listening:
        asyncio.run(_run(settings, listening, as_json=as_json))


async def _run(settings: Settings, listening: socket.socket, *, as_json: bool) -> None:
    from loop4.graphs.legs import Worker
    from loop4.on_duty import Post, stay_on_duty
    from loop4.policies.clients import FILE, Clients
    from loop4.policies.fleet_schedule import load_fleet_schedule
    from loop4.service import SWEEPS, engine_url

    operations = operations_of(settings)
    schedule = load_fleet_schedule(operations, sweeping=tuple(SWEEPS))
    Clients.load(operations / "policies" / FILE)  # a mistake is told now, not at each request
    signing = signing_of(settings)
    worker = Worker(WORKER, schedule.lease_s * 1000)
    async with session_for(settings, worker=worker) as session:
        post = Post(
            WORKER,
            settings.data,
            operations,
            engine_url(settings.data),
            settings.heartbeat_url,
            listening,
            signing=signing,
        )
        await stay_on_duty(
            post, session, schedule, ready=lambda: _say_ready(listening, signing, as_json=as_json)
        )


def _say_ready(listening: socket.socket, signing: Signing | None, *, as_json: bool) -> None:
    host, port = listening.getsockname()[:2]
    url = f"http://{host}:{port}"
    if as_json:
        print(json.dumps({"url": url}), flush=True)
        return
    print(f"the fleet is on duty; alerts, votes and metrics at {url}", flush=True)
    print(signing_told(signing), flush=True)
    print("SIGTERM or Ctrl-C drains and ends it", flush=True)
