"""The demo's question to the person at the terminal, asked without stopping the fleet."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from loop4.domain import Json
    from loop4.ledger.approvals import Request


def question(request: Request, person: str) -> Panel:
    """What exactly is to be approved, why the rules ask, and until when."""
    asked = cast("Sequence[Mapping[str, Json]]", request.payload["action_requests"])[0]
    extra = cast("Mapping[str, Json]", request.payload["loop4"])
    arguments = cast("Mapping[str, Json]", asked["args"])
    until = datetime.fromtimestamp(request.approval.expires_ms / 1000, UTC)
    rows = Table.grid(padding=(0, 2))
    for name, value in (
        ("act", f"{asked['name']} on {extra['target']}"),
        ("exactly", ", ".join(f"{k}={v}" for k, v in arguments.items())),
        ("because", str(asked["description"])),
        ("the rules ask", "; ".join(str(r) for r in cast("Sequence[Json]", extra["reasons"]))),
        ("bound to", f"{request.approval.action_digest[:16]}..., this act and no other"),
        ("expires", f"{until:%H:%M:%S} UTC, safely: without an answer nothing is done"),
    ):
        rows.add_row(Text(name, style="bold"), value)
    prompt = Text(f"You are {person} (on-call). Type y and Enter to approve, ", style="bold")
    prompt.append("anything else rejects.", style="bold")
    return Panel(Group(rows, Text(""), prompt), title="your decision", border_style="yellow")


class TerminalQuestion:
    """One open question. `answer` is None until a line was typed; the end of the input is a no."""

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.answer: str | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        self.answer = sys.stdin.readline().strip().lower()
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(sys.stdin.fileno())
