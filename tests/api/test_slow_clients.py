"""Clients over real sockets that send slowly, stop in the middle, or send no HTTP at all."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loop4.api import bodies, serving
from loop4.api.access import Access
from loop4.api.app import application
from loop4.api.serving import bound_socket, serve_until
from loop4.ledger import events
from tests.api.conftest import Door
from tests.api.test_front_door import EVENTS, webhook
from tests.graphs.conftest import run

GOOD = json.dumps(webhook()).encode()


@asynccontextmanager
async def served(door: Door) -> AsyncIterator[int]:
    """The port of the API over real sockets. A good request is accepted at the end."""
    async with door.opened():
        assert door.service is not None
        assert door.play is not None
        access = Access(door.stage.operations / "policies", door.stage.toy.clock)
        stop = asyncio.Event()
        with bound_socket(0) as listening:
            port = int(listening.getsockname()[1])
            app = application(door.service, access)
            serving_it = asyncio.create_task(serve_until(app, listening, stop))
            try:
                yield port
                with door.play.ledger.read() as tx:
                    assert events.unassigned(tx) == (), "nothing of the bad ones was kept"
                assert (await say(port, request(door.machine, GOOD))).startswith(b"HTTP/1.1 202 ")
            finally:
                stop.set()
                await serving_it


def request(token: str, body: bytes, *, length: int | None = None, more: str = "") -> bytes:
    head = (
        f"POST {EVENTS} HTTP/1.1\r\nhost: loop4\r\nauthorization: Bearer {token}\r\n"
        f"content-length: {len(body) if length is None else length}\r\n{more}\r\n"
    )
    return head.encode() + body


async def say(port: int, *parts: bytes, closes: bool = False) -> bytes:
    """Send the parts, half a second apart, and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.5)
            writer.write(part)
            await writer.drain()
        if closes:
            writer.close()
            return b""
        return await asyncio.wait_for(answer_of(reader), 15)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Up to the end of one answer, or of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    length = next(
        (
            int(v)
            for k, _, v in (n.partition(b":") for n in head.lower().split(b"\r\n"))
            if k == b"content-length"
        ),
        0,
    )
    return head + await reader.readexactly(length)


def test_a_body_that_trickles_is_refused_after_its_time(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ_WITHIN_S", 0.3)

    async def play() -> None:
        async with served(door) as port:
            parts = [request(door.machine, GOOD[:10], length=len(GOOD)), GOOD[10:20], GOOD[20:30]]
            answer = await say(port, *parts)
            assert answer.startswith(b"HTTP/1.1 408 "), answer
            assert b"did not arrive within" in answer

    run(play())


def test_silent_connections_are_closed_and_do_not_keep_others_out(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEADERS_WITHIN_S", 0.5)
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 8)

    async def play() -> None:
        async with served(door) as port:
            began = time.monotonic()
            heads = [b"", b"POST", b"POST / HTTP/1.1\r\nx: ", request("x", b"")[:-2]] * 4
            answers = await asyncio.gather(*(say(port, head) for head in heads))
            assert time.monotonic() - began < 10
            assert all(a == b"" or a.startswith(b"HTTP/1.1 503 ") for a in answers), answers
            kept = await asyncio.open_connection("127.0.0.1", port)
            kept[1].write(request("nobody", b"{}"))
            assert (await answer_of(kept[0])).startswith(b"HTTP/1.1 401 ")
            kept[1].write(b"POST / HTT")  # slow at the second request of a kept connection
            assert await asyncio.wait_for(kept[0].read(), 5) == b""
            kept[1].close()

    run(play())


def test_a_body_that_ends_early_is_no_event_and_no_traceback(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        async with served(door) as port:
            await say(port, request(door.machine, GOOD[:40], length=len(GOOD)), closes=True)
            chunked = request(door.machine, b"", more="transfer-encoding: chunked\r\n")
            chunked = chunked.replace(b"content-length: 0\r\n", b"")
            await say(port, chunked + b"5\r\n[[[[[\r\n", closes=True)
            await asyncio.sleep(0.2)

    run(play())
    assert [record.message for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /v1/events/alertmanager HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/events/alertmanager HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n"
        b"content-length: 2\r\n\r\n{}",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 100_000,
    ],
)
def test_what_is_no_http_is_refused_and_the_next_is_served(door: Door, sent: bytes) -> None:
    async def play() -> None:
        async with served(door) as port:
            answer = await say(port, sent)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer

    run(play())


def test_a_chunked_body_without_end_is_refused_at_the_limit(door: Door) -> None:
    async def play() -> None:
        async with served(door) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = request(door.machine, b"", more="transfer-encoding: chunked\r\n")
            writer.write(head.replace(b"content-length: 0\r\n", b""))
            chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            for _ in range(40):
                if reader.at_eof():
                    break
                writer.write(chunk)
                try:
                    await writer.drain()
                except ConnectionError:
                    break
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 413 ")
            writer.close()

    run(play())
