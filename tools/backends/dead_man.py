"""A dead-man receiver over HTTP: it pages when beats stop coming."""

from __future__ import annotations

import httpx

TIMEOUT_S = 5.0


async def send_beat(url: str, worker: str, now_ms: int) -> str:
    """POST one beat as JSON. Returns what went wrong, or empty. Nothing is retried: the next beat
    is soon.
    """
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            answer = await client.post(url, json={"worker": worker, "at_ms": now_ms})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"the dead-man receiver did not answer: {type(error).__name__}"
    if answer.is_success:
        return ""
    return f"the dead-man receiver answered {answer.status_code}"
