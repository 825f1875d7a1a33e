"""The lab as a system behind the ports: loopback HTTP, like any other system.

Reading and acting are separate identities: `LabSystem` holds the read token only, `LabWriter` the
act token only. Reads are tried again while nobody answers, within their deadline; writes never are.
Both belong to the event loop that made them and are asynchronous context managers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from loop4.domain import Json
from loop4.errors import BackendError, Conflict, InputError, Refused, Unreachable
from loop4.tools.backends.otlp_json import log_records, spans
from loop4.tools.backends.ports import (
    Change,
    Inventory,
    LogRecord,
    Series,
    Span,
    World,
    WriteResult,
)
from loop4.tools.backends.prometheus import PrometheusMetrics

CONNECTION_FILE = "lab.json"
READ_TIMEOUT_S = 3.0
READ_DEADLINE_S = 6.0
WRITE_TIMEOUT_S = 8.0

T = TypeVar("T")
_INVENTORY = TypeAdapter(Inventory)
_CHANGES = TypeAdapter(dict[str, list[Change]])
_RESULT = TypeAdapter(WriteResult)


@dataclass(frozen=True, slots=True)
class LabConnection:
    """Where a lab listens, from its `lab.json`. Tokens stay in their files until used."""

    folder: Path
    environment: str
    edge_url: str
    control_url: str
    store_url: str
    read_token_file: str
    act_token_file: str

    @staticmethod
    def read(path: Path) -> LabConnection:
        """The connection in `path` (lab.json, or the folder that holds it). Raises InputError."""
        file = path / CONNECTION_FILE if path.is_dir() else path
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"cannot read {str(file)!r}: {error.strerror}; is a lab running there?"
            ) from error
        except ValueError as error:
            raise InputError(f"{str(file)!r} is not JSON: {error}") from error
        fields = {name: "" for name in LabConnection.__slots__ if name != "folder"}
        for name in fields:
            value = document.get(name) if isinstance(document, dict) else None
            if not isinstance(value, str):
                raise InputError(f"{str(file)!r} has no text under {name!r}; expected a lab.json")
            fields[name] = value
        return LabConnection(folder=file.parent, **fields)

    def token(self, file: str) -> str:
        """The token in one of the two token files. Raises InputError."""
        try:
            return (self.folder / file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(f"cannot read the token file {file!r}: {error.strerror}") from error


class _Http:
    """One client; turns answers and failures into ours."""

    def __init__(self, url: str, token: str, timeout_s: float, deadline_s: float = 0.0) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_s,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def get(self, path: str, parameters: Mapping[str, str | int]) -> bytes:
        """A read: repeated while nobody answers."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unreachable),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            stop=stop_after_delay(self._deadline_s),
            reraise=True,
        )
        try:
            async with asyncio.timeout(self._deadline_s):
                return await retrying(self._once, "GET", path, parameters, None)
        except TimeoutError as error:
            raise Unreachable(
                f"{self._url}{path}: no answer within {self._deadline_s:g} s"
            ) from error

    async def post(self, path: str, body: Json) -> bytes:
        """A write: sent once."""
        return await self._once("POST", path, {}, body)

    async def _once(
        self, method: str, path: str, parameters: Mapping[str, str | int], body: Json
    ) -> bytes:
        try:
            response = await self._client.request(method, path, params=parameters, json=body)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self._url}{path}: {reason}") from error
        if response.status_code == 200:
            return response.content
        detail = f"{self._url}{path}: {_detail(response)} (HTTP {response.status_code})"
        if response.status_code == 409:
            raise Conflict(detail)
        if response.status_code >= 500:
            raise Unreachable(detail)
        raise Refused(detail)


