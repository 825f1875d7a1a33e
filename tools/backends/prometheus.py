"""A Prometheus server (or anything that speaks its query API) as `Metrics`, read only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import TracebackType

import httpx
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from loop4.domain import Json
from loop4.errors import BackendError, QueryError, Refused, SettingsError, Unreachable
from loop4.tools.backends.ports import Series
from loop4.tools.backends.prometheus_json import parse_answer

DEADLINE_S = 8.0  # all attempts of one query together
CONNECT_S = 3.0
LARGEST_BYTES = 8 * 1024 * 1024
_LONGEST_URL = 2000  # a longer query goes into the body of a POST


class _TryAgain(Exception):
    """The server did not take the query now; a read may be repeated. The message says why."""


class PrometheusMetrics:
    """The `Metrics` port over HTTP. Close it, or use it as an asynchronous context manager.

    While nobody listens there a query is tried once: an incident reads dozens, and must not wait
    for the deadline of each before a person is told.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        deadline_s: float = DEADLINE_S,
        largest_bytes: int = LARGEST_BYTES,
    ) -> None:
        """`url` is the base, as http://127.0.0.1:9090; `token` is sent as a bearer token.

        Raises SettingsError for a URL that is not http or https. Proxies and credentials of the
        environment are not used.
        """
        self.url, parsed = _checked(url)
        self._deadline_s, self._largest_bytes = deadline_s, largest_bytes
        self._is_connectable, self._is_down = True, False
        self._client = httpx.AsyncClient(
            base_url=parsed,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(deadline_s, connect=min(CONNECT_S, deadline_s)),
            follow_redirects=False,
            trust_env=False,
            verify=parsed.scheme == "https",  # without TLS, loading certificates is lost time
        )

    async def __aenter__(self) -> PrometheusMetrics:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        """Instant query. Raises QueryError, Unreachable, Refused or BackendError."""
        return await self._ask("query", {"query": expression, "time": _seconds(at_ms)})

    async def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> Sequence[Series]:
        """Range query, both ends included. Raises as `query`."""
        return await self._ask(
            "query_range",
            {
                "query": expression,
                "start": _seconds(start_ms),
                "end": _seconds(end_ms),
                "step": _seconds(step_ms),
            },
        )

    async def _ask(self, path: str, parameters: Mapping[str, str]) -> Sequence[Series]:
        last = f"no answer within {self._deadline_s:g} s"
        try:
            async with asyncio.timeout(self._deadline_s):
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception_type(_TryAgain),
                    wait=wait_random_exponential(multiplier=0.1, max=1.0),
                    stop=stop_after_attempt(1)
                    if self._is_down
                    else stop_after_delay(self._deadline_s),
                    reraise=True,
                ):
                    with attempt:
                        try:
                            return await self._once(path, parameters)
                        except _TryAgain as error:
                            last = str(error)
                            raise
        except (TimeoutError, _TryAgain) as error:
            self._is_down = not self._is_connectable
            raise Unreachable(f"metrics at {self.url}: {last}") from error
        raise AssertionError("unreachable: every attempt returns or raises")

    async def _once(self, path: str, parameters: Mapping[str, str]) -> Sequence[Series]:
        is_long = len(parameters["query"]) > _LONGEST_URL
        try:
            async with self._client.stream(
                "POST" if is_long else "GET",
                f"api/v1/{path}",
                params=None if is_long else parameters,
                data=parameters if is_long else None,
            ) as response:
                self._is_connectable, self._is_down = True, False
                body = await self._read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._is_connectable = False
            raise _TryAgain(_why(error)) from error
        except httpx.TransportError as error:
            self._is_connectable = True
            raise _TryAgain(_why(error)) from error
        except httpx.DecodingError as error:
            raise BackendError(f"metrics at {self.url}: the answer cannot be unpacked") from error
        return self._answer(response.status_code, body, parameters["query"])

    async def _read(self, response: httpx.Response) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._largest_bytes:
                raise BackendError(
                    f"metrics at {self.url}: the answer is larger than {self._largest_bytes}"
                    " bytes; select fewer series or a shorter range"
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _answer(self, status: int, body: bytes, expression: str) -> Sequence[Series]:
        if status in (429, 502, 503, 504):
            raise _TryAgain(f"HTTP {status}")
        if status in (401, 403):
            raise Refused(f"metrics at {self.url}: HTTP {status}; check the bearer token")
        content = _json(body)
        is_api = isinstance(content, Mapping) and "status" in content
        if status not in (200, 400, 422) or not is_api:
            raise BackendError(
                f"metrics at {self.url}: HTTP {status} without a Prometheus API answer;"
                " expected the base address of a Prometheus server"
            )
        try:
            return parse_answer(content)
        except QueryError as error:
            raise QueryError(f"query {expression!r} at {self.url}: {error}") from error
        except BackendError as error:
            raise BackendError(f"metrics at {self.url}: {error}") from error


def _checked(url: str) -> tuple[str, httpx.URL]:
    """The URL without credentials, for messages, and the base for requests."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"metrics URL {url!r}: {error}") from error
    shown = str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"metrics URL {shown!r}: expected one such as http://127.0.0.1:9090")
    if parsed.query or parsed.fragment:
        raise SettingsError(f"metrics URL {shown!r}: expected a base address without ? and #")
    return shown.rstrip("/"), parsed


def _seconds(at_ms: int) -> str:
    return f"{at_ms // 1000}.{at_ms % 1000:03d}"


def _json(body: bytes) -> Json:
    try:
        content: Json = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content


def _why(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
