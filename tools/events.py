"""Events from files: our own normalised JSON form, strictly read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, NoReturn, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from loop4.domain import Event, EventKind, Json, JsonObject
from loop4.errors import InputError

MAX_BYTES = 1 << 20
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"
_LARGEST = 2**53 - 1  # what every JSON reader holds exactly, and a digest covers


def _whole(text: str) -> str:
    """The text, if it can be written down again: JSON can escape half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character at {error.start + 1}") from error
    return text


_Text = Annotated[str, AfterValidator(_whole)]
_Whole = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tool: str = Field(pattern=_NAME)
    target: str = Field(pattern=_NAME)
    arguments: dict[_Text, _Text | _Whole | bool]


class _EventFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    event_id: str = Field(pattern=_NAME)
    kind: str
    service: str = Field(pattern=_NAME)
    environment: str = Field(pattern=_NAME)
    at_ms: int = Field(ge=0, le=_LARGEST)
    source: str = Field(default="file", pattern=_NAME)
    resolved: bool = False
    labels: dict[_Text, _Text] = Field(default_factory=dict)
    text: _Text = ""
    request: _Request | None = None


def read_event(text: str, *, path: str) -> Event:
    """One event from its JSON text.

    Raises InputError with the file, the field, what was found and what was expected. The requester
    of a request is never read from the file: it comes from the authenticated person.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise InputError(f"{path}: over {MAX_BYTES} bytes; an event is a small JSON object")
    try:
        body: Json = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected one event object") from error
    try:
        read = _EventFile.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "the document"
        raise InputError(f"{path}: {place}: {first['msg']}") from error
    if read.kind not in {k.value for k in EventKind}:
        known = ", ".join(k.value for k in EventKind)
        raise InputError(f"{path}: kind: unknown kind {read.kind!r}; expected one of {known}")
    kind = EventKind(read.kind)
    if (kind is EventKind.REQUEST) != (read.request is not None):
        raise InputError(f"{path}: request: expected exactly for kind 'request'")
    prefix = "request/" if kind is EventKind.REQUEST else ""
    suffix = f"/{read.event_id}" if kind is EventKind.REQUEST else ""
    return Event(
        event_id=read.event_id,
        kind=kind,
        source=read.source,
        service=read.service,
        environment=read.environment,
        at_ms=read.at_ms,
        correlation=f"{prefix}{read.environment}/{read.service}{suffix}",
        resolved=read.resolved,
        labels=read.labels,
        text=read.text,
        request=cast("JsonObject", read.request.model_dump()) if read.request else None,
    )


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _once(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    """An object without a key twice: readers disagree on which of the two holds."""
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found
