"""What the commands over a data folder share: their options, its ledger, safe text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loop4.ledger.ledger import Ledger

DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder; default: settings.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_ledger(data: Path | None, *, read_only: bool = True) -> Ledger:
    """Open the ledger of a data folder, that of the settings if None. Never makes a new one."""
    from loop4.ledger.ledger import Ledger

    if data is None:
        from loop4.settings import load_settings

        data = load_settings().data
    return Ledger.open(data / "ledger.db", read_only=read_only, create=False)


def utc(at_ms: int) -> str:
    """Return a time as people write it, in UTC to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def plain(text: str) -> str:
    """Return one line without control characters: stored text may come from outside."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
