"""HTTP between the lab's own processes: a small keep-alive client.

It knows three ends of a call that a proxy must tell apart: an answer, `NotDelivered` (the
peer surely did not handle the request: connection refused, or a kept connection that was closed
before it took the request) and `NoAnswer` (delivered, then silence or a broken connection).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from loop4.domain import Json
from loop4.errors import LabError

HOST = "127.0.0.1"


class NotDelivered(LabError):
    """Nobody listened; the request was surely not handled, so it may go to another instance."""


class NoAnswer(LabError):
    """The request may have been handled, but no whole answer came in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer. `body` is raw bytes."""

    status: int
    body: bytes
    content_type: str = ""

    def json(self) -> Json:
        """The body as JSON. Raises ValueError if it is none."""
        value: Json = json.loads(self.body)
        return value


_Connection: TypeAlias = "tuple[asyncio.StreamReader, asyncio.StreamWriter]"


class HttpClient:
    """Keep-alive connections to ports of this machine. Belongs to one event loop."""

    def __init__(self) -> None:
        self._idle: dict[int, list[_Connection]] = {}

    async def request(
        self,
        method: str,
        port: int,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 2.0,
    ) -> Reply:
        """The answer of 127.0.0.1:`port`. Raises NotDelivered or NoAnswer."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}:{port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method != "GET":
            lines.append(f"content-length: {len(body)}")
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(port, request)
        except TimeoutError as error:
            raise NoAnswer(f"port {port} gave no answer to {path} within {timeout_s} s") from error

    async def _exchange(self, port: int, request: bytes) -> Reply:
        while self._idle.get(port):
            connection = self._idle[port].pop()
            if connection[0].at_eof() or connection[1].is_closing():
                connection[1].close()
                continue
            try:
                return await self._talk(port, connection, request, kept=True)
            except NotDelivered:
                continue  # closed while idle; a fresh connection tells whether anybody listens
        try:
            fresh = await asyncio.open_connection(HOST, port)
        except OSError as error:
            raise NotDelivered(f"port {port} refused the connection") from error
        return await self._talk(port, fresh, request, kept=False)

    async def _talk(
        self, port: int, connection: _Connection, request: bytes, *, kept: bool
    ) -> Reply:
        reader, writer = connection
        reusable = False
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status, length, kind = _parse_head(head)
            reply = Reply(status, await reader.readexactly(length), kind)
            reusable = True
            return reply
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            unread = not (isinstance(error, asyncio.IncompleteReadError) and error.partial)
            if kept and unread:
                raise NotDelivered(f"port {port} closed a kept connection") from error
            raise NoAnswer(f"port {port} broke the connection") from error
        finally:
            if reusable:
                self._idle.setdefault(port, []).append(connection)
            else:
                writer.close()

    def forget(self, port: int) -> None:
        """Close the idle connections to a port that is gone."""
        for _, writer in self._idle.pop(port, []):
            writer.close()


def _parse_head(head: bytes) -> tuple[int, int, str]:
    """Status, body length and content type of a response head."""
    lines = head.split(b"\r\n")
    status = int(lines[0].split(b" ", 2)[1])
    length, kind = 0, ""
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        lowered = name.lower()
        if lowered == b"content-length":
            length = int(value)
        elif lowered == b"content-type":
            kind = value.strip().decode("latin-1")
    return status, length, kind


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {token}"}
