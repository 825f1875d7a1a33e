"""What the lab's back end does when there is no lab, or one that answers strangely."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loop4.errors import BackendError, Conflict, InputError, Loop4Error, Refused, Unreachable
from loop4.tools.backends.lab import LabConnection, LabSystem, LabWriter

DOCUMENT = {
    "environment": "lab",
    "edge_url": "http://127.0.0.1:1",
    "control_url": "http://127.0.0.1:1",
    "store_url": "http://127.0.0.1:1",
    "read_token_file": "read.token",
    "act_token_file": "act.token",
}


def connection_in(folder: Path, url: str = "http://127.0.0.1:1") -> LabConnection:
    document = DOCUMENT | {"control_url": url, "store_url": url}
    (folder / "lab.json").write_text(json.dumps(document))
    (folder / "read.token").write_text("see")
    (folder / "act.token").write_text("touch")
    return LabConnection.read(folder)


@contextmanager
def answering(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer to everything, and what it was asked with which token."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers['authorization']}")
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *ignored: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def roll_back(connection: LabConnection) -> None:
    async def run() -> None:
        async with LabWriter(connection) as writer:
            await writer.roll_back("orders", 41, expected="7", mark="action-1")

    asyncio.run(run())


def inventory(connection: LabConnection) -> None:
    async def run() -> None:
        async with LabSystem(connection, deadline_s=0.5) as system:
            await system.inventory()

    asyncio.run(run())


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lab\.json.*is a lab running there"):
        LabConnection.read(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"environment": "lab"}', '{"edge_url": 4}'])
def test_a_file_that_is_no_lab_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(InputError, match=r"lab\.json"):
        LabConnection.read(tmp_path / "lab.json")


def test_a_missing_token_file_says_which(tmp_path: Path) -> None:
    connection = connection_in(tmp_path)
    (tmp_path / "act.token").unlink()
    with pytest.raises(InputError, match=r"act\.token"):
        LabWriter(connection)


def test_nobody_listening_is_unreachable_for_reads_and_writes(tmp_path: Path) -> None:
    connection = connection_in(tmp_path)
    with pytest.raises(Unreachable):
        inventory(connection)
    with pytest.raises(Unreachable):
        roll_back(connection)


@pytest.mark.parametrize(
    ("status", "error"),
    [(409, Conflict), (422, Refused), (401, Refused), (403, Refused), (503, Unreachable)],
)
def test_a_write_is_sent_once_whatever_the_answer(
    tmp_path: Path, status: int, error: type[Loop4Error]
) -> None:
    with answering(status, '{"detail": "because"}') as (url, asked):
        with pytest.raises(error, match="because"):
            roll_back(connection_in(tmp_path, url))
    assert asked == ["POST /api/workloads/orders/roll-back Bearer touch"]


def test_a_read_is_tried_again_while_the_lab_is_busy_and_uses_the_read_token(
    tmp_path: Path,
) -> None:
    with answering(503, "busy") as (url, asked):
        with pytest.raises(Unreachable):
            inventory(connection_in(tmp_path, url))
    assert len(asked) > 1
    assert set(asked) == {"GET /api/inventory Bearer see"}


@pytest.mark.parametrize("body", ["", "[]", '{"at_ms": "soon", "workloads": []}'])
def test_an_answer_of_another_shape_is_an_error_not_an_empty_inventory(
    tmp_path: Path, body: str
) -> None:
    with answering(200, body) as (url, _), pytest.raises(BackendError, match="answer is wrong"):
        inventory(connection_in(tmp_path, url))
