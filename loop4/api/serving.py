"""Serving the API on a loopback socket beside the fleet, until told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from loop4.errors import SettingsError

HOST = "127.0.0.1"
MOST_CONNECTIONS = 256
KEEP_ALIVE_S = 20
HEADERS_WITHIN_S = 10.0


def bound_socket(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises SettingsError if taken."""
    # asyncio switches Nagle's delay off (40 ms an answer) only where the protocol is named
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
        http=_Protocol,
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


class _Protocol(H11Protocol):
    """Also closes a connection whose headers do not arrive in time; else a few hundred silent ones
    would keep everybody else out.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Someone is there; the headers are awaited from now on."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """A part of a request: of its headers while none is being read or answered."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_headers()
        else:
            self._end_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._end_wait()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_WITHIN_S, self.transport.close)

    def _end_wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


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
