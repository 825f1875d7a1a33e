"""`loop4 worker --db URL`: one of many workers of the fleet, over one PostgreSQL database."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption
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

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def command(
    db: DbOption = None,
    worker_id: Annotated[
        str, typer.Option("--worker-id", metavar="NAME", help="Its name; default: the host's.")
    ] = "",
    data: DataOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    port: Annotated[
        int, typer.Option(min=-1, max=65535, help="Serve HTTP on 127.0.0.1; 0: a free port.")
    ] = -1,
    as_json: JsonOption = False,
) -> None:
    """Work beside others until SIGTERM; whoever dies, the others take over its runs."""
    from loop4.api.serving import bound_socket
    from loop4.settings import load_settings

    settings = settings_with(data, operations, rules, db or load_settings().db.reveal() or None)
    if not settings.db:
        raise UsageError(
            "no database is set; use --db postgresql+psycopg://... or set LOOP4_DB "
            "(`loop4 run` needs none)"
        )
    name = worker_id or socket.gethostname()
    if not _NAME.fullmatch(name):
        raise UsageError(f"--worker-id {name!r}: expected letters, digits, . _ - (at most 63)")
    with ExitStack() as stack:
        listening = stack.enter_context(bound_socket(port)) if port >= 0 else None
        asyncio.run(_work(settings, name, listening, as_json=as_json))


async def _work(
    settings: Settings, name: str, listening: socket.socket | None, *, as_json: bool
) -> None:
    from loop4.graphs.legs import Worker
    from loop4.on_duty import Post, stay_on_duty
    from loop4.policies.clients import FILE, Clients
    from loop4.policies.fleet_schedule import load_fleet_schedule
    from loop4.service import SWEEPS

    operations = operations_of(settings)
    schedule = load_fleet_schedule(operations, sweeping=tuple(SWEEPS))
    Clients.load(operations / "policies" / FILE)  # a mistake is told now, not at each request
    signing = signing_of(settings)
    async with session_for(settings, worker=Worker(name, schedule.lease_s * 1000)) as session:
        post = Post(
            name,
            settings.data,
            operations,
            settings.db.reveal(),
            settings.heartbeat_url,
            listening,
            is_shared=True,
            signing=signing,
        )

        def ready() -> None:
            _say_ready(name, listening, signing, as_json=as_json)

        await stay_on_duty(post, session, schedule, ready=ready)


def _say_ready(
    name: str, listening: socket.socket | None, signing: Signing | None, *, as_json: bool
) -> None:
    url = ""
    if listening is not None:
        host, port = listening.getsockname()[:2]
        url = f"http://{host}:{port}"
    if as_json:
        print(json.dumps({"worker": name, "url": url}), flush=True)
        return
    where = f"; alerts, votes and metrics at {url}" if url else ""
    print(f"worker {name} is on duty{where}", flush=True)
    print(signing_told(signing), flush=True)
