"""The heartbeat: a dead-man receiver pages when it stops, so that silence is noticed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from loop4.tools.backends.dead_man import send_beat

FILE = "heartbeat.json"


@dataclass(slots=True)
class Heartbeat:
    """Beats of one worker. `url` is empty if nobody listens; the file in the data folder says when
    the last one was, and whether the receiver took it.
    """

    data: Path
    worker: str
    url: str = ""
    last_ms: int = 0

    async def beat(self, now_ms: int) -> str:
        """Send one beat. Returns what came of it; a receiver that does not answer is no failure."""
        problem = await send_beat(self.url, self.worker, now_ms) if self.url else ""
        self.last_ms = now_ms
        body = {"worker": self.worker, "at_ms": now_ms, "sent": bool(self.url), "problem": problem}
        beside = self.data / f".{FILE}.part"
        try:
            beside.write_text(json.dumps(body) + "\n", encoding="utf-8")
            beside.replace(self.data / FILE)
        except OSError as error:
            problem = problem or f"{FILE} cannot be written: {error.strerror}"
        return problem or "beat"


def last_beat(data: Path) -> int:
    """When the worker of a data folder last beat, in ms; 0 if it never did."""
    try:
        body = json.loads((data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    at_ms = body.get("at_ms") if isinstance(body, dict) else None
    return at_ms if isinstance(at_ms, int) and not isinstance(at_ms, bool) else 0