class LabSystem:
    """Read handles on a lab: metrics, traces, logs, changes and the orchestrator's read side."""

    def __init__(self, connection: LabConnection, *, deadline_s: float = READ_DEADLINE_S) -> None:
        """`deadline_s` holds for one read with all its attempts."""
        token = connection.token(connection.read_token_file)
        self._control = _Http(connection.control_url, token, READ_TIMEOUT_S, deadline_s)
        self._store = _Http(connection.store_url, token, READ_TIMEOUT_S, deadline_s)
        self._metrics = PrometheusMetrics(connection.store_url, token=token, deadline_s=deadline_s)

    async def __aenter__(self) -> LabSystem:
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
        await self._control.aclose()
        await self._store.aclose()
        await self._metrics.aclose()

    @property
    def world(self) -> World:
        """All handles, each under its port."""
        return World(metrics=self._metrics, traces=self, logs=self, changes=self, workloads=self)

    async def query(self, expression: str, at_ms: int) -> Sequence[Series]:
        """Instant query at the store."""
        return await self._metrics.query(expression, at_ms)

    async def spans(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        errors_only: bool = False,
        limit: int = 1000,
    ) -> Sequence[Span]:
        """Spans that began in [start, end), newest first."""
        parameters: dict[str, str | int] = {
            "start_ms": start_ms,
            "end_ms": end_ms,
            "service": service,
            "errors_only": int(errors_only),
            "limit": limit,
        }
        return spans(await self._store.get("/api/traces", parameters))

    async def records(
        self,
        start_ms: int,
        end_ms: int,
        *,
        service: str = "",
        min_severity: str = "",
        limit: int = 500,
    ) -> Sequence[LogRecord]:
        """Records in [start, end), newest first."""
        parameters: dict[str, str | int] = {
            "start_ms": start_ms,
            "end_ms": end_ms,
            "service": service,
            "min_severity": min_severity,
            "limit": limit,
        }
        return log_records(await self._store.get("/api/logs", parameters))

    async def between(self, start_ms: int, end_ms: int, *, service: str = "") -> Sequence[Change]:
        """Changes in [start, end), oldest first."""
        parameters: dict[str, str | int] = {
            "start_ms": start_ms,
            "end_ms": end_ms,
            "service": service,
        }
        answer = await self._control.get("/api/changes", parameters)
        return tuple(_read(_CHANGES, answer)["changes"])

    async def inventory(self) -> Inventory:
        """What is desired and what runs now."""
        return _read(_INVENTORY, await self._control.get("/api/inventory", {}))


class LabWriter:
    """The orchestrator's write side, with the act token."""

    def __init__(self, connection: LabConnection) -> None:
        token = connection.token(connection.act_token_file)
        self._control = _Http(connection.control_url, token, WRITE_TIMEOUT_S)

    async def __aenter__(self) -> LabWriter:
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
        await self._control.aclose()

    async def roll_back(
        self, service: str, to_revision: int, *, expected: str, mark: str
    ) -> WriteResult:
        """Give all traffic to `to_revision` and retire the others."""
        body: Json = {"to_revision": to_revision, "expected": expected, "mark": mark}
        return await self._write(f"/api/workloads/{service}/roll-back", body)

    async def restart(
        self, instance: str, restarted_at_ms: int, *, expected: str, mark: str
    ) -> WriteResult:
        """Clean start of one replica, once for each `restarted_at_ms`."""
        body: Json = {"restarted_at_ms": restarted_at_ms, "expected": expected, "mark": mark}
        return await self._write(f"/api/instances/{instance}/restart", body)

    async def scale(self, service: str, replicas: int, *, expected: str, mark: str) -> WriteResult:
        """Set the replica count of the current revision."""
        body: Json = {"replicas": replicas, "expected": expected, "mark": mark}
        return await self._write(f"/api/workloads/{service}/scale", body)

    async def _write(self, path: str, body: Json) -> WriteResult:
        return _read(_RESULT, await self._control.post(path, body))


def _read(adapter: TypeAdapter[T], answer: bytes) -> T:
    try:
        return adapter.validate_json(answer)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BackendError(f"the lab's answer is wrong at {place!r}: {first['msg']}") from error


def _detail(response: httpx.Response) -> str:
    try:
        content = response.json()
    except ValueError:
        return response.text[:200]
    return str(content.get("detail", content))[:300] if isinstance(content, dict) else str(content)
