"""Reading a request's body: up to a limit, within a time, and strictly."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

from loop4.errors import InputError
from loop4.ledger.jsontext import parse_strictly

READ_WITHIN_S = 5.0
VOTE_BYTES = 4096
EXAMPLE = '{"decision": "approve"}'
JSON_TYPE = "application/json"


class VoteBody(BaseModel):
    """The only valid vote. Who votes is not in it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision: Literal["approve", "reject"]


async def read_body(request: Request, *, at_most: int) -> bytes:
    """The body. Refuses with 415 what is declared to be no JSON, with 413 what is larger, before
    holding more than that, with 408 what does not arrive in time and with 400 what ends too early.
    """
    _check_type(request.headers.get("content-type", ""))
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > at_most:
        raise HTTPException(413, f"the body holds {declared} bytes, expected at most {at_most}")
    parts: list[bytes] = []
    held = 0
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            async for part in request.stream():
                held += len(part)
                if held > at_most:
                    raise HTTPException(
                        413, f"the body holds more than {at_most} bytes, expected fewer"
                    )
                parts.append(part)
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {READ_WITHIN_S:g} s") from error
    except ClientDisconnect as error:  # nobody hears it; what has come so far is not used
        raise HTTPException(400, "the body ended before it was whole") from error
    return b"".join(parts)


async def read_vote(request: Request) -> bool:
    """True for approve, False for reject; everything else is refused with 422."""
    body = await read_body(request, at_most=VOTE_BYTES)
    try:
        content = parse_strictly(body, "the body")
        return VoteBody.model_validate(content).decision == "approve"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise HTTPException(
            422,
            f"{place}: {first['msg']}; expected exactly "
            '{"decision": "approve"} or {"decision": "reject"}',
        ) from error
    except InputError as error:
        raise HTTPException(422, f"{error}; expected {EXAMPLE}") from error


def _check_type(declared: str) -> None:
    """What is sent without a type is read as JSON; what says that it is something else is not."""
    kind = declared.partition(";")[0].strip().lower()
    if kind not in ("", JSON_TYPE):
        raise HTTPException(
            415, f"the body is declared as {kind[:80]!r}, expected content-type: {JSON_TYPE}"
        )
