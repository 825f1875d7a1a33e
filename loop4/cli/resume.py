"""`loop4 resume`: reconcile and continue every open run, after a crash, a vote or a due wake-up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from loop4.cli.data_folder import DataOption, DbOption, JsonOption
from loop4.cli.fleet_options import (
    OperationsOption,
    RulesOption,
    session_for,
    settings_with,
    show,
)
from loop4.errors import UsageError

if TYPE_CHECKING:
    from loop4.settings import Settings

POLL_S = 0.5


def command(
    data: DataOption = None,
    db: DbOption = None,
    operations: OperationsOption = None,
    rules: RulesOption = None,
    wait_s: Annotated[
        int, typer.Option("--wait", min=0, help="Seconds to go on until nothing sleeps any more.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Continue what can go on; say what still waits, and for what."""
    settings = settings_with(data, operations, rules, db)
    if not settings.db and not (settings.data / "ledger.db").is_file():
        raise UsageError(
            f"data folder {str(settings.data)!r} holds no ledger, so nothing can go on; "
            "name the folder that `loop4 handle` was given"
        )
    moved, waiting = asyncio.run(_resume(settings, wait_s))
    lines = [f"continued {run}" for run in moved] or ["nothing could go on"]
    lines += [f"{w['run']} of {w['incident']} is {w['state']}" for w in waiting]
    show(
        {"continued": moved, "waiting": [dict(w) for w in waiting]},
        as_json=as_json,
        text="\n".join(lines),
    )


async def _resume(settings: Settings, wait_s: int) -> tuple[list[str], list[dict[str, str | int]]]:
    from loop4.ledger import runs

    moved: list[str] = []
    until = time.monotonic() + wait_s
    async with session_for(settings) as session:
        while True:
            moved += await session.runner.resume()
            with session.ledger.read() as tx:
                opened = runs.list_open(tx)
            sleeping = any(r.state is not runs.RunState.WAITING_APPROVAL for r in opened)
            if not sleeping or time.monotonic() >= until:
                break
            await asyncio.sleep(POLL_S)
    return moved, [
        {
            "run": r.run_id,
            "incident": r.incident_id,
            "state": r.state.value,
            "approval": r.approval_id,
            "wake_at_ms": r.wake_at_ms,
        }
        for r in opened
    ]
