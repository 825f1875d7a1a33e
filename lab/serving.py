"""Serving HTTP on sockets that the parent bound, and checking tokens."""

from __future__ import annotations

import asyncio
import hmac
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from types import FrameType
from typing import TypeAlias

import uvicorn

Message: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[MutableMapping[str, object], Receive, Send], Awaitable[None]]

KEEP_ALIVE_S = 60


def holds(header: str, *tokens: str) -> bool:
    """Whether an Authorization header carries one of `tokens`, in constant time for each."""
    return any([hmac.compare_digest(header.encode(), f"Bearer {t}".encode()) for t in tokens])


async def serve(
    app: AsgiApp, sockets: list[socket.socket], *background: Coroutine[None, None, None]
) -> None:
    """Serve `app` on bound sockets until SIGTERM or SIGINT; `background` runs beside it.

    A background coroutine that fails ends the process: a half-dead part of the lab would look like
    an incident.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has shut down; our caller still has work to do
        signal.signal(number, _already_handled)
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in background]
        await server.serve(sockets=sockets)
        for task in tasks:
            task.cancel()


def _already_handled(number: int, frame: FrameType | None) -> None:
    """Nothing is left to do for this signal."""
