"""An OpenAI-compatible server of ours on loopback that says what a script tells it: the real wire,
no model.

A script gets each request's body and returns what to do with it. Streams are server-sent events
with usage on the last chunk, as the public API describes them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

Body = Mapping[str, Any]  # Any: a request of the public API, read by tests only
USAGE = (120, 20)


@dataclass(frozen=True)
class Say:
    """One answer. `calls` are (name, arguments) of native tool calls; arguments may be broken."""

    text: str = ""
    calls: tuple[tuple[str, object], ...] = ()
    usage: tuple[int, int] | None = USAGE
    finish: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None  # the raw body instead of a completion
    silent_s: float = 0.0  # says nothing for so long first
    cut_after: int | None = None  # closes the connection after so many chunks
    refusal: str = ""


Script = Callable[[Body], Say]


@dataclass
class Served:
    """A running server: where it is and what it was asked."""

    url: str
    seen: list[Body] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def said(self) -> str:
        """Everything that ever came in, as one text."""
        return json.dumps(self.seen, ensure_ascii=False)


class _Shared:
    """One server a process: starting one for every script would take most of the time."""

    def __init__(self) -> None:
        self.scripts: dict[str, tuple[Script, Served]] = {}
        self._port = 0
        self._numbers = itertools.count()

    def port(self) -> int:
        if not self._port:
            route = Route("/{name}/v1/chat/completions", self._completions, methods=["POST"])
            app = Starlette(routes=[route])
            config = uvicorn.Config(
                app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"
            )
            server = uvicorn.Server(config)
            threading.Thread(target=server.run, daemon=True).start()
            deadline = time.monotonic() + 10
            while not server.started:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.005)  # uvicorn has no event for it in a thread
            self._port = server.servers[0].sockets[0].getsockname()[1]
        return self._port

    def name(self) -> str:
        return f"s{next(self._numbers)}"

    async def _completions(self, request: Request) -> Response:
        script, served = self.scripts[request.path_params["name"]]
        body: Body = await request.json()
        served.seen.append(body)
        served.keys.append(request.headers.get("authorization", ""))
        say = script(body)
        if say.silent_s:
            await asyncio.sleep(say.silent_s)
        if say.body is not None:
            return PlainTextResponse(
                say.body, say.status, dict(say.headers), media_type="text/event-stream"
            )
        if say.status != 200:
            error = {"error": {"message": f"no: {request.headers.get('authorization')}"}}
            return JSONResponse(error, say.status, dict(say.headers))
        return StreamingResponse(_events(say), media_type="text/event-stream")


_shared = _Shared()


@contextmanager
def serve(script: Script) -> Iterator[Served]:
    """An endpoint as long as the block lasts."""
    name = _shared.name()
    served = Served(f"http://127.0.0.1:{_shared.port()}/{name}/v1")
    _shared.scripts[name] = (script, served)
    try:
        yield served
    finally:
        del _shared.scripts[name]


async def _events(say: Say) -> AsyncIterator[str]:
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": say.text[i : i + 40]} for i in range(0, len(say.text), 40)]
    if say.refusal:
        deltas.append({"refusal": say.refusal})
    for index, (name, arguments) in enumerate(say.calls):
        raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
        head = {"index": index, "id": f"call_{index}", "type": "function"}
        deltas.append({"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]})
        for start in range(0, len(raw), 60):
            part = {"index": index, "function": {"arguments": raw[start : start + 60]}}
            deltas.append({"tool_calls": [part]})
    finish = say.finish or ("tool_calls" if say.calls else "stop")
    for count, delta in enumerate(deltas):
        if say.cut_after is not None and count >= say.cut_after:
            return
        yield _event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if say.usage is not None:
        prompt, answer = say.usage
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": sum(say.usage),
        }
        yield _event({"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(body: Mapping[str, object]) -> str:
    whole = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        **body,
    }
    return f"data: {json.dumps(whole)}\n\n"


# what a script looks at


def tools_of(body: Body) -> list[str]:
    """Names of the tools offered, natively or in the schema."""
    if "tools" in body:
        return [str(t["function"]["name"]) for t in body["tools"]]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    branches = schema.get("properties", {}).get("call", {}).get("anyOf", [])
    return [str(b["properties"]["tool"]["enum"][0]) for b in branches]


def is_probe(body: Body) -> bool:
    """Whether this is the ladder finding its rung."""
    return "Call the tool ready" in str(body["messages"][-1]["content"])


def text_of(body: Body) -> str:
    """All text of a request's messages."""
    return "\n".join(str(m.get("content") or "") for m in body["messages"])


def natively(script: Script) -> Script:
    """A server with native tools: ready at once, then the script."""

    def answer(body: Body) -> Say:
        if is_probe(body):
            return Say(calls=(("ready", {"word": "ok"}),))
        return script(body)

    return answer


def in_turn(*answers: Say) -> Script:
    """These answers one after the other, the last one for ever."""
    left = list(answers)

    def answer(body: Body) -> Say:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def report_of(**fields: object) -> Say:
    """A native report."""
    return Say(calls=(("report", {"findings": [], **fields}),))
