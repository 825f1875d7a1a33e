"""How to get calls out of an endpoint: native tools, a schema, a JSON object, or plain text with
JSON in it.

Which rung works is found once per endpoint by a call that costs a few tokens, then kept. Valid is
not right: whatever a rung yields is checked with the tool's own shape.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from loop4.agents.planner.endpoint import Endpoint
from loop4.agents.planner.settings import ToolMode
from loop4.agents.planner.shapes import (
    Tool,
    any_of,
    begins_whole,
    fault,
    first_object,
    object_of,
    one_of,
)
from loop4.agents.planner.wire import Answer, Call, EndpointError, Message, Request, Trouble
from loop4.domain import Json


class Rung(StrEnum):
    """The rungs, best first."""

    NATIVE = "native"
    SCHEMA = "schema"
    OBJECT = "object"
    PARSE = "parse"


PROBE = Tool("ready", "Say that you are ready.", object_of(word=one_of(["ok"])))
_PROBE_TEXT = (
    Message("system", "You answer with exactly one tool call and nothing else."),
    Message("user", 'Call the tool ready with the argument word set to "ok".'),
)
_NEXT = frozenset({Trouble.REJECTED, Trouble.SERVER_ERROR, Trouble.GARBAGE, Trouble.TOO_LONG})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an answer cannot be used, in words that the model gets for its one repair turn."""

    reason: str


class Ladder:
    """Finds the rung of one endpoint at the first need and keeps it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._found: Rung | None = None
        self._lock = asyncio.Lock()

    @property
    def found(self) -> Rung | None:
        """The rung, if one was found already."""
        return self._found

    async def rung(self, ask: Callable[[Request], Awaitable[Answer]] | None = None) -> Rung | None:
        """The best rung that works; None when none does (asked again next time).

        `ask` makes the probing turns where they are booked. Raises what it raises, and
        EndpointError when the endpoint does not answer at all.
        """
        async with self._lock:
            if self._found is None:
                self._found = await self._find(ask or self._endpoint.ask)
            return self._found

    async def _find(self, ask: Callable[[Request], Awaitable[Answer]]) -> Rung | None:
        mode = self._endpoint.settings.tool_mode
        if mode is not ToolMode.AUTO:
            return Rung(mode.value)
        for rung in Rung:
            try:
                probe = request(rung, _PROBE_TEXT, (PROBE,))
                answer = await ask(replace(probe, answer_tokens=60))
                if answer.finish == "length":  # it thinks first; that says nothing about calls
                    answer = await ask(probe)
            except EndpointError as error:
                if error.trouble not in _NEXT or rung is Rung.PARSE:
                    raise
                continue
            if rung is Rung.NATIVE and not answer.calls:
                continue
            calls = calls_of(answer, (PROBE,))
            if not isinstance(calls, Fault):
                return rung
        return None


def request(rung: Rung, messages: Sequence[Message], tools: Sequence[Tool]) -> Request:
    """The turn as this rung asks it. All but native say the form in words too."""
    match rung:
        case Rung.NATIVE:
            return Request(messages, [t.native() for t in tools])
        case Rung.SCHEMA:
            schema: dict[str, Json] = {
                "type": "json_schema",
                "json_schema": {"name": "call", "strict": True, "schema": any_of(tools)},
            }
            return Request(_told(messages, tools, brief=True), response_format=schema)
        case Rung.OBJECT:
            return Request(_told(messages, tools), response_format={"type": "json_object"})
        case Rung.PARSE:
            return Request(_told(messages, tools))


def _told(
    messages: Sequence[Message], tools: Sequence[Tool], *, brief: bool = False
) -> list[Message]:
    lines = [
        "Answer with one JSON object and nothing else: "
        '{"call": {"tool": NAME, "arguments": {...}}}. The tools:'
    ]
    for tool in tools:
        form = "" if brief else " arguments: " + json.dumps(tool.arguments, sort_keys=True)
        lines.append(f"- {tool.name}: {tool.purpose}{form}")
    first, *rest = messages
    return [Message("system", first.text + "\n\n" + "\n".join(lines)), *map(_plain, rest)]


def _plain(message: Message) -> Message:
    """Calls and their results as plain turns, for endpoints without native tools."""
    if message.role == "tool":
        return Message("user", message.text)
    if message.calls:
        call = message.calls[0]
        body = {"call": {"tool": call.name, "arguments": call.arguments}}
        return Message("assistant", json.dumps(body, sort_keys=True))
    return message


def calls_of(answer: Answer, tools: Sequence[Tool]) -> tuple[Call, ...] | Fault:
    """The calls of an answer, each known and well formed, or what is wrong.

    Native calls count first; else the first JSON object of the text. An answer that was cut at its
    length and cannot be used is told so, whatever its rest looks like: of native calls the last one
    may be cut anywhere, and of JSON only what begins with the first brace is the answer.
    """
    found = _found(answer, tools)
    if answer.finish != "length":
        return found
    if isinstance(found, Fault) or answer.calls or not begins_whole(answer.text):
        return Fault("the answer was too long and was cut; give a shorter one")
    return found


def _found(answer: Answer, tools: Sequence[Tool]) -> tuple[Call, ...] | Fault:
    if answer.calls:
        return _checked(answer.calls, tools)
    if answer.finish == "content_filter":
        return Fault("a filter of the endpoint stopped the answer")
    body = first_object(answer.text)
    if body is None:
        return Fault("there was no tool call in the answer" if answer.text else "it was empty")
    inner = body.get("call", body)
    call = inner if isinstance(inner, dict) else body
    name = call.get("tool", call.get("name"))
    arguments = call.get("arguments", call.get("parameters", {}))
    if not isinstance(name, str):
        return Fault("the JSON object names no tool")
    return _checked((Call(name, arguments),), tools)


def _checked(calls: Sequence[Call], tools: Sequence[Tool]) -> tuple[Call, ...] | Fault:
    known = {t.name: t for t in tools}
    for call in calls:
        tool = known.get(call.name)
        if tool is None:
            return Fault(
                f"there is no tool {call.name[:60]!r}; the tools are {', '.join(sorted(known))}"
            )
        problem = fault(tool.accepts or tool.arguments, call.arguments)
        if problem:
            return Fault(f"{call.name}: {problem}")
    return tuple(calls)
