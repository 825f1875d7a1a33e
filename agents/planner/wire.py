"""What goes to an endpoint and what comes back, in our own words; and what can go wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loop4.domain import Json
from loop4.errors import ModelError


class Trouble(StrEnum):
    """What went wrong with an endpoint."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    WRONG_KEY = "wrong_key"
    REJECTED = "rejected"  # it does not understand the request: another rung may work
    SERVER_ERROR = "server_error"
    CUT = "cut"
    GARBAGE = "garbage"
    TOO_LONG = "too_long"


class EndpointError(ModelError):
    """One clear line about the endpoint. `trouble` is its kind."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        self.trouble = trouble
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the model asks for. `arguments` is as it came: nothing is checked yet."""

    name: str
    arguments: Json
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `role`: system, user, assistant, tool (the answer to
    `call_id`).
    """

    role: str
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One turn: messages, and either native tools or a response format, or neither."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Json]] = ()
    response_format: Mapping[str, Json] | None = None
    answer_tokens: int = 0  # 0 = as the settings say

    def sent_text(self) -> str:
        """All text that goes out, for estimates."""
        parts = [
            m.text + json.dumps([[c.name, c.arguments] for c in m.calls]) for m in self.messages
        ]
        parts += [json.dumps(t) for t in self.tools]
        if self.response_format is not None:
            parts.append(json.dumps(self.response_format))
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `usage` is (prompt, answer) tokens as reported, None without a report."""

    text: str
    calls: tuple[Call, ...] = ()
    usage: tuple[int, int] | None = None
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer: text, or at the end the whole answer. `call_text` is a piece of
    a native call's arguments.
    """

    text: str = ""
    answer: Answer | None = None
    call_text: str = ""
