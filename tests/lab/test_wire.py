from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from loop4.lab.processes import HOST, bound_socket
from loop4.lab.wire import HttpClient, NoAnswer, NotDelivered, Reply


def ask(answers: list[bytes | None], times: int = 1, timeout_s: float = 2.0) -> Reply:
    """The last of `times` replies of a server that answers each request with the next bytes; None
    closes the connection without a word.
    """
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        current = asyncio.current_task()
        assert current is not None
        talks.append(current)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while answers and await reader.readuntil(b"\r\n\r\n"):
                answer = answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> Reply:
        server = await asyncio.start_server(talk, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpClient()
        try:
            for _ in range(times):
                reply = await client.request("GET", port, "/", timeout_s=timeout_s)
            return reply
        finally:
            client.forget(port)
            server.close()
            await asyncio.gather(*talks)

    return asyncio.run(run())


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


def test_a_whole_answer_comes_back() -> None:
    assert ask([OK]) == Reply(200, b"ok", "text/plain")


def test_a_refused_connection_was_surely_not_delivered() -> None:
    with bound_socket() as closed:
        port = closed.getsockname()[1]
        with pytest.raises(NotDelivered, match="refused"):
            asyncio.run(HttpClient().request("GET", port, "/"))


def test_a_fresh_connection_that_is_closed_may_have_been_served() -> None:
    with pytest.raises(NoAnswer):
        ask([None])


def test_a_kept_connection_that_was_closed_is_replaced_by_a_fresh_one() -> None:
    assert ask([OK, None, OK], times=2).body == b"ok"


def test_half_an_answer_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="broke"):
        ask([b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"])


def test_silence_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="within"):
        ask([b"", None], timeout_s=0.1)
