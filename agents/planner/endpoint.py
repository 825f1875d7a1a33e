"""Any OpenAI-compatible endpoint as a stream of text and calls, or one plain error. The only
importer of langchain-openai and openai.

Retries are the SDK's alone (`max_retries`, Retry-After included). The key is in no message: what a
server says about it is not repeated.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loop4.domain import Json
from loop4.errors import ModelError, SettingsError
from loop4.settings import Secret

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_openai import ChatOpenAI

OPENAI = "https://api.openai.com/v1"
MOST_CHARACTERS = 40_000  # of one answer; a model that never stops is cut here


class ToolMode(StrEnum):
    """How the model is asked for calls. `auto` tries; `off` asks no model."""

    AUTO = "auto"
    NATIVE = "native"
    SCHEMA = "schema"
    OBJECT = "object"
    PARSE = "parse"
    OFF = "off"


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
class ModelSettings:
    """One endpoint. The key prints as ***. `timeout_s` bounds the wait for the next piece, twice it
    for the whole answer is the caller's budget.
    """

    model: str
    base_url: str = OPENAI
    api_key: Secret = field(default_factory=Secret)
    tool_mode: ToolMode = ToolMode.AUTO
    timeout_s: float = 30.0
    max_retries: int = 2
    answer_tokens: int = 900

    @property
    def place(self) -> str:
        """The base URL without user, password and query."""
        return place_of(self.base_url)


def place_of(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def model_settings(
    environ: Mapping[str, str] | None = None, *, model: str = "", tool_mode: str = ""
) -> ModelSettings | None:
    """The endpoint that the environment names, or None when no model is configured or it is off.

    `model` and `tool_mode` (from the settings file) count where LOOP4_MODEL and LOOP4_TOOL_MODE are
    not set. Raises SettingsError with one line for what cannot be used.
    """
    environ = os.environ if environ is None else environ
    name = (environ.get("LOOP4_MODEL", "") or model).strip()
    mode_text = (environ.get("LOOP4_TOOL_MODE", "") or tool_mode or "auto").strip().lower()
    try:
        mode = ToolMode(mode_text)
    except ValueError:
        known = ", ".join(m.value for m in ToolMode)
        raise SettingsError(f"LOOP4_TOOL_MODE: expected one of {known}, found {mode_text!r}") from None
    if not name or mode is ToolMode.OFF:
        return None
    url = environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
    key = Secret(environ.get("OPENAI_API_KEY", "").strip())
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError(
            "OPENAI_BASE_URL: expected a URL like 'http://127.0.0.1:8080/v1', "
            f"found {url.rsplit('@', 1)[-1]!r}"
        )
    if not key and url == OPENAI:
        raise SettingsError(
            f"LOOP4_MODEL is {name!r} but OPENAI_API_KEY is not set; set it, or name another "
            "endpoint with OPENAI_BASE_URL"
        )
    return ModelSettings(name, url, key, mode)


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
        parts = [m.text + json.dumps([[c.name, c.arguments] for c in m.calls]) for m in self.messages]
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
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer: text, or at the end the whole answer."""

    text: str = ""
    answer: Answer | None = None


