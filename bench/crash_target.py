"""The system that the crash matrix is played on: a process of its own with a log of its own.

    python bench/crash_target.py FOLDER [--slow-to apply|show]

It speaks the lab's HTTP API in real time, so workers reach it as `lab:FOLDER`; behind the API is
the small world of the graph tests: a minute of health is in its series when it comes up, and
`orders` has had a bad deploy for a while. Each effect is one synced line of `effects.jsonl`,
written before the answer. It outlives its callers.

Slow to apply: it works on the first call until it is called again, and the first call's effect then
comes before the second's. Slow to show: its inventory has no effect in it until a moment after it
refused a later call. Both for half a minute at most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from loop4.domain import Json  # noqa: E402
from loop4.errors import Conflict, QueryError  # noqa: E402
from loop4.lab.otlp import SEVERITY_NUMBERS, SPAN_KINDS, attributes  # noqa: E402
from loop4.lab.processes import HOST, follow_parent  # noqa: E402
from loop4.lab.serving import holds  # noqa: E402
from loop4.lab.wiring import CONNECTION_FILE, EFFECTS_LOG  # noqa: E402
from loop4.tools.backends.ports import LogRecord, Span, WriteResult  # noqa: E402
from loop4.tools.backends.prometheus_json import (  # noqa: E402
    error_json,
    instant_json,
    parse_step,
    parse_time,
    range_json,
)
from tests.graphs.toy import ToyClock, ToyWorld  # noqa: E402

WELL_S, ILL_S = 60, 15
TICK_S = 0.1
SLOW_S = 30.0
MOMENT_S = 1.0


@dataclass(slots=True)
class Shop:
    """The world, its own log, and who may read and act."""

    folder: Path
    slow_to: str
    read_token: str
    act_token: str
    toy: ToyWorld = field(default_factory=ToyWorld)
    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    called_again: threading.Event = field(default_factory=threading.Event)
    first_is_over: threading.Event = field(default_factory=threading.Event)
    hidden: dict[str, Json] = field(default_factory=dict)  # the inventory without the effect
    hidden_until: float = 0.0

    def open(self) -> None:
        """Let the past happen."""
        began_ms = time.time_ns() // 1_000_000 - (WELL_S + ILL_S) * 1000
        self.toy = ToyWorld(clock=ToyClock(began_ms))
        self.toy.run(WELL_S)
        self.toy.deploy()
        self.toy.run(ILL_S)

    def go_on(self) -> None:
        """Let the present happen, for ever."""
        while True:
            with self.lock:
                while self.toy.clock.at_ms + 1000 <= time.time_ns() // 1_000_000:
                    self.toy.run(1)
            time.sleep(TICK_S)

    def roll_back(self, service: str, body: dict[str, Json]) -> WriteResult:
        """Roll back in its turn, if the version is then the expected one."""
        with self.lock:
            self.calls += 1
            is_first = self.calls == 1
        if is_first and self.slow_to == "apply":
            self.called_again.wait(SLOW_S)
        elif not is_first:
            self.called_again.set()
            self.first_is_over.wait()
        try:
            return self._roll_back(service, body)
        except Conflict:
            self.hidden_until = min(self.hidden_until, time.monotonic() + MOMENT_S)
            raise
        finally:
            self.first_is_over.set()

    def _roll_back(self, service: str, body: dict[str, Json]) -> WriteResult:
        to_revision, mark = int(str(body["to_revision"])), str(body["mark"])
        with self.lock:
            before = asdict(asyncio.run(self.toy.inventory()))
            done = asyncio.run(
                self.toy.roll_back(service, to_revision, expected=str(body["expected"]), mark=mark)
            )
            line = {"at_ms": time.time_ns() // 1_000_000, "kind": "rollback", "mark": mark}
            with (self.folder / EFFECTS_LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps({**line, "service": service, "revision": to_revision}) + "\n")
                log.flush()
                os.fsync(log.fileno())
            if self.slow_to == "show":
                self.hidden, self.hidden_until = before, time.monotonic() + SLOW_S
        return done

    def read(self, path: str, given: dict[str, str]) -> Json:
        """What one of the reads answers. Raises KeyError for an unknown path."""
        toy = self.toy
        window = [int(given.get(name, 0)) for name in ("start_ms", "end_ms")]
        limit = int(given.get("limit", 1000))
        service = given.get("service", "")
        match path:
            case "/api/v1/query":
                at_ms = parse_time(given["time"])
                return dict(instant_json(given["query"], toy.store, at_ms))
            case "/api/v1/query_range":
                start_ms, end_ms = parse_time(given["start"]), parse_time(given["end"])
                step_ms = parse_step(given["step"])
                return dict(range_json(given["query"], toy.store, start_ms, end_ms, step_ms))
            case "/api/traces":
                spans = asyncio.run(toy.spans(window[0], window[1], limit=limit))
                return {"resourceSpans": [_span(s) for s in spans if service in ("", s.service)]}
            case "/api/logs":
                records = asyncio.run(toy.records(window[0], window[1], service=service))
                return {"resourceLogs": [_record(r) for r in records]}
            case "/api/changes":
                changes = asyncio.run(toy.between(window[0], window[1]))
                return {"changes": [asdict(c) for c in changes if service in ("", c.service)]}
            case "/api/inventory":
                if time.monotonic() < self.hidden_until:
                    return {**self.hidden, "at_ms": toy.clock.at_ms}
                return asdict(asyncio.run(toy.inventory()))
        raise KeyError(path)


def _resource(service: str, version: str, instance: str) -> Json:
    values = {
        "service.name": service,
        "service.version": version,
        "service.instance.id": instance,
    }
    return {"attributes": attributes(values)}


def _span(span: Span) -> Json:
    values: dict[str, str | int] = {"http.response.status_code": span.status}
    if span.peer:
        values["peer.service"] = span.peer
    body: Json = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "kind": SPAN_KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ms * 1_000_000),
        "endTimeUnixNano": str((span.start_ms + span.duration_ms) * 1_000_000),
        "attributes": attributes(values),
        "status": {"code": 2 if span.is_error else 0},
    }
    resource = _resource(span.service, span.version, span.instance)
    return {"resource": resource, "scopeSpans": [{"spans": [body]}]}


def _record(record: LogRecord) -> Json:
    body: Json = {
        "timeUnixNano": str(record.at_ms * 1_000_000),
        "severityNumber": SEVERITY_NUMBERS[record.severity],
        "body": {"stringValue": record.body},
    }
    resource = _resource(record.service, record.version, record.instance)
    return {"resource": resource, "scopeLogs": [{"logRecords": [body]}]}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    shop: Shop

    def do_GET(self) -> None:
        """A read."""
        if not self._is_held_by(self.shop.read_token):
            return
        path, _, query = self.path.partition("?")
        self._read(path, dict(parse_qsl(query)))

    def do_POST(self) -> None:
        """A long query, or a write."""
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length).decode()
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "v1"]:
            if self._is_held_by(self.shop.read_token):
                self._read("/" + "/".join(parts), dict(parse_qsl(body)))
            return
        if not self._is_held_by(self.shop.act_token):
            return
        if parts[:2] != ["api", "workloads"] or parts[3:] != ["roll-back"]:
            self._answer(422, {"detail": f"only a roll back is possible here, not {self.path}"})
            return
        try:
            self._answer(200, asdict(self.shop.roll_back(parts[2], json.loads(body))))
        except Conflict as error:
            self._answer(409, {"detail": str(error)})

    def _read(self, path: str, given: dict[str, str]) -> None:
        try:
            with self.shop.lock:
                answer = self.shop.read(path, given)
        except QueryError as error:
            self._answer(*error_json(error))
        except KeyError as error:
            self._answer(404, {"detail": f"there is no {error}"})
        else:
            self._answer(200, answer)

    def _is_held_by(self, token: str) -> bool:
        if holds(self.headers.get("authorization", ""), token):
            return True
        self._answer(401, {"detail": "a token is needed"})
        return False

    def _answer(self, status: int, body: Json | dict[str, Json]) -> None:
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the caller is dead

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the effects are the log."""


class Server(ThreadingHTTPServer):
    """Its callers die in the middle of a call."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say what went wrong, unless the caller is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


def main() -> None:
    """Serve until the parent is gone."""
    follow_parent()
    parser = argparse.ArgumentParser(description="the target of the crash matrix")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slow-to", choices=("apply", "show"), default="")
    given = parser.parse_args()
    tokens = {name: secrets.token_urlsafe(16) for name in ("read", "act")}
    shop = Shop(given.folder, given.slow_to, tokens["read"], tokens["act"])
    shop.open()
    handler = type("ShopHandler", (Handler,), {"shop": shop})
    with Server((HOST, 0), handler) as server:
        url = f"http://{HOST}:{server.server_port}"
        connection = {"environment": "lab", "edge_url": url, "control_url": url, "store_url": url}
        for name, token in tokens.items():
            connection[f"{name}_token_file"] = f"{name}.token"
            (given.folder / f"{name}.token").write_text(token, "utf-8")
        (given.folder / EFFECTS_LOG).touch()
        (given.folder / CONNECTION_FILE).write_text(json.dumps(connection), "utf-8")
        threading.Thread(target=shop.go_on, daemon=True).start()
        print(url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
