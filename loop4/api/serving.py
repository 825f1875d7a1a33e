"""Serving the API on a loopback socket beside the fleet, until told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from loop4.errors import SettingsError

HOST = "127.0.0.1"
MOST_CONNECTIONS = 256
KEEP_ALIVE_S = 20


def bound_socket(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises SettingsError if taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen(MOST_CONNECTIONS)
    except OSError as error:
        found.close()
        raise SettingsError(
            f"port {port} on {HOST} cannot be used: {error.strerror}; name another with --port"
        ) from error
    return found


async def serve_until(app: FastAPI, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`; requests that run are answered first."""
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
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=32_768,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


class _Server(uvicorn.Server):
    """Leaves the signals to the command, which drains more than sockets."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set while the block runs."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