class Endpoint:
    """One endpoint. The client is made at the first request; `close` is not needed."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self._model: ChatOpenAI | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.settings.model!r} at {self.settings.place!r})"

    async def ask(self, request: Request) -> Answer:
        """The whole answer of one turn. Raises EndpointError."""
        async for piece in self.stream(request):
            if piece.answer is not None:
                return piece.answer
        raise EndpointError(Trouble.CUT, f"{self._name()} ended its answer before it began")

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        """The answer in pieces, the last one whole. Raises EndpointError, also in the middle."""
        with self._plainly(), _not_traced():
            gathered: AIMessageChunk | None = None
            length = 0
            chunks = self._chunks(request)
            while True:
                async with asyncio.timeout(self.settings.timeout_s * (1 + self._tries(gathered))):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                gathered = chunk if gathered is None else gathered + chunk  # type: ignore[assignment]  # a sum of chunks is a chunk
                text = _text(chunk)
                length += len(text) + sum(len(c.get("args") or "") for c in chunk.tool_call_chunks)
                if length > MOST_CHARACTERS:
                    await chunks.aclose()  # type: ignore[attr-defined]  # an async generator
                    raise EndpointError(
                        Trouble.TOO_LONG,
                        f"{self._name()} does not stop: more than {MOST_CHARACTERS} characters",
                    )
                if text:
                    yield Piece(text)
            yield Piece(answer=self._whole(gathered))

    def _tries(self, gathered: AIMessageChunk | None) -> int:
        """Before the first piece the SDK may have to try again; then the wait is for one piece."""
        return self.settings.max_retries if gathered is None else 0

    def _chunks(self, request: Request) -> AsyncIterator[AIMessageChunk]:
        more: dict[str, object] = {}
        if request.tools:
            more["tools"] = [dict(t) for t in request.tools]
        if request.response_format is not None:
            # by extra_body: the SDK's own parsing of structured streams raises on what we judge
            more["extra_body"] = {"response_format": request.response_format}
        if request.answer_tokens:
            more["max_tokens"] = request.answer_tokens
        messages = [_message(m) for m in request.messages]
        return self._client().astream(messages, **more)  # type: ignore[return-value]  # a chat model streams AIMessageChunk

    def _client(self) -> ChatOpenAI:
        if self._model is None:
            from langchain_openai import ChatOpenAI
            from pydantic import SecretStr

            s = self.settings
            self._model = ChatOpenAI(
                model=s.model,
                base_url=s.base_url,
                api_key=SecretStr(s.api_key.reveal() or "none"),
                timeout=s.timeout_s,
                max_retries=s.max_retries,
                stream_usage=True,
                use_responses_api=False,
                temperature=0,
                max_completion_tokens=s.answer_tokens,
                stream_chunk_timeout=None,  # ours is round every piece, and logs nothing
            )
        return self._model

    def _whole(self, gathered: AIMessageChunk | None) -> Answer:
        if gathered is None:
            raise EndpointError(Trouble.CUT, f"{self._name()} ended its answer before it began")
        finish = str(gathered.response_metadata.get("finish_reason") or "")
        if not finish:
            raise EndpointError(Trouble.CUT, f"the answer of {self._name()} was cut in the middle")
        usage = gathered.usage_metadata
        reported = None
        if usage is not None:
            reported = (max(0, usage["input_tokens"]), max(0, usage["output_tokens"]))
        calls = [
            Call(str(c.get("name") or ""), _arguments(c.get("args")), str(c.get("id") or ""))
            for c in gathered.tool_call_chunks
        ]
        refusal = str(gathered.additional_kwargs.get("refusal") or "")
        return Answer(_text(gathered), tuple(calls), reported, finish, refusal)

    def _name(self) -> str:
        return f"the model endpoint {self.settings.place}"

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Everything that openai, langchain and the wire raise, as one EndpointError without their
        text.
        """
        import httpx2
        import openai

        name = self._name()
        try:
            yield
        except EndpointError:
            raise
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException):
            raise EndpointError(
                Trouble.TIMEOUT,
                f"{name} said nothing for {self.settings.timeout_s:g} s; is it overloaded?",
            ) from None
        except openai.APIStatusError as error:
            raise self._status(error.status_code) from None
        except openai.APIConnectionError:
            raise EndpointError(
                Trouble.UNREACHABLE, f"{name} cannot be reached; is it running?"
            ) from None
        except httpx2.TransportError:
            raise EndpointError(Trouble.CUT, f"the answer of {name} was cut in the middle") from None
        except openai.APIError:
            raise EndpointError(Trouble.SERVER_ERROR, f"{name} reported an error in its answer") from None
        except (openai.OpenAIError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise EndpointError(
                Trouble.GARBAGE, f"{name} answered what is no chat completion ({type(error).__name__})"
            ) from None

    def _status(self, status: int) -> EndpointError:
        name = self._name()
        if status in (401, 403):
            return EndpointError(
                Trouble.WRONG_KEY, f"{name} does not accept the key ({status}); see OPENAI_API_KEY"
            )
        if status == 429:
            return EndpointError(
                Trouble.RATE_LIMITED,
                f"{name} limits the rate (429), also after {self.settings.max_retries} retries",
            )
        if status >= 500:
            return EndpointError(
                Trouble.SERVER_ERROR,
                f"{name} failed ({status}), also after {self.settings.max_retries} retries",
            )
        return EndpointError(
            Trouble.REJECTED,
            f"{name} rejected the request ({status}); does it know the model "
            f"{self.settings.model!r}?",
        )


def with_mode(settings: ModelSettings, mode: ToolMode) -> ModelSettings:
    """The same endpoint, asked in another way."""
    return replace(settings, tool_mode=mode)


@contextmanager
def _not_traced() -> Iterator[None]:
    """No tracing service of others sees prompts, whatever the environment says."""
    from langsmith import tracing_context

    with tracing_context(enabled=False):
        yield


def _message(message: Message) -> BaseMessage:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    match message.role:
        case "system":
            return SystemMessage(message.text)
        case "assistant":
            calls = [
                {"name": c.name, "args": c.arguments, "id": c.call_id, "type": "tool_call"}
                for c in message.calls
            ]
            return AIMessage(content=message.text, tool_calls=calls)
        case "tool":
            return ToolMessage(message.text, tool_call_id=message.call_id)
        case _:
            return HumanMessage(message.text)


def _text(chunk: AIMessageChunk) -> str:
    content = chunk.content
    return content if isinstance(content, str) else ""


def _arguments(raw: str | None) -> Json:
    """The arguments of a native call; what is no JSON stays the text that it is."""
    if not raw:
        return {}
    try:
        value: Json = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    return value
