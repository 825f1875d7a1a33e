"""Any OpenAI-compatible endpoint as a stream of text and calls, or one plain error. The only
importer of langchain-openai and openai.

Retries are the SDK's alone (`max_retries`, Retry-After included). The key is in no message: what a
server says about it is not repeated.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from loop4.agents.planner.settings import ModelSettings, ToolMode, model_settings
from loop4.agents.planner.wire import (
    Answer,
    Call,
    EndpointError,
    Message,
    Piece,
    Request,
    Trouble,
)
from loop4.domain import Json

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_openai import ChatOpenAI

__all__ = [
    "Answer",
    "Call",
    "Endpoint",
    "EndpointError",
    "Message",
    "ModelSettings",
    "Piece",
    "Request",
    "ToolMode",
    "Trouble",
    "model_settings",
]

MOST_CHARACTERS = 40_000  # of one answer; a model that never stops is cut here


class Endpoint:
    """One endpoint. Each event loop has its client, made at its first request; `close` it there."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self._model: ChatOpenAI | None = None
        self._wire: AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.settings.model!r} at {self.settings.place!r})"

    async def ask(self, request: Request) -> Answer:
        """The whole answer of one turn. Raises EndpointError."""
        whole: Answer | None = None
        async for piece in self.stream(request):
            whole = piece.answer or whole
        if whole is None:
            raise EndpointError(Trouble.CUT, f"{self._name()} ended its answer before it began")
        return whole

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        """The answer in pieces, the last one whole. Raises EndpointError, also in the middle."""
        with self._plainly():
            gathered: AIMessageChunk | None = None
            length = 0
            async with aclosing(self._chunks(request)) as chunks:
                while (chunk := await self._next(chunks, gathered)) is not None:
                    gathered = chunk if gathered is None else _sum(gathered, chunk)
                    text = _text(chunk)
                    called = "".join(c["args"] or "" for c in chunk.tool_call_chunks)
                    length += len(text) + len(called)
                    if length > MOST_CHARACTERS:
                        raise EndpointError(
                            Trouble.TOO_LONG,
                            f"{self._name()} does not stop: more than {MOST_CHARACTERS} characters",
                        )
                    if text or called:
                        yield Piece(text, call_text=called)
            yield Piece(answer=self._whole(gathered))

    async def _next(
        self, chunks: AsyncIterator[AIMessageChunk], gathered: AIMessageChunk | None
    ) -> AIMessageChunk | None:
        """The next chunk, or None at the end. Before the first the SDK may have to try again."""
        tries = 1 + self.settings.max_retries if gathered is None else 1
        with _not_traced():
            async with asyncio.timeout(self.settings.timeout_s * tries):
                return await anext(chunks, None)

    async def _chunks(self, request: Request) -> AsyncGenerator[AIMessageChunk, None]:
        bound: dict[str, object] = {}
        if request.tools:
            bound["tools"] = [dict(t) for t in request.tools]
        if request.response_format is not None:
            # by extra_body: the SDK's own parsing of structured streams raises on what we judge
            bound["extra_body"] = {"response_format": request.response_format}
        if request.answer_tokens:
            bound["max_tokens"] = request.answer_tokens
        from langchain_core.messages import AIMessageChunk

        model = self._client().bind(**bound)
        async for chunk in model.astream([_message(m) for m in request.messages]):
            if isinstance(chunk, AIMessageChunk):  # a chat model streams nothing else
                yield chunk

    async def close(self) -> None:
        """Close the connections of this event loop; the next request opens new ones."""
        wire, self._wire, self._model = self._wire, None, None
        if wire is not None and self._loop is asyncio.get_running_loop():
            await wire.aclose()

    def _client(self) -> ChatOpenAI:
        loop = asyncio.get_running_loop()
        if self._model is None or self._loop is not loop:
            import httpx2
            from langchain_openai import ChatOpenAI
            from pydantic import SecretStr

            # it would print what a broken answer holds; the answer itself is judged by us
            warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
            s = self.settings
            self._loop = loop
            self._wire = httpx2.AsyncClient(timeout=s.timeout_s)
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
                http_async_client=self._wire,
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
        return Answer(_text(gathered), tuple(calls), reported, finish)

    def _name(self) -> str:
        return f"the model endpoint {self.settings.place}"

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Everything that openai, langchain and the wire raise, as one EndpointError without their
        text.
        """
        import httpx2
        import openai
        from langchain_core.exceptions import LangChainException

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
        except (httpx2.TransportError, httpx2.StreamError):
            raise EndpointError(
                Trouble.CUT, f"the answer of {name} was cut in the middle"
            ) from None
        except openai.APIError:
            raise EndpointError(
                Trouble.SERVER_ERROR, f"{name} reported an error in its answer"
            ) from None
        except (
            openai.OpenAIError,
            httpx2.HTTPError,
            LangChainException,
            ArithmeticError,
            AssertionError,
            AttributeError,
            EOFError,
            LookupError,
            OSError,
            RuntimeError,  # RecursionError among them: nesting without end
            TypeError,
            ValueError,
        ) as error:
            raise EndpointError(
                Trouble.GARBAGE,
                f"{name} answered what is no chat completion ({type(error).__name__})",
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


def _sum(gathered: AIMessageChunk, chunk: AIMessageChunk) -> AIMessageChunk:
    from langchain_core.messages import AIMessageChunk

    both = gathered + chunk
    if not isinstance(both, AIMessageChunk):
        raise TypeError("a sum of chunks is no chunk")
    return both


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
